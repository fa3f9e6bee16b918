"""How far a run is: a bar in a terminal or a notebook, else lines; lines in a log file as well."""

import contextlib
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

# Not tqdm.auto: its widgets are dead on a page, and without ipywidgets it warns on every one.
from tqdm import tqdm

from refit import files
from refit.experiments.trial import Trial
from refit.run_directory.directory import PROGRESS, RESULT, Result, TrialProgress
from refit.running.order import Expected

LOG = "progress.log"
# A log file is read afterwards; more lines would hide the trials that ended.
LOG_SECONDS = 30.0
BAR = "{desc}{percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt}{postfix}"


class Progress:
    """A bar with trials done, the running trials' epochs and accuracies, and the time left.

    A full disk hides some of it and stops nothing: the trials that cannot be stored tell of it.

    Use it as a context manager around a run of `total` trials, of which those in `expected` are
    still to be trained.
    """

    def __init__(self, total: int, expected: Mapping[Trial, Expected], folder: Path) -> None:
        self.total, self.done, self.failed = total, total - len(expected), 0
        self.folder = folder
        self.expected = expected
        # What interrupted trainings had done before does not count as done by this run.
        self._before = {trial: self._state(trial)[1] for trial in expected}
        self._work = {
            trial: work.seconds * (1 - self._before[trial]) for trial, work in expected.items()
        }
        self._ended = 0.0
        self._started = time.monotonic()

    def __enter__(self) -> "Progress":
        self.folder.mkdir(parents=True, exist_ok=True)
        self._log = (self.folder / LOG).open("a", encoding="utf-8")
        self._bar = bar(self.total, BAR)
        self._write(f"{self.total - self.done} of {self.total} trials to train in {self.folder}")
        self._show("loading Keras")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        end = "finished" if kind is None else "interrupted; the next run goes on from here"
        self._write(f"{self._counts()}, {end}")
        self._show(f"{self._counts()}, {end}")
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
            self.expected[trial].seconds * max(fraction - self._before[trial], 0)
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

    def _show(self, text: str) -> None:
        self._bar.n = self.done
        self._bar.set_postfix_str(text)

    def _counts(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.done} of {self.total} trials done{failed}"

    def _state(self, trial: Trial) -> tuple[str, float]:
        """A running trial in words, and the fraction of it that is done, as far as is known."""
        # The epochs of a search are those of all candidates.
        state = files.read_model(self.folder / trial.directory / PROGRESS, TrialProgress)
        state = state or TrialProgress(epochs=trial.epochs)
        known = f" {state.val_accuracy:.3f}" if state.val_accuracy is not None else ""
        fraction = state.epoch / (state.epochs * self.expected[trial].epochs)
        return f"{trial.name} {state.epoch}/{state.epochs}{known}", min(fraction, 1.0)

    def _write(self, line: str) -> None:
        self._last_log = time.monotonic()
        line = f"{time.strftime('%H:%M:%S')} {line}"
        if self._bar.disable:
            print(f"  {line}", flush=True)
        with contextlib.suppress(OSError):
            self._log.write(f"{line}\n")
            self._log.flush()


def bar(total: int, form: str, leave: bool = True) -> tqdm:
    """A bar on standard error, where that is a terminal or a notebook."""
    hidden = None if "ipykernel" not in sys.modules else False  # None: but in a terminal
    return tqdm(total=total, bar_format=form, dynamic_ncols=True, leave=leave, disable=hidden)
