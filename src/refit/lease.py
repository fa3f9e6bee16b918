"""Training on a machine that is lent for minutes: stop in time, and take along all that was done.

What is missing is trained by the usual runner; shortly before the end it is interrupted as Ctrl-C
would, which keeps every finished epoch, and a pack is written from which the next call goes on.
"""

import contextlib
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from refit.errors import DeclarationError, PackError, RefitError
from refit.run_directory import directory, failures, merging, packing
from refit.running.progress import follow
from refit.study import Study

# Exit codes of the command, beside 1 for failed trials and whatever else is wrong.
ALL_DONE = 0
WORK_LEFT = 3
# In seconds: what is set aside for packing, at least and at most, as a share of the time. Where a
# pack was imported, as long as that took is added, because the next one will be larger.
LEAST_RESERVE = 25.0
MOST_RESERVE = 60.0
RESERVE = 0.1
MOST_MINUTES = 7 * 24 * 60.0
# In seconds, between attempts to interrupt a run that cannot be interrupted just now.
AGAIN = 0.5


class TimeUpError(KeyboardInterrupt):
    """The time for training is over; whatever minds Ctrl-C minds this."""


def run(
    profile: str,
    opened: Callable[[], Sequence[Study]],
    minutes: float,
    out: Path,
    origins: Sequence[Path] = (),
    weights: bool = False,
    say: Callable[[str], None] = print,
    **how: Any,
) -> int:
    """Train what is missing of some studies for some minutes, and pack what there is then.

    `opened` opens the studies, which may take time too, and which are trained in their order, as
    the options `how` for `Study.train` say. One that fails, in whatever way, leaves the others
    their turn. The pack in the folder `out` holds all finished trials of the profile, and the
    unfinished with their checkpoints; one that is there already, and the `origins`, are imported
    first. Ctrl-C and SIGTERM end the training early, and the pack is written all the same. `say` is
    given sentences. Returns ALL_DONE, WORK_LEFT, or 1 where trials failed or no pack could be
    written. Raises DeclarationError for too few minutes, PackError for a damaged pack. Must be
    called in the main thread.
    """
    began = time.monotonic()
    limit = 60 * minutes
    least = LEAST_RESERVE / 30
    if not least <= minutes <= MOST_MINUTES:
        raise DeclarationError(f"minutes is {minutes:g}; give {least:.2f} to {MOST_MINUTES:g}")
    path = out / f"refit-{profile}.zip"
    studies: Sequence[Study] = ()
    failed: list[str] = []
    in_time = False
    with _watched(limit, say):
        for line in merging.merge([*origins, *[path] * path.exists()]):
            say(line)
        imported = time.monotonic() - began
        left = limit - min(max(RESERVE * limit, LEAST_RESERVE), MOST_RESERVE) - 2 * imported
        if left <= 0:
            say(f"no time is left to train, because importing took {imported:.0f} s: lend more")
        try:
            with _alarm(left):
                studies = opened()
                for study in studies:
                    failed += _train(study, how, say)
                in_time = True
        except KeyboardInterrupt as error:
            why = "the time for training is over" if isinstance(error, TimeUpError) else "stopped"
            say(f"{why}; what was saved until then is kept")
        packed = _pack(path, profile, weights, say)
    trials = {(study.runs, trial) for study in studies for trial in study.trials}
    done = [trial for folder, trial in trials if directory.result_of(trial, folder)]
    say(f"{len(done)} of {len(trials)} trials are done")
    if packed and not in_time:
        return WORK_LEFT
    return ALL_DONE if packed and not failed else 1


def _train(study: Study, how: dict[str, Any], say: Callable[[str], None]) -> list[str]:
    """Train what is missing of a study, repetitions of winners included; returns what failed."""
    say(f"{study.name} ({study.profile_name}): {len(study.trials)} trials")
    try:
        # Where no terminal shows a bar, the run's log tells how far it is.
        shown = contextlib.nullcontext() if sys.stderr.isatty() else follow(study.runs)
        with tempfile.TemporaryDirectory() as pages, shown:
            say(f"  {study.train(**how)}")
            for name in dict.fromkeys(trial.sweep for trial in study.trials):
                if study.declaration.sweeps[name].retrain:
                    # The table is made anew beside the page, when there is one.
                    replace(study, pages=Path(pages)).retrain(name, **how)
    except RefitError as error:
        say(f"  {error}")
        return [study.name]
    return []


def _pack(path: Path, profile: str, weights: bool, say: Callable[[str], None]) -> bool:
    """Pack everything of the profile, so that no earlier pack is replaced by a smaller one.

    Returns False where the pack could not be written.
    """
    try:
        for line in packing.pack(path, (), profile, weights, unfinished=True):
            say(line)
    except PackError as error:
        say(str(error))
    except OSError as error:
        say(f"no pack was written: {failures.describe(error)}")
        return False
    return True


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raise TimeUpError in this thread after some seconds, or at SIGTERM, while in the block.

    Where Ctrl-C is ignored, because processes are just being ended, it waits for the end of that.
    """

    def ring(_number: int, _frame: FrameType | None) -> None:
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise TimeUpError

    def ring_now(_number: int, _frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.001, AGAIN)

    kinds = (signal.SIGALRM, signal.SIGINT, signal.SIGTERM)
    handlers = {number: signal.getsignal(number) for number in kinds}
    signal.signal(signal.SIGALRM, ring)
    signal.signal(signal.SIGTERM, ring_now)
    if handlers[signal.SIGINT] is signal.SIG_IGN:
        # A shell ignores Ctrl-C for what it runs in the background, from the beginning.
        signal.signal(signal.SIGINT, lambda *_: None)
    try:
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001), AGAIN)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _watched(seconds: float, say: Callable[[str], None]) -> Iterator[None]:
    """End this process and all that it started after some seconds, unless the block has ended.

    It is meant for what does not stop when asked; what was trained is then in the folder of runs.
    """

    def end() -> None:
        say("the time is over and not everything has stopped; ended without a new pack")
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                process.kill()
        os._exit(WORK_LEFT)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
