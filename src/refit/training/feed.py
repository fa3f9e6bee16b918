"""The batches that a network is fed with: from memory where the images fit, else from disk.

What does not fit is gathered from the memory-mapped cache batch by batch, two batches ahead of the
training, so the memory in use depends on the size of a batch and not on that of the data set.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from refit.data.arrays import Part

# In bytes, of one part's images: every trial that runs at the same time holds its own.
MOST_IN_MEMORY = 2**30
IMAGE_DIMENSIONS = 4  # a part of clips has one more


def batches(part: Part, batch_size: int, order: tf.Variable | None = None) -> tf.data.Dataset:
    """Batches of (float32 images or clips in 0..1, int32 labels), as the part or `order` has them.

    `order`, as `Shuffling` has it, is read anew for every batch. The bytes stay as they are on disk
    and are scaled batch by batch. Clips, and images of more than MOST_IN_MEMORY, are not held in
    memory; they come in the same order and with the same values. A part without labels comes with
    zeros that nobody reads. tf.data's autotuning is off: its threads compete with the training for
    the cores.
    """
    large = part.images.ndim > IMAGE_DIMENSIONS or part.images.nbytes > MOST_IN_MEMORY
    held = None if large else tf.constant(part.images)
    labels = tf.constant(np.zeros(len(part), np.int32) if part.labels is None else part.labels)
    options = tf.data.Options()
    options.autotune.enabled = False

    def gather(chosen: np.ndarray) -> np.ndarray:
        return part.images[chosen]

    def batch(start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        stop = tf.minimum(start + batch_size, len(part))
        chosen = tf.range(start, stop) if order is None else order[start:stop]
        if large:
            images = tf.numpy_function(gather, [chosen], tf.uint8)
            images.set_shape([None, *part.images.shape[1:]])
        else:
            images = tf.gather(held, chosen)
        return tf.cast(images, tf.float32) / 255.0, tf.gather(labels, chosen)

    # Autograph would read the source of these few operations again in every training, which took
    # a tenth of what it costs to start one.
    starts = tf.data.Dataset.range(0, len(part), batch_size)
    made = starts.map(tf.autograph.experimental.do_not_convert(batch))
    return made.prefetch(2).with_options(options)


class Shuffling(keras.callbacks.Callback):
    """Gives every epoch an order of its own, which depends on nothing but seed and epoch.

    So an interrupted training goes on as it would have. `order`, int32 positions (images,), is what
    `batches` follows; at first it is that of the part.
    """

    def __init__(self, images: int, seed: int) -> None:
        super().__init__()
        self.images = images
        self.seed = seed
        self.order = tf.Variable(tf.range(images, dtype=tf.int32), trainable=False)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        order = np.random.default_rng([self.seed, epoch]).permutation(self.images)
        self.order.assign(order.astype(np.int32))
