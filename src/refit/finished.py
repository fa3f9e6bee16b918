"""Which trials are done: those whose result is whole, with all the files that it names."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from refit import storage
from refit.storage import RESULT
from refit.trial import Trial


def result_of(trial: Trial, folder: Path) -> dict[str, Any] | None:
    """The stored result of a trial, or None while there is no whole one.

    A result counts only if it belongs to this very trial, and while the files that it names are
    as they were written.
    """
    result = storage.read_object(folder / trial.directory / RESULT)
    return None if _lost(result, trial, folder) else result


def damage_of(trial: Trial, folder: Path) -> str:
    """What is lost of a trial that was done, as a sentence; empty if it is whole or never was."""
    path = folder / trial.directory / RESULT
    if not os.path.lexists(path):
        return ""
    lost = _lost(storage.read_object(path), trial, folder)
    return f"{lost} is missing, or not as it was written" if lost else ""


def _lost(result: Mapping[str, Any], trial: Trial, folder: Path) -> str:
    """The first of a trial's files that is not whole, the result itself included."""
    if result.get("digest") != trial.digest or "metrics" not in result:
        return RESULT
    # Results of earlier versions name no files.
    return storage.damaged(folder / trial.directory, result.get("files", {}))
