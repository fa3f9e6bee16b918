"""The batches that a network is fed with: from memory where the images fit, else from disk.

What does not fit is gathered from the memory-mapped cache batch by batch, two batches ahead of the
training, so the memory in use depends on the size of a batch and not on that of the data set.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from refit.data import Part

# In bytes, of one part's images: every trial that runs at the same time holds its own.
MOST_IN_MEMORY = 2**30
IMAGE_DIMENSIONS = 4  # a part of clips has one more

Batch = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def batches(part: Part, batch_size: int, order: tf.Variable | None = None) -> tf.data.Dataset:
    """Batches of (float32 images or clips in 0..1, int32 labels), as the part or `order` has them.

    `order` holds int32 positions (n,), which are read anew for every batch. The bytes stay as they
    are on disk and are scaled batch by batch. Clips, and images of more than MOST_IN_MEMORY, are
    not held in memory; they come in the same order and with the same values. tf.data's autotuning
    is off: its threads compete with the training for the cores.
    """
    large = part.images.ndim > IMAGE_DIMENSIONS or part.images.nbytes > MOST_IN_MEMORY
    batch = (_from_disk if large else _from_memory)(part, batch_size, order)
    options = tf.data.Options()
    options.autotune.enabled = False
    starts = tf.data.Dataset.range(0, len(part), batch_size)
    return starts.map(batch).prefetch(2).with_options(options)


def _from_memory(part: Part, batch_size: int, order: tf.Variable | None) -> Batch:
    images = tf.constant(part.images)
    labels = tf.constant(part.labels)

    def batch(start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        rows = slice(start, start + batch_size)
        if order is None:
            return _scaled(images[rows]), labels[rows]
        chosen = order[rows]
        return _scaled(tf.gather(images, chosen)), tf.gather(labels, chosen)

    return batch


def _from_disk(part: Part, batch_size: int, order: tf.Variable | None) -> Batch:
    labels = tf.constant(part.labels)

    def gather(chosen: np.ndarray) -> np.ndarray:
        return part.images[chosen]

    def batch(start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        stop = tf.minimum(start + batch_size, len(part))
        chosen = tf.range(start, stop) if order is None else order[start:stop]
        images = tf.numpy_function(gather, [chosen], tf.uint8)
        images.set_shape([None, *part.images.shape[1:]])
        return _scaled(images), tf.gather(labels, chosen)

    return batch


def _scaled(images: tf.Tensor) -> tf.Tensor:
    return tf.cast(images, tf.float32) / 255.0
