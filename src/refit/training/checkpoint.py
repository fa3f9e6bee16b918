"""The state from which an interrupted training goes on exactly: plain data, and the variables.

Keras's BackupAndRestore keeps the weights, but neither what ReduceLROnPlateau has counted nor the
curves so far, so that an interrupted training would go on as another one.
"""

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from refit.files import write_bytes

# What reading a checkpoint that is missing, damaged or of another kind can raise. The last is what
# zipfile says of a member that seems to be encrypted, or compressed in a way that it does not know.
UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, RuntimeError)
# Attributes that callbacks count with; they are plain numbers.
COUNTERS = ("wait", "best", "cooldown_counter")


class Checkpoint:
    """The state of a training in the file `path`: its `model`, and what its `callbacks` count."""

    def __init__(
        self, path: Path, model: keras.Model, callbacks: Sequence[keras.callbacks.Callback]
    ) -> None:
        self.path = path
        self.model = model
        self.callbacks = callbacks
        self._arrays: list[np.ndarray] = []
        self._counters: list[dict[str, float]] = []

    def save(self, state: dict[str, Any]) -> None:
        """Write plain data, the `history` of the epochs among them, beside variables and counts."""
        counters = [
            {name: float(getattr(callback, name)) for name in COUNTERS if hasattr(callback, name)}
            for callback in self.callbacks
        ]
        arrays = {f"v{number}": np.asarray(v) for number, v in enumerate(self._variables())}
        whole = json.dumps(state | {"counters": counters, "arrays": len(arrays)})
        buffer = io.BytesIO()
        np.savez(buffer, state=np.array(whole), **arrays)
        write_bytes(self.path, buffer.getbuffer())

    def read(self) -> dict[str, Any]:
        """The plain data; empty where there is no whole checkpoint of this very model."""
        try:
            with np.load(self.path, allow_pickle=False) as file:
                state = _state(file)
                arrays = [file[f"v{number}"] for number in range(state["arrays"])]
        except UNREADABLE:
            return {}
        if [array.shape for array in arrays] != [tuple(v.shape) for v in self._variables()]:
            return {}
        self._arrays, self._counters = arrays, state["counters"]
        return state

    def restore(self) -> None:
        """Give the model the variables that `read` has found."""
        for variable, array in zip(self._variables(), self._arrays, strict=True):
            variable.assign(array)
        self._arrays = []

    def restore_counters(self) -> None:
        """Give the callbacks what they had counted; call it when all have begun, which resets them.

        Once only: a second phase goes on from what they count themselves.
        """
        for callback, counters in zip(self.callbacks, self._counters, strict=False):
            for name, value in counters.items():
                setattr(callback, name, value)
        self._counters = []

    def _variables(self) -> list[Any]:
        return [*self.model.variables, *self.model.optimizer.variables]


def saved_epochs(path: Path) -> int:
    """How many epochs a checkpoint holds, without loading its variables; 0 where there is none."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return len(_state(file)["history"])
    except UNREADABLE:
        return 0


def _state(file: Any) -> dict[str, Any]:
    state = json.loads(str(file["state"]))
    if not (isinstance(state, dict) and isinstance(state.get("history"), list)):
        raise ValueError("is no state of a training")
    return state
