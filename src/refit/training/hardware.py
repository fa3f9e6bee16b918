"""What there is to know of the machine without importing Keras or what it computes on."""

import contextlib
import hashlib
import platform
import resource
import sys
from pathlib import Path


def processor() -> str:
    """The processor's name, as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor())


def instructions() -> str:
    """A short name for what machine code this processor understands; programs for one with the
    same name run here."""
    found = platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        found += next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return hashlib.sha256(found.encode()).hexdigest()[:12]


def peak_memory() -> float:
    """The most memory that this process has held, in MiB."""
    return megabytes(resource.getrusage(resource.RUSAGE_SELF))


def megabytes(usage: resource.struct_rusage) -> float:
    """The most memory that some processes have held, each for itself, in MiB."""
    unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux kibibytes
    return usage.ru_maxrss / unit
