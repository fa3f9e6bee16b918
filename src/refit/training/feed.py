"""The batches that a network is fed with: from memory where the images fit, else from disk.

What does not fit is gathered from the memory-mapped cache batch by batch, two batches ahead of the
training, so the memory in use depends on the size of a batch and not on that of the data set.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from refit.data.arrays import Part

# In bytes, of one part's images: every trial that runs at the same time holds its own.
MOST_IN_MEMORY = 2**30
IMAGE_DIMENSIONS = 4  # a part of clips has one more

Rows = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def batches(part: Part, batch_size: int, order: tf.Variable | None = None) -> tf.data.Dataset:
    """Batches of (float32 images or clips in 0..1, int32 labels), as the part or `order` has them.

    `order`, as `new_order` makes it, is read anew for every batch. The bytes stay as they are on
    disk and are scaled batch by batch. Clips, and images of more than MOST_IN_MEMORY, are not held
    in memory; they come in the same order and with the same values. tf.data's autotuning is off:
    its threads compete with the training for the cores.
    """
    large = part.images.ndim > IMAGE_DIMENSIONS or part.images.nbytes > MOST_IN_MEMORY
    rows = (_from_disk if large else _from_memory)(part, order)
    options = tf.data.Options()
    options.autotune.enabled = False

    def batch(start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return rows(start, tf.minimum(start + batch_size, len(part)))

    # Autograph would read the source of these few operations again in every training, which took
    # a tenth of what it costs to start one.
    starts = tf.data.Dataset.range(0, len(part), batch_size)
    made = starts.map(tf.autograph.experimental.do_not_convert(batch))
    return made.prefetch(2).with_options(options)


def new_order(images: int) -> tf.Variable:
    """Int32 positions (images,), at first as they are; `assign` gives them another order."""
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
