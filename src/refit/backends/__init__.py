"""The library that computes below Keras: TensorFlow, or JAX where KERAS_BACKEND says so.

What differs between the two is in a module for each, with the same functions. Importing this
package imports neither, so that a command can ask before it starts anything.
"""

import importlib
import importlib.util
import os
from types import ModuleType

import numpy as np

from refit import files
from refit.data.folders import keras_home
from refit.errors import DeclarationError, UnavailableError

TENSORFLOW, JAX = KNOWN = ("tensorflow", "jax")
# Keras's own environment variable.
VARIABLE = "KERAS_BACKEND"
# Where every part of every batch starts and stops, and the weight of an image in it.
Spans = tuple[np.ndarray, np.ndarray, np.ndarray]


def name() -> str:
    """The backend that Keras takes: the variable's, else that of its own file of settings.

    Raises DeclarationError for one that refit does not know.
    """
    settings = files.read_object(keras_home() / "keras.json")
    found = os.environ.get(VARIABLE) or settings.get("backend") or TENSORFLOW
    if found not in KNOWN:
        raise DeclarationError(f"{VARIABLE} is {found!r}; refit knows {' and '.join(KNOWN)}")
    return found


def chosen() -> ModuleType:
    """The module with what is special about the backend; importing it imports the backend."""
    return importlib.import_module(f"{__name__}.{name()}")


def check() -> None:
    """Raise UnavailableError where the backend is not installed, before anything is trained."""
    missing = name()
    if importlib.util.find_spec(missing) is None:
        other = KNOWN[missing == TENSORFLOW]
        raise UnavailableError(
            f"{missing} is not installed, on which Keras is to compute; install it, or, where "
            f"{other} is installed, set {VARIABLE}={other}"
        )
