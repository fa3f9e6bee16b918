"""The state from which an interrupted training goes on exactly: plain data, and the variables.

Keras's BackupAndRestore keeps the weights, but neither what ReduceLROnPlateau has counted nor the
curves so far, so that an interrupted training would go on as another one.
"""

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from refit.files import write_bytes

# What reading a checkpoint that is missing or damaged can raise. The last is what zipfile says of a
# member that seems to be encrypted, or compressed in a way that it does not know.
UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, RuntimeError)
# Attributes that callbacks count with; they are plain numbers.
COUNTERS = ("wait", "best", "cooldown_counter")


class Checkpoint(NamedTuple):
    """Plain data, the `history` of the epochs among them, and the variables of a training."""

    state: dict[str, Any]
    arrays: list[np.ndarray]

    def fits(self, model: keras.Model) -> bool:
        """Whether a compiled model has variables of these shapes."""
        shapes = [tuple(variable.shape) for variable in _variables(model)]
        return [array.shape for array in self.arrays] == shapes

    def restore(self, model: keras.Model) -> None:
        for variable, array in zip(_variables(model), self.arrays, strict=True):
            variable.assign(array)


def save(
    path: Path,
    model: keras.Model,
    callbacks: Sequence[keras.callbacks.Callback],
    state: dict[str, Any],
) -> None:
    """Write plain data beside a model's variables and what its callbacks have counted."""
    counters = [
        {name: float(getattr(callback, name)) for name in COUNTERS if hasattr(callback, name)}
        for callback in callbacks
    ]
    arrays = {f"v{number}": np.asarray(v) for number, v in enumerate(_variables(model))}
    whole = json.dumps(state | {"counters": counters, "arrays": len(arrays)})
    buffer = io.BytesIO()
    np.savez(buffer, state=np.array(whole), **arrays)
    write_bytes(path, buffer.getbuffer())


def read(path: Path) -> Checkpoint | None:
    """The checkpoint in a file; None where there is no whole one."""
    try:
        with np.load(path, allow_pickle=False) as file:
            state = json.loads(str(file["state"]))
            return Checkpoint(state, [file[f"v{number}"] for number in range(state["arrays"])])
    except UNREADABLE:
        return None


def restore_counters(
    callbacks: Sequence[keras.callbacks.Callback], counters: Sequence[dict[str, float]]
) -> None:
    """Give callbacks what they had counted; call it when all have begun, which resets them."""
    for callback, counted in zip(callbacks, counters, strict=False):
        for name, value in counted.items():
            setattr(callback, name, value)


def _variables(model: keras.Model) -> list[Any]:
    return [*model.variables, *model.optimizer.variables]
