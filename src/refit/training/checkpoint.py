"""The state from which an interrupted training goes on: plain data, and the variables."""

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from refit.files import write_bytes

# What reading a checkpoint that is missing, damaged or of another kind can raise. The last is what
# zipfile says of a member that seems to be encrypted, or compressed in a way that it does not know.
UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, RuntimeError)


def write_checkpoint(
    checkpoint: Path, state: dict[str, Any], variables: Sequence[np.ndarray]
) -> None:
    """Write the state of a training: plain data, the `history` of its epochs among them, and its
    variables."""
    arrays = {f"v{number}": value for number, value in enumerate(variables)}
    buffer = io.BytesIO()
    np.savez(buffer, state=np.array(json.dumps(state | {"arrays": len(arrays)})), **arrays)
    write_bytes(checkpoint, buffer.getbuffer())


def read_checkpoint(checkpoint: Path) -> tuple[dict[str, Any], list[np.ndarray]]:
    """State and variables of a checkpoint; both empty where there is no whole one."""
    try:
        with np.load(checkpoint, allow_pickle=False) as file:
            state = _state(file)
            return state, [file[f"v{number}"] for number in range(state["arrays"])]
    except UNREADABLE:
        return {}, []


def saved_state(checkpoint: Path | IO[bytes]) -> dict[str, Any]:
    """The state in a checkpoint, without loading its variables; empty where there is none."""
    try:
        with np.load(checkpoint, allow_pickle=False) as file:
            return _state(file)
    except UNREADABLE:
        return {}


def saved_epochs(checkpoint: Path | IO[bytes]) -> int:
    """How many epochs a checkpoint holds, without loading it; 0 where there is none."""
    return len(saved_state(checkpoint).get("history", []))


def _state(file: Any) -> dict[str, Any]:
    state = json.loads(str(file["state"]))
    if not (isinstance(state, dict) and isinstance(state.get("history"), list)):
        raise ValueError("is no state of a training")
    return state
