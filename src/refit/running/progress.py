"""How far a run is, shown where it is watched: terminal, notebook, and lines in a log file."""

import contextlib
import math
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, NonNegativeInt

# Not tqdm.auto: its widgets are dead on a page, and without ipywidgets it warns on every one.
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
    ended: bool = False


class Progress:
    """A bar with trials done, the running trials' epochs and accuracies, and the time left.

    A full disk hides some of it and stops nothing: the trials that cannot be stored tell of it.

    Use it as a context manager around a run of `total` trials, of which those in `expected` are
    still to be trained; it maps them to the seconds that each will take, or to any numbers in
    that proportion.
    """

    def __init__(self, total: int, expected: Mapping[Trial, float], folder: Path) -> None:
        self.total, self.done, self.failed = total, total - len(expected), 0
        self.folder = folder
        # What interrupted trainings had done before does not count as done by this run.
        self._before = {trial: self._state(trial)[1] for trial in expected}
        self._work = {trial: work * (1 - self._before[trial]) for trial, work in expected.items()}
        self.expected = expected
        self._ended = 0.0
        self._started = time.monotonic()

    def __enter__(self) -> "Progress":
        self.folder.mkdir(parents=True, exist_ok=True)
        self._log = (self.folder / LOG).open("a", encoding="utf-8")
        self._bar = _bar(self.total)
        self._write(f"{self.total - self.done} of {self.total} trials to train in {self.folder}")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        end = "finished" if kind is None else "interrupted; the next run goes on from here"
        self._write(f"{self._counts()}, {end}")
        self._show(f"{self._counts()}, {end}", ended=True)
        self._bar.close()
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

    def show(self, running: Sequence[Trial]) -> None:
        """Show the state of the running trials, and the time left at the pace so far."""
        states = {trial: self._state(trial) for trial in running}
        told = [state for state, _ in states.values()]
        ended = self._ended + sum(
            self.expected[trial] * max(fraction - self._before[trial], 0)
            for trial, (_, fraction) in states.items()
        )
        if ended > 0:
            pace = (time.monotonic() - self._started) / ended
            left = pace * max(sum(self._work.values()) - ended, 0)
            told.append(f"about {tqdm.format_interval(left)} left")
        text = "; ".join(told)
        self._show(text)
        if time.monotonic() - self._last_log > LOG_SECONDS:
            self._write(f"{self._counts()}: {text}")

    def _show(self, text: str, ended: bool = False) -> None:
        self._bar.n = self.done
        self._bar.set_postfix_str(text)
        state = RunProgress(total=self.total, done=self.done, text=text, ended=ended)
        with contextlib.suppress(OSError):
            files.write_json(self.folder / PROGRESS, state.model_dump())

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

    def _write(self, line: str) -> None:
        self._last_log = time.monotonic()
        with contextlib.suppress(OSError):
            self._log.write(f"{time.strftime('%H:%M:%S')} {line}\n")
            self._log.flush()


def _bar(total: int) -> tqdm:
    """A bar on standard error, where that is a terminal or a notebook."""
    form = "{desc}{percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt}{postfix}"
    hidden = None if "ipykernel" not in sys.modules else False  # None: but in a terminal
    return tqdm(total=total, bar_format=form, dynamic_ncols=True, disable=hidden)


@contextlib.contextmanager
def follow(folder: Path) -> Iterator[None]:
    """Show in this terminal the progress of a run that another process makes in `folder`.

    A notebook's own output is captured. Where standard error is no terminal, the lines that the
    run adds to its log are printed.
    """
    with contextlib.suppress(OSError):
        (folder / PROGRESS).unlink()  # of an earlier run
    stop = threading.Event()
    thread = threading.Thread(target=_follow, args=(folder, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _follow(folder: Path, stop: threading.Event) -> None:
    log = folder / LOG
    position, last, line = log.stat().st_size if log.exists() else 0, False, _Line()
    while not last:
        if sys.stderr.isatty():
            line.show(files.read_model(folder / PROGRESS, RunProgress))
        elif log.exists():
            with log.open(encoding="utf-8", errors="replace") as file:
                file.seek(position)
                for text in file:
                    print(f"  {text.rstrip()}", flush=True)
                position = file.tell()
        last = stop.wait(0.5)
    line.close()


class _Line:
    """The last line of a terminal: the bar of a run, and before and after it what else is done."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._training = False
        self._since = time.monotonic()

    def show(self, state: RunProgress | None) -> None:
        training = state is not None and not state.ended
        changes = training != self._training
        if self._bar is None or (changes and training):
            self.close()
            form = {"bar_format": "  {desc}", "leave": False}
            self._bar = _bar(state.total) if state and training else tqdm(**form)
        if state is not None and (training or changes):
            self._bar.n = state.done
            self._bar.set_postfix_str(state.text)
        if changes:
            self._training, self._since = training, time.monotonic()
        if changes and not training:
            self.close()
        elif not training:
            doing = "making the page" if state else "starting the notebook"
            self._bar.set_description_str(f"{doing}, {time.monotonic() - self._since:.0f} s")

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar = None
