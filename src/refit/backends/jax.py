"""Keras on JAX: batches from NumPy, one thread per operation, versions and devices.

JAX starts its threads with its first computation, and a process with threads cannot be forked: so
importing this computes nothing.
"""

import math
import os
import random
from pathlib import Path
from typing import Any

import jax
import keras
import numpy as np

from refit.backends import Spans
from refit.data.arrays import Part
from refit.training import hardware

# Threads that read ahead where the images are on disk, and batches that may wait: Keras starts
# threads only for two and more.
READERS = 2

# Without it Keras would run operation by operation.
COMPILES = True
# How many threads share an operation on a CPU. XLA's own flags for this do nothing.
_THREADS = "PJRT_NPROC"


def use_one_thread(workers: int) -> None:
    """See `refit.training.fit.use_one_thread`. Takes effect before the first computation only."""
    os.environ[_THREADS] = "1"
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    jax.config.update("jax_default_matmul_precision", "float32")


def keep_compiled(folder: Path) -> None:
    """Keep what is compiled, for later processes: compiling takes longer than a small training.

    It is machine code, so that a folder which computers share has one inside for each kind of them.
    """
    own = folder / hardware.instructions()
    jax.config.update("jax_compilation_cache_dir", str(own))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def set_seed(seed: int) -> None:
    """What Keras's own function does, which also imports TensorFlow wherever it is installed."""
    random.seed(seed)
    np.random.seed(seed)


def versions() -> dict[str, str]:
    return {"jax": jax.__version__}


def devices() -> dict[str, Any]:
    """The names of the GPUs, and the threads per operation; 0 where JAX chooses."""
    gpus = [device.device_kind for device in jax.devices() if device.platform != "cpu"]
    return {"gpus": gpus, "intra_op_threads": int(os.environ.get(_THREADS, 0))}


class Order:
    """Positions that can be assigned anew, as a TensorFlow variable can."""

    def __init__(self, positions: np.ndarray) -> None:
        self.positions = positions

    def assign(self, positions: np.ndarray) -> None:
        self.positions = positions


class Batches(keras.utils.PyDataset):
    """The batches of a part by their numbers; images on disk are read ahead in threads."""

    def __init__(
        self, part: Part, batch_size: int, order: Order | None, spans: Spans | None, large: bool
    ) -> None:
        super().__init__(workers=READERS if large else 1, max_queue_size=READERS)
        self.part = part
        self.size = batch_size
        self.order = order
        self.spans = spans

    def __len__(self) -> int:
        return len(self.spans[0]) if self.spans else math.ceil(len(self.part) / self.size)

    def __getitem__(self, number: int) -> tuple[np.ndarray, ...]:
        if self.spans is None:
            return self._rows(number * self.size, min((number + 1) * self.size, len(self.part)))
        start, stop, weight = (column[number] for column in self.spans)
        return *self._rows(start, stop), np.repeat(weight, stop - start)

    def _rows(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = slice(start, stop) if self.order is None else self.order.positions[start:stop]
        images = self.part.images[chosen].astype(np.float32)
        images /= np.float32(255)
        return images, self.part.labels[chosen]


def batches(
    part: Part, batch_size: int, order: Order | None, spans: Spans | None, large: bool
) -> Batches:
    """See `refit.training.pipeline.batches`."""
    return Batches(part, batch_size, order, spans, large)


def new_order(images: int) -> Order:
    return Order(np.arange(images, dtype=np.int32))
