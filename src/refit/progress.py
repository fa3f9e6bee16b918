"""How far a run is, shown where it is watched: terminal, notebook, and lines in a log file."""

import sys
import time
from collections.abc import Sequence
from html import escape
from pathlib import Path
from types import TracebackType
from typing import Any

from tqdm import tqdm

from refit import storage
from refit.experiment import Trial

LOG = "progress.log"
# A log file is read afterwards; more lines would hide the trials that ended.
LOG_SECONDS = 30.0


class Progress:
    """A bar with trials done, the running trials' epochs and accuracies, and the time left.

    Use it as a context manager around a run of `total` trials, `done` of which were done before.
    """

    def __init__(self, total: int, done: int, folder: Path) -> None:
        self.total, self.done, self.before = total, done, done
        self.folder = folder
        self.failed = 0
        self._started = time.monotonic()
        self._last_log = 0.0

    def __enter__(self) -> "Progress":
        self.folder.mkdir(parents=True, exist_ok=True)
        self._log = (self.folder / LOG).open("a")
        self._display = _in_notebook() and _display("")
        self._bar = None
        if not self._display:
            shape = "{desc}{percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt} {postfix}"
            self._bar = tqdm(total=self.total, initial=self.done, bar_format=shape, file=sys.stderr)
        self._write(f"{self.total - self.done} of {self.total} trials to train in {self.folder}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        end = "finished" if kind is None else "interrupted; the next run goes on from here"
        self._write(f"{self._counts()}, {end}")
        if self._bar is not None:
            self._bar.set_postfix_str("")
            self._bar.close()
        elif self._display:
            self._display.update(_bar(self.done, self.total, f"{self._counts()}, {end}"))
        self._log.close()

    def finished(self, trial: Trial, failure: str) -> None:
        """Count a trial that has ended; `failure` is its kind, or empty if it has a result."""
        if failure:
            self.failed += 1
            self._write(f"{trial.directory.name}: failed ({failure})")
            return
        self.done += 1
        result = storage.read_json(self.folder / trial.directory / "result.json") or {}
        metrics = result.get("metrics", {})
        accuracy = metrics.get("val_accuracy", float("nan"))
        seconds = metrics.get("seconds", float("nan"))
        self._write(
            f"{trial.directory.name}: val accuracy {accuracy:.4f} after {seconds:.1f} s "
            f"({self._counts()})"
        )
        if self._bar is not None:
            self._bar.update()

    def show(self, running: Sequence[Trial]) -> None:
        """Show the state of the running trials and the time left."""
        states = [self._state(trial) for trial in running]
        text = "; ".join(text for text, _ in states)
        left = self._time_left(sum(fraction for _, fraction in states))
        line = f"{text} {left}".strip()
        if self._bar is not None:
            self._bar.set_postfix_str(line)
        elif self._display:
            self._display.update(_bar(self.done, self.total, f"{self._counts()} · {line}"))
        if time.monotonic() - self._last_log > LOG_SECONDS:
            self._write(f"{self._counts()}: {line}")

    def _counts(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.done} of {self.total} trials done{failed}"

    def _state(self, trial: Trial) -> tuple[str, float]:
        """A running trial in words, and the fraction of it that is done."""
        state: dict[str, Any] = (
            storage.read_json(self.folder / trial.directory / "progress.json") or {}
        )
        epoch = state.get("epoch", 0)
        accuracy = state.get("val_accuracy")
        known = f" {accuracy:.3f}" if accuracy is not None else ""
        return f"{trial.name} {epoch}/{trial.epochs}{known}", epoch / trial.epochs

    def _time_left(self, fractions: float) -> str:
        """Time left if the trials to come take as long as those so far; empty while unknown."""
        trained = self.done + self.failed - self.before + fractions
        if trained <= 0:
            return ""
        left = self.total - self.before - trained
        seconds = (time.monotonic() - self._started) / trained * max(left, 0)
        return f"about {_duration(seconds)} left"

    def _write(self, line: str) -> None:
        self._last_log = time.monotonic()
        self._log.write(f"{time.strftime('%H:%M:%S')} {line}\n")
        self._log.flush()


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _in_notebook() -> bool:
    return "ipykernel" in sys.modules and "IPython" in sys.modules


def _display(text: str) -> Any:
    from IPython.display import HTML, display

    return display(HTML(text), display_id=True)


def _bar(done: int, total: int, text: str) -> Any:
    from IPython.display import HTML

    return HTML(f'<progress value="{done}" max="{total}"></progress> {escape(text)}')
