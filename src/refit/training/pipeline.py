"""The batches that a network is fed with: from memory where the images fit, else from disk.

What does not fit is gathered from the memory-mapped cache batch by batch, two batches ahead of the
training, so the memory in use depends on the size of a batch and not on that of the data set.
Where a batch itself is too large, it comes in parts whose gradients are added up. Every backend
makes them in its own way, of the same values in the same order.
"""

import itertools
from typing import Any

import numpy as np

from refit import backends
from refit.backends import Spans
from refit.data.arrays import Part

# In bytes, of one part's images: every trial that runs at the same time holds its own.
MOST_IN_MEMORY = 2**30
IMAGE_DIMENSIONS = 4  # a part of clips has one more


def batches(part: Part, batch_size: int, order: Any = None, parts: int = 1) -> Any:
    """Batches of (float32 images or clips in 0..1, int32 labels), as the part or `order` has them.

    `order`, as `new_order` makes it, is read anew for every batch. The bytes stay as they are on
    disk and are scaled batch by batch. Clips, and images of more than MOST_IN_MEMORY, are not held
    in memory; they come in the same order and with the same values.

    With `parts` above 1 every batch comes in so many parts, one after another, with the weight of
    each image as a third element: the mean of the parts' weighted losses is that of the batch.

    Returns what Keras trains on: a `tf.data.Dataset`, or on JAX a `keras.utils.PyDataset`.
    """
    large = part.images.ndim > IMAGE_DIMENSIONS or part.images.nbytes > MOST_IN_MEMORY
    spans = _spans(len(part), batch_size, parts) if parts > 1 else None
    return backends.chosen().batches(part, batch_size, order, spans, large)


def new_order(images: int) -> Any:
    """Int32 positions (images,), at first as they are; `assign` gives them another order."""
    return backends.chosen().new_order(images)


def _spans(images: int, batch_size: int, parts: int) -> Spans:
    """Where every part of every batch starts and stops, and the weight of an image in it.

    A last batch may have fewer images than parts: then one of them comes again, without weight.
    """
    spans = []
    for first in range(0, images, batch_size):
        size = min(batch_size, images - first)
        ends = first + np.arange(parts + 1) * size // parts
        for start, stop in itertools.pairwise(ends):
            weight = parts * (stop - start) / size
            start = min(start, images - 1)
            spans.append((start, max(stop, start + 1), weight))
    starts, stops, weights = zip(*spans, strict=True)
    return np.array(starts), np.array(stops), np.array(weights, np.float32)
