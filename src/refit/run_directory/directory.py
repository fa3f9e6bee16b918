"""A run directory: the names of its files, its lock, and whether its trial is done.

A trial is done while its result is whole, with all the files that it names.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, TextIO

from pydantic import (
    AliasPath,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)

from refit import files
from refit.data.spec import DataSpec
from refit.errors import TrialError
from refit.experiments.trial import Trial
from refit.experiments.yaml_file import explain

# The file whose presence means that a trial is done.
RESULT = "result.json"
# Held by the process that trains the trial, or imports those of an experiment.
LOCK = "lock"
# The settings of a trial, there from the beginning of its training.
TRIAL = "trial.json"
# How far a run or a training is, for whoever watches from another process.
PROGRESS = "progress.json"
# The state from which an interrupted training goes on.
CHECKPOINT = "checkpoint.npz"
# The event folder of the curves of single batches.
BATCHES = "batches"
# The same curves as arrays.
BATCH_FILE = "batches.npz"
EVENT_FOLDERS = ("train", "validation", BATCHES)
# Weights that a trial keeps: those of its best epoch, and those that other trials start from. Keras
# writes this format only into files of this ending.
BEST_WEIGHTS = "best.weights.h5"
BASE_WEIGHTS = "base.weights.h5"
FINAL_WEIGHTS = "final.weights.h5"
# The whole network, where it is asked for.
NETWORK = "network.keras"
# Predicted classes of the test images, one byte each.
PREDICTIONS = "test_predictions.npy"
# In an experiment's runs: what tuners have found in its grids.
SEARCH = "search"
# Beside a page: what the index says of it, and what it was made from.
PAGE = "page.json"


@contextlib.contextmanager
def held(folder: Path, wait: bool = True) -> Iterator[bool]:
    """Hold the lock of a folder, which is made where there is none.

    Says whether it was to be had, which is certain for those who `wait`. Raises TrialError where
    the file system has no locks of either kind.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as lock:
        yield _locked(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def _locked(lock: TextIO, how: int) -> bool:
    """Lock an open file; also where flock is missing, as it is on some networks' file systems."""
    for kind in (fcntl.flock, fcntl.lockf):
        try:
            kind(lock, how)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            if error.errno not in (errno.ENOSYS, errno.ENOTSUP, errno.EINVAL, errno.ENOLCK):
                raise
        else:
            return True
    raise TrialError(
        f"{lock.name}: this file system has no locks, without which two runs would write into each "
        "other's results; let REFIT_RUNS name a folder on another one"
    )


class _Metrics(BaseModel):
    """The metrics that every training has; others depend on the trial."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, bool | float | str | None] = Field(init=False)

    train_accuracy: float
    train_loss: float
    val_accuracy: float
    val_loss: float
    best_val_accuracy: float
    epochs: PositiveInt
    diverged: bool
    seconds: float
    seconds_per_epoch: float
    classes: PositiveInt


class SearchRecord(BaseModel):
    """One search of a tuner over a finished grid: what was searched, and what was asked for.

    A row is step, trial, its digest, reached and added epochs, and score, as `tuner.run` has it.
    """

    search: dict[str, Any]
    digests: list[str]
    keras_tuner: str
    rows: list[tuple[int, str, str, PositiveInt, NonNegativeInt, float]]


class _Data(BaseModel):
    source: str
    content: str = ""
    stand_in: str
    embedded: bool
    classes: list[str]
    train_images: PositiveInt
    validation_images: NonNegativeInt
    test_images: NonNegativeInt


class _Layer(BaseModel):
    name: str
    type: str
    output_shape: list[int | None]
    parameters: NonNegativeInt


class _Environment(BaseModel):
    workers: NonNegativeInt | None = None
    gpus: list[str] = []


class _Candidate(BaseModel):
    parameters: NonNegativeInt
    seconds: float


class Result(BaseModel):
    """What tables and pages read of a result; `files` has size and digest of each file beside it,
    `data.content` is the SHA-256 of the decoded images, `weights` has that of the file that the
    training started from, if no trial of ours made it, and `checksum` is that of all the others.
    Older results lack these and the times."""

    trial: dict[str, Any]
    digest: str
    metrics: _Metrics
    data: _Data
    environment: _Environment
    layers: list[_Layer]
    confusion_matrix: list[list[NonNegativeInt]] | None
    started: AwareDatetime
    wall_seconds: float = 0.0
    resumed_at_epoch: NonNegativeInt = 0
    candidates: list[_Candidate] = []
    files: dict[str, Annotated[list[int | str], Field(max_length=2)]] = {}
    weights: dict[str, str] = {}
    checksum: str = ""

    @model_validator(mode="after")
    def _confusions_fit(self) -> "Result":
        size = len(self.data.classes)
        rows = self.confusion_matrix
        if rows is not None and [len(row) for row in [rows, *rows]] != [size] * (size + 1):
            raise ValueError(f"confusion_matrix: has not {size} rows and columns")
        return self


class _OfData(BaseModel):
    """What a result says of its data."""

    data: DataSpec = Field(validation_alias=AliasPath("trial", "data"))


class TrialProgress(BaseModel):
    """How far a training is."""

    epoch: NonNegativeInt = 0
    epochs: PositiveInt
    val_accuracy: float | None = None


def write_result(run_dir: Path, result: dict[str, Any]) -> None:
    """Write a result with the checksum over itself."""
    files.write_json(run_dir / RESULT, result | {"checksum": checksum(result)})


def checksum(result: Mapping[str, Any]) -> str:
    """The SHA-256 of all that a result says, but for its checksum."""
    content = {name: value for name, value in result.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def result_of(trial: Trial, folder: Path) -> dict[str, Any] | None:
    """The stored result of a trial, or None while there is no whole one.

    A result counts only if it belongs to this very trial, and while the files that it names are
    as they were written.
    """
    result = files.read_object(folder / trial.directory / RESULT)
    return None if _lost(result, trial, folder) else result


def data_of(folder: Path) -> list[DataSpec]:
    """The data, each once, that an experiment's finished trials in `folder` were trained on."""
    found = (files.read_model(path, _OfData) for path in sorted(folder.glob(f"*/*/{RESULT}")))
    return [*dict.fromkeys(result.data for result in found if result)]


def damage_of(trial: Trial, folder: Path) -> str:
    """What is lost of a trial that was done, as a sentence; empty if it is whole or never was."""
    path = folder / trial.directory / RESULT
    if not os.path.lexists(path):
        return ""
    lost = _lost(files.read_object(path), trial, folder)
    return f"{lost} is missing, or not as it was written" if lost else ""


def _lost(result: Mapping[str, Any], trial: Trial, folder: Path) -> str:
    """The first of a trial's files that is not whole, the result itself included."""
    if result.get("digest") != trial.digest or flaw(result):
        return RESULT
    # Results of earlier versions name no files.
    return files.damaged(folder / trial.directory, result.get("files", {}))


def flaw(result: Mapping[str, Any]) -> str:
    """What is wrong with a result, as a sentence; empty where it is as it was written."""
    try:
        stated = Result.model_validate(result).checksum
    except ValidationError as error:
        return explain(error).replace("\n", "; ")
    return "" if stated in ("", checksum(result)) else "checksum: does not fit what it says"
