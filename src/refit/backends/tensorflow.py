"""Keras on TensorFlow: batches from tf.data, one thread per operation, versions and devices."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from refit.backends import Spans
from refit.data.arrays import Part

Rows = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]

# XLA would cost seconds per trial on a CPU, and run slower there.
COMPILES = False


def use_one_thread(workers: int) -> None:
    """See `refit.training.fit.use_one_thread`. Inter-op threads do not matter to the curves: a lone
    training gets two, but beside others a second one costs all of them a fifth of their speed."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1 if workers > 1 else 2)
    tf.config.experimental.enable_tensor_float_32_execution(False)
    for device in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(device, True)


def keep_compiled(folder: Path) -> None:
    """Nothing is compiled, so nothing is kept."""


def set_seed(seed: int) -> None:
    keras.utils.set_random_seed(seed)


def versions() -> dict[str, str]:
    return {"tensorflow": tf.__version__}


def devices() -> dict[str, Any]:
    """The names of the GPUs, and the threads per operation."""
    gpus = [
        tf.config.experimental.get_device_details(device).get("device_name", device.name)
        for device in tf.config.list_physical_devices("GPU")
    ]
    threads = tf.config.threading.get_intra_op_parallelism_threads()
    return {"gpus": gpus, "intra_op_threads": threads}


def batches(
    part: Part, batch_size: int, order: tf.Variable | None, spans: Spans | None, large: bool
) -> tf.data.Dataset:
    """See `pipeline.batches`. tf.data's autotuning is off: its threads compete with the
    training for the cores."""
    rows = (_from_disk if large else _from_memory)(part, order)
    options = tf.data.Options()
    options.autotune.enabled = False
    if spans is None:
        places = tf.data.Dataset.range(0, len(part), batch_size)

        def made(start: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return rows(start, tf.minimum(start + batch_size, len(part)))
    else:
        places = tf.data.Dataset.from_tensor_slices(spans)

        def made(start: tf.Tensor, stop: tf.Tensor, weight: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return *rows(start, stop), tf.repeat(weight, stop - start)

    # Autograph would read the source of these few operations again in every training, which took
    # a tenth of what it costs to start one.
    batch = places.map(tf.autograph.experimental.do_not_convert(made))
    return batch.prefetch(2).with_options(options)


def new_order(images: int) -> tf.Variable:
    return tf.Variable(tf.range(images, dtype=tf.int32), trainable=False)


def _from_memory(part: Part, order: tf.Variable | None) -> Rows:
    images = tf.constant(part.images)
    labels = tf.constant(part.labels)

    def rows(start: tf.Tensor, stop: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        if order is None:
            return _scaled(images[start:stop]), labels[start:stop]
        chosen = order[start:stop]
        return _scaled(tf.gather(images, chosen)), tf.gather(labels, chosen)

    return rows


def _from_disk(part: Part, order: tf.Variable | None) -> Rows:
    labels = tf.constant(part.labels)

    def gather(chosen: np.ndarray) -> np.ndarray:
        return part.images[chosen]

    def rows(start: tf.Tensor, stop: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        chosen = tf.range(start, stop) if order is None else order[start:stop]
        images = tf.numpy_function(gather, [chosen], tf.uint8)
        images.set_shape([None, *part.images.shape[1:]])
        return _scaled(images), tf.gather(labels, chosen)

    return rows


def _scaled(images: tf.Tensor) -> tf.Tensor:
    return tf.cast(images, tf.float32) / 255.0
