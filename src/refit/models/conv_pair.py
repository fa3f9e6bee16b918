"""Two convolutions and a dense layer, without pooling: the network of the Fashion-MNIST grids."""

from collections.abc import Iterator
from typing import Literal

import keras
from keras.layers import Conv2D, Dense, Flatten, Layer

from refit.models.layers import chain, predictions


def build(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    filters1: int = 16,
    kernel1: int = 3,
    filters2: int = 16,
    kernel2: int = 3,
    dense: int = 100,
    padding: Literal["valid", "same"] = "valid",
    initializer: Literal["glorot_uniform", "glorot_normal", "he_uniform"] = "glorot_uniform",
    deeper_by: int = 0,
) -> keras.Model:
    """Build the two-convolution network (925,190 parameters on 28x28x1 images and 10 classes).

    Convolutions and the dense layer end in ReLU; all biases start at zero. The report names its
    initializers Xavier and Kaiming, which Keras calls Glorot and He; Keras's normal one is
    truncated at two standard deviations and widened to the same variance. `deeper_by` adds 3x3
    convolutions of `filters2` filters that keep the size, for a control that the report lacks.
    """
    start = {"activation": "relu", "kernel_initializer": initializer}

    def stack() -> Iterator[Layer]:
        yield Conv2D(filters1, kernel1, padding=padding, name="conv1", **start)
        yield Conv2D(filters2, kernel2, padding=padding, name="conv2", **start)
        for number in range(3, 3 + deeper_by):
            yield Conv2D(filters2, 3, padding="same", name=f"conv{number}", **start)
        yield Flatten(name="flatten")
        yield Dense(dense, name="dense1", **start)
        yield predictions(num_classes, kernel_initializer=initializer)

    return chain("conv_pair", input_shape, stack())
