"""How a training is computed, which stays the same from its first epoch to its last.

Half a curve of one backend and half of another would be neither's. The precision is not told here:
it is part of a trial's identity. Nothing here imports Keras: a command asks before it starts
anything.
"""

from collections.abc import Mapping
from typing import Any

from refit.backends import TENSORFLOW


def under(backend: str, together: bool = False, convolution: str = "native") -> dict[str, Any]:
    """The circumstances of a training, alone or `together` with others, as plain data.

    `convolution` is one of `fused_program.CONVOLUTIONS`.
    """
    return {"backend": backend, "together": together, "convolution": convolution}


def of(state: Mapping[str, Any]) -> dict[str, Any]:
    """Those under which the `state` of a checkpoint was made.

    Older states were all made alone; they tell the backend, or were made when there was only one.
    """
    told = state.get("circumstances", under(state.get("backend", TENSORFLOW)))
    return told if isinstance(told, dict) else {}
