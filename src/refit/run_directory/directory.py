"""A run directory: the names of its files, its lock, and whether its trial is done.

A trial is done while its result is whole, with all the files that it names.
"""

import contextlib
import fcntl
import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from refit import files
from refit.experiments.trial import Trial
from refit.files import make_folder, make_way

# The file whose presence means that a trial is done.
RESULT = "result.json"
# Held by the process that trains the trial.
LOCK = "lock"
# The settings of a trial, there from the beginning of its training.
TRIAL = "trial.json"
# How far a run or a training is, for whoever watches from another process.
PROGRESS = "progress.json"
# The state from which an interrupted training goes on.
CHECKPOINT = "checkpoint.npz"
# The event folder of the curves of single batches.
BATCHES = "batches"
EVENT_FOLDERS = ("train", "validation", BATCHES)
# Weights that a trial keeps: those of its best epoch, and those that other trials start from. Keras
# writes this format only into files of this ending.
BEST_WEIGHTS = "best.weights.h5"
BASE_WEIGHTS = "base.weights.h5"
FINAL_WEIGHTS = "final.weights.h5"
# Predicted classes of the test images, one byte each.
PREDICTIONS = "test_predictions.npy"
# Beside a page: what the index says of it, and what it was made from.
PAGE = "page.json"


@contextlib.contextmanager
def held(run_dir: Path, until: float = math.inf) -> Iterator[bool]:
    """Hold the lock of a trial; says whether it was to be had before `until`, in monotonic seconds.

    Makes the run directory where there is none.
    """
    make_folder(run_dir)
    make_way(run_dir / LOCK)
    with (run_dir / LOCK).open("w") as lock:
        yield _locked(lock, until)


def _locked(lock: IO[str], until: float) -> bool:
    if until == math.inf:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return True
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(0.05)


def result_of(trial: Trial, folder: Path) -> dict[str, Any] | None:
    """The stored result of a trial, or None while there is no whole one.

    A result counts only if it belongs to this very trial, and while the files that it names are
    as they were written.
    """
    result = files.read_object(folder / trial.directory / RESULT)
    return None if _lost(result, trial, folder) else result


def damage_of(trial: Trial, folder: Path) -> str:
    """What is lost of a trial that was done, as a sentence; empty if it is whole or never was."""
    path = folder / trial.directory / RESULT
    if not os.path.lexists(path):
        return ""
    lost = _lost(files.read_object(path), trial, folder)
    return f"{lost} is missing, or not as it was written" if lost else ""


def _lost(result: Mapping[str, Any], trial: Trial, folder: Path) -> str:
    """The first of a trial's files that is not whole, the result itself included."""
    if result.get("digest") != trial.digest or "metrics" not in result:
        return RESULT
    # Results of earlier versions name no files.
    return files.damaged(folder / trial.directory, result.get("files", {}))
