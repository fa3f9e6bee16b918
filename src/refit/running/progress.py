"""How far a run is, shown where it is watched: terminal, notebook, and lines in a log file."""

import contextlib
import math
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from pydantic import BaseModel, NonNegativeInt
from tqdm import tqdm

from refit import files
from refit.experiments.trial import Trial
from refit.run_directory.directory import PROGRESS, RESULT, Result, TrialProgress

LOG = "progress.log"
# A log file is read afterwards; more lines would hide the trials that ended.
LOG_SECONDS = 30.0


class RunProgress(BaseModel):
    """How far a run is, for whoever follows it from another process."""

    total: NonNegativeInt
    done: NonNegativeInt
    text: str


class Progress:
    """A bar with trials done, the running trials' epochs and accuracies, and the time left.

    A full disk hides some of it and stops nothing: the trials that cannot be stored tell of it.

    Use it as a context manager around a run of `total` trials, of which those in `expected` are
    still to be trained; it maps them to the seconds that each will take, or to any numbers in
    that proportion.
    """

    def __init__(self, total: int, expected: Mapping[Trial, float], folder: Path) -> None:
        self.total, self.done = total, total - len(expected)
        self.failed = 0
        self.folder = folder
        # What interrupted trainings had done before does not count as done by this run.
        self._before = {trial: self._state(trial)[1] for trial in expected}
        self._work = {trial: work * (1 - self._before[trial]) for trial, work in expected.items()}
        self._expected = expected
        self._ended = 0.0
        self._started = time.monotonic()
        self._last_log = 0.0

    def __enter__(self) -> "Progress":
        self.folder.mkdir(parents=True, exist_ok=True)
        self._log = (self.folder / LOG).open("a", encoding="utf-8")
        self._display = _notebook_display()
        self._bar = None if self._display else terminal_bar(self.total, self.done)
        self._write(f"{self.total - self.done} of {self.total} trials to train in {self.folder}")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        end = "finished" if kind is None else "interrupted; the next run goes on from here"
        self._write(f"{self._counts()}, {end}")
        self._show(f"{self._counts()}, {end}", "")
        if self._bar is not None:
            self._bar.close()
        with contextlib.suppress(OSError):
            (self.folder / PROGRESS).unlink()
        with contextlib.suppress(OSError):
            self._log.close()

    def finished(self, trial: Trial, failure: str) -> None:
        """Count a trial that has ended; `failure` is its kind, or empty if it has a result."""
        self._ended += self._work[trial]
        if failure:
            self.failed += 1
            self._write(f"{trial.directory.name}: failed ({failure})")
            return
        self.done += 1
        result = files.read_model(self.folder / trial.directory / RESULT, Result)
        accuracy = result.metrics.val_accuracy if result else math.nan
        seconds = result.metrics.seconds if result else math.nan
        self._write(
            f"{trial.directory.name}: val accuracy {accuracy:.4f} after {seconds:.1f} s "
            f"({self._counts()})"
        )
        if self._bar is not None:
            self._bar.update()

    def show(self, running: Sequence[Trial]) -> None:
        """Show the state of the running trials and the time left."""
        states = {trial: self._state(trial) for trial in running}
        partly = sum(
            self._expected[trial] * max(fraction - self._before[trial], 0)
            for trial, (_, fraction) in states.items()
        )
        text = "; ".join(text for text, _ in states.values())
        line = f"{text} {self._time_left(partly)}".strip()
        self._show(f"{self._counts()} · {line}", line)
        state = RunProgress(total=self.total, done=self.done, text=line)
        with contextlib.suppress(OSError):
            files.write_json(self.folder / PROGRESS, state.model_dump())
        if time.monotonic() - self._last_log > LOG_SECONDS:
            self._write(f"{self._counts()}: {line}")

    def _show(self, in_notebook: str, beside_bar: str) -> None:
        if self._bar is not None:
            self._bar.set_postfix_str(beside_bar)
        elif self._display:
            self._display.update(_bar(self.done, self.total, in_notebook))

    def _counts(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.done} of {self.total} trials done{failed}"

    def _state(self, trial: Trial) -> tuple[str, float]:
        """A running trial in words, and the fraction of it that is done."""
        # The epochs of a search are those of all candidates.
        state = files.read_model(self.folder / trial.directory / PROGRESS, TrialProgress)
        state = state or TrialProgress(epochs=trial.epochs)
        known = f" {state.val_accuracy:.3f}" if state.val_accuracy is not None else ""
        return f"{trial.name} {state.epoch}/{state.epochs}{known}", state.epoch / state.epochs

    def _time_left(self, partly: float) -> str:
        """Time left if what is to come goes on at the pace so far; empty while unknown.

        `partly` is the expected time of what the running trials have done.
        """
        ended = self._ended + partly
        if ended <= 0:
            return ""
        left = max(sum(self._work.values()) - ended, 0)
        return f"about {_duration((time.monotonic() - self._started) / ended * left)} left"

    def _write(self, line: str) -> None:
        self._last_log = time.monotonic()
        with contextlib.suppress(OSError):
            self._log.write(f"{time.strftime('%H:%M:%S')} {line}\n")
            self._log.flush()


def terminal_bar(total: int, done: int) -> tqdm:
    """A bar on standard error, with room for what is running; not shown but in a terminal."""
    return tqdm(
        total=total,
        initial=done,
        bar_format="{desc}{percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt} {postfix}",
        file=sys.stderr,
        dynamic_ncols=True,
        disable=None,
    )


@contextlib.contextmanager
def follow(folder: Path) -> Iterator[None]:
    """Show in this terminal the progress of a run that another process makes in `folder`.

    A notebook's own output is captured. Where standard error is no terminal, the lines that the
    run adds to its log are printed.
    """
    with contextlib.suppress(OSError):
        (folder / PROGRESS).unlink()  # left by a run that was killed
    stop = threading.Event()
    show = _follow_bar if sys.stderr.isatty() else _follow_log
    thread = threading.Thread(target=show, args=(folder, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _follow_bar(folder: Path, stop: threading.Event) -> None:
    bar = None
    while not stop.wait(0.5):
        if state := files.read_model(folder / PROGRESS, RunProgress):
            bar = bar or terminal_bar(state.total, state.done)
            bar.n = state.done
            bar.set_postfix_str(state.text)
    if bar:
        # The last state is gone before it can be read; the log's last line tells how it ended.
        bar.set_postfix_str((folder / LOG).read_text("utf-8", "replace").splitlines()[-1])
        bar.close()


def _follow_log(folder: Path, stop: threading.Event) -> None:
    log = folder / LOG
    position = log.stat().st_size if log.exists() else 0
    last = False
    while not last:
        last = stop.wait(0.5)
        if log.exists():
            with log.open(encoding="utf-8", errors="replace") as file:
                file.seek(position)
                for line in file:
                    print(f"  {line.rstrip()}", flush=True)
                position = file.tell()


def _duration(seconds: float) -> str:
    for unit, size, most in (("s", 1, 90), ("min", 60, 5400)):
        if seconds < most:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 3600:.1f} h"


def _notebook_display() -> Any:
    """A place in the running notebook's output that can be written anew; None elsewhere."""
    if "ipykernel" not in sys.modules or "IPython" not in sys.modules:
        return None
    from IPython.display import HTML, display

    return display(HTML(""), display_id=True)


def _bar(done: int, total: int, text: str) -> Any:
    from IPython.display import HTML

    return HTML(f'<progress value="{done}" max="{total}"></progress> {escape(text)}')
