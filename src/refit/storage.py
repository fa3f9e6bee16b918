"""Files that are either whole or absent: written beside their place, then renamed into it."""

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from refit.errors import TrialError

# The file whose presence means that a trial is done.
RESULT = "result.json"
# How far a run or a training is, for whoever watches from another process.
PROGRESS = "progress.json"
# The event folder of the curves of single batches.
BATCHES = "batches"
# Predicted classes of the test images, one byte each.
PREDICTIONS = "test_predictions.npy"


def check_writable(variable: str, folder: Path) -> None:
    """Make a folder, where it is not there. Raises TrialError where nothing can be written in it,
    which names the environment `variable` that can move it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise TrialError(
            f"{folder}: nothing can be written there ({error.strerror or error}); let {variable} "
            "name another folder"
        ) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file in one step: a reader sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write plain data as indented JSON; NaN and infinities are kept as JSON's common extension."""
    write_bytes(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read JSON; returns None where the file is missing, empty or garbage."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a JSON object; an empty one where the file holds none."""
    content = read_json(path)
    return content if isinstance(content, dict) else {}


def digest(path: Path) -> str:
    """The SHA-256 of a file; empty where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
