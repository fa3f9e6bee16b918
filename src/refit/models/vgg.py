"""VGG-16 as the Fashion-MNIST report trains it, on images of 48x48.

The report's tables speak of 10 convolutions and 4 poolings; its printed summaries, and so this
network, have 13 and 5. Each convolution pads by a layer of its own, as printed.
"""

from collections.abc import Iterator

import keras
from keras.layers import Conv2D, Layer, MaxPooling2D, ZeroPadding2D

from refit.models.layers import chain, dense_head

# (filters, convolutions) of each block
BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


def build(input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Build VGG-16 (Simonyan and Zisserman 2014, configuration D) with two dense layers of 4096.

    33,616,581 parameters on 48x48x1 images and 5 classes; sides must be at least 32.
    """
    head = dense_head(num_classes, units=(4096, 4096), dropout=0.5)
    return chain("vgg", input_shape, [*convolution_blocks(), *head])


def convolution_blocks() -> Iterator[Layer]:
    """Yield five blocks of padded 3x3 convolutions, each halved by max pooling."""
    for block, (filters, convolutions) in enumerate(BLOCKS, start=1):
        for number in range(1, convolutions + 1):
            yield ZeroPadding2D(1, name=f"block{block}_padding{number}")
            yield Conv2D(filters, 3, activation="relu", name=f"block{block}_conv{number}")
        yield MaxPooling2D(2, name=f"block{block}_pool")
