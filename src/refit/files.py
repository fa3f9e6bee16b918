"""Files that are either whole or absent: written beside their place, then renamed into it.

What is lost or damaged after that is noticed by the sizes and digests that a result keeps.
"""

import contextlib
import functools
import hashlib
import json
import os
import secrets
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from refit.errors import TrialError

# In bytes: of larger files only the size is compared, because it is done whenever one is looked at.
MOST_DIGESTED = 2**20
# Columns of tables that are texts also where they look like numbers.
_TEXTS = dict.fromkeys(
    ("trial", "sweep", "title", "reason", "digest", "machine", "true", "predicted", "id"), str
)
# What spreadsheets take for the beginning of a formula, or for a mark that what follows is none.
_MARKED = ("=", "+", "-", "@", "\t", "\r", "'")

Model = TypeVar("Model", bound=BaseModel)


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


@contextlib.contextmanager
def stderr_in(path: Path) -> Iterator[None]:
    """Let what this process and its libraries print as errors go to the end of a file.

    TensorFlow greets with lines that no setting silences; they would bury whatever is shown.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stderr.flush()
    terminal = os.dup(2)
    try:
        with path.open("ab") as log:
            os.dup2(log.fileno(), 2)
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file in one step: a reader sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Made without a mode of its own, so that the user's umask decides who may read it, and file
    # systems that refuse to change a mode are not asked to.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # of a full disk the system does not say which
        raise


def write_json(path: Path, value: Any) -> None:
    """Write plain data as indented JSON; NaN and infinities are kept as JSON's common extension."""
    write_bytes(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


def write_table(path: Path, frame: Any) -> None:
    """Write a pandas table as CSV, without its index.

    A text that spreadsheets would take for a formula, such as a class named `=1+1`, gets the
    apostrophe by which they know a text.
    """
    texts = frame.select_dtypes(["object", "string"])
    frame = frame.assign(**{name: texts[name].map(_as_text) for name in texts})
    write_bytes(path, frame.to_csv(index=False).encode())


def read_table(path: Path) -> Any:
    """Read a table as `write_table` wrote it. Raises OSError or ValueError."""
    import pandas as pd

    frame = pd.read_csv(path, dtype=_TEXTS, keep_default_na=False, na_values=[""])
    texts = frame.select_dtypes(["object", "string"])
    return frame.assign(
        **{name: texts[name].map(_from_text).astype(texts[name].dtype) for name in texts}
    )


def _as_text(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_MARKED) else value


def _from_text(value: Any) -> Any:
    marked = isinstance(value, str) and value[:1] == "'" and value[1:].startswith(_MARKED)
    return value[1:] if marked else value


def read_json(path: Path) -> Any:
    """Read JSON; returns None where the file is missing, empty or garbage."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; empty where the file is missing, garbage or holds anything else."""
    value = read_json(path)
    return value if isinstance(value, dict) else {}


def read_model(path: Path, model: type[Model]) -> Model | None:
    """Read JSON that fits a schema; None where the file is missing, garbage or does not fit."""
    try:
        return model.model_validate(read_json(path))
    except ValidationError:
        return None


def digest(path: Path) -> str:
    """The SHA-256 of a file; empty where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def identify(folder: Path, files: Iterable[Path]) -> dict[str, list[Any]]:
    """Size and, of a small one, digest of each file, by its name below `folder`."""
    return {str(path.relative_to(folder)): _identity(path) for path in sorted(files)}


def damaged(folder: Path, identities: dict[str, list[Any]]) -> str:
    """The first file that is missing or has changed since it was identified; empty without one."""
    for name, identity in identities.items():
        if _identity(folder / name) != identity:
            return name
    return ""


def _identity(path: Path) -> list[Any]:
    try:
        status = path.stat()
    except OSError:
        return []
    if status.st_size > MOST_DIGESTED:
        return [status.st_size, ""]
    return [status.st_size, _digest(path, status.st_size, status.st_mtime_ns)]


@functools.lru_cache(maxsize=100_000)
def _digest(path: Path, size: int, changed: int) -> str:
    """The digest of a file as it is now; a page asks for the same results again and again."""
    return digest(path)
