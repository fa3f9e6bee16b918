"""Why trials fail: the kinds of failure, and the file that tells of one in a run directory."""

import contextlib
import signal
import time
from pathlib import Path

from refit import storage
from refit.errors import DataError, DeclarationError, TrialError, UnavailableError

FAILURE = "failure.json"
# Kinds behind which there may be too large a batch: on the CPU, TensorFlow crashes where it gets no
# memory, and a system that has none left kills.
TOO_LARGE = ("out of memory", "killed")
ADVICE = (
    "; where a batch is too large, out_of_memory=accumulate adds up the gradients of its parts, "
    "and out_of_memory=smaller makes smaller ones"
)


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
    if isinstance(error, OSError):
        return "storage"
    return "bug"


def store(run_dir: Path, kind: str, reason: str, trace: str) -> None:
    """Write the failure into the run directory, and how often the trial has been attempted."""
    earlier = storage.read_json(run_dir / FAILURE) or {}
    failure = {
        "kind": kind,
        "reason": reason,
        "traceback": trace,
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "attempts": earlier.get("attempts", 0) + 1,
    }
    # Where even this cannot be written, the summary of the run still tells what happened.
    with contextlib.suppress(OSError):
        storage.write_json(run_dir / FAILURE, failure)


def death(exit_code: int | None) -> str:
    """What the exit code of a dead training tells."""
    if exit_code == -signal.SIGKILL:
        return "ended by SIGKILL, perhaps by the system because memory ran out"
    if exit_code is not None and exit_code < 0:
        return f"ended by {signal.Signals(-exit_code).name}"
    return f"ended with exit code {exit_code}"
