"""Why trials fail: the kinds of failure, and the file that tells of one in a run directory."""

import contextlib
import errno
import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime, BaseModel

from refit import files, paths
from refit.errors import DataError, DeclarationError, TrialError, UnavailableError

FAILURE = "failure.json"
# Set by a command that trains before it runs notebooks: what failed since is not tried again.
SINCE = "REFIT_FAILED_SINCE"
# Kinds behind which there may be too large a batch: on the CPU, TensorFlow crashes where it gets no
# memory, and a system that has none left kills.
TOO_LARGE = ("out of memory", "killed")
ADVICE = (
    "; run fewer trainings at once (WORKERS=1), or train on a machine with more memory, because a "
    "smaller batch_size would be another training than the declared one"
)

# What to do where a file cannot be written or read, by the number of the error.
_FULL = (
    "the disk is full: free some space there, or set {variable} to a folder on another disk; the "
    "next run goes on from what is finished"
)
_DENIED = (
    "this user may not do that there: change the permissions, or set {variable} to a folder of "
    "your own; the next run goes on from what is finished"
)
_IN_THE_WAY = "something else lies in its place: move that away; the next run goes on from there"
_MENDING = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), _FULL),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _DENIED),
    **dict.fromkeys((errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP), _IN_THE_WAY),
}
# What HDF5, which has errors of its own, says of a full disk.
_NO_SPACE = ("No space left on device", f"errno = {errno.ENOSPC},", "Disk quota exceeded")


def kind_of(error: BaseException) -> str:
    """The kind of failure that an error of a training is."""
    name = type(error).__name__
    # The second is what TensorFlow's kernels for CPUs raise where they get none.
    starved = name == "ResourceExhaustedError" or (name == "AbortedError" and "/mkl/" in str(error))
    if starved or isinstance(error, MemoryError):
        return "out of memory"
    if isinstance(error, DataError):
        return "bad data"
    if isinstance(error, UnavailableError):
        return "not available"
    if isinstance(error, TrialError):
        return "not possible"
    if isinstance(error, DeclarationError):
        return "bad declaration"
    if isinstance(error, OSError) or any(text in str(error) for text in _NO_SPACE):
        return "storage"
    return "bug"


def describe(error: BaseException) -> str:
    """An error as a sentence, and what to do where a file cannot be written or read."""
    text = f"{type(error).__name__}: {error}"
    number = getattr(error, "errno", None)
    if any(sign in text for sign in _NO_SPACE):
        number = errno.ENOSPC
    if number not in _MENDING:
        return text[:2000]
    place, variable = getattr(error, "filename", None), "REFIT_RUNS"
    if place:
        text = f"{place}: {error.strerror}"  # type: ignore[attr-defined]
        if Path(os.fsdecode(place)).is_relative_to(paths.reports()):
            variable = "REFIT_REPORTS"
    return f"{text[:1500]}; {_MENDING[number].format(variable=variable)}"


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Raise a TrialError that says what to do where a file cannot be written or read."""
    try:
        yield
    except BrokenPipeError:  # of `refit status | head`, which the command line knows
        raise
    except OSError as error:
        raise TrialError(f"storage: {describe(error)}") from error


class Failure(BaseModel):
    """Why a trial failed."""

    kind: str
    reason: str
    traceback: str = ""
    time: AwareDatetime = datetime.min.replace(tzinfo=UTC)


def read(run_dir: Path) -> Failure | None:
    """The failure that a run directory tells of; None where none is told of, or no whole one."""
    return files.read_model(run_dir / FAILURE, Failure)


def of_this_command(run_dir: Path) -> Failure | None:
    """The failure of a training that the command by which this process runs has tried already."""
    since, failure = os.environ.get(SINCE), read(run_dir)
    return failure if since and failure and failure.time >= datetime.fromisoformat(since) else None


def store(run_dir: Path, kind: str, reason: str, trace: str) -> None:
    """Write the failure into the run directory."""
    now = datetime.now(UTC)
    failure = Failure(kind=kind, reason=reason, traceback=trace, time=now)
    # Where even this cannot be written, the summary of the run still tells what happened.
    with contextlib.suppress(OSError):
        files.write_json(run_dir / FAILURE, failure.model_dump(mode="json"))


def death(exit_code: int) -> str:
    """What the exit code of a dead training tells."""
    if exit_code == -signal.SIGKILL:
        return "ended by SIGKILL, perhaps by the system because memory ran out"
    if exit_code < 0:
        with contextlib.suppress(ValueError):  # real-time signals have no names
            return f"ended by {signal.Signals(-exit_code).name}"
    return f"ended with exit code {exit_code}"
