"""The Fashion-MNIST report's own network: two blocks of two convolutions and one dense layer.

Its seven models differ in training, in the last dropout (model 3), in a LeakyReLU (model 4) and in
batch normalization (model 7); these, and what the controls vary, are options.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import keras
from keras import layers

from refit.models.layers import chain, predictions

FILTERS = (32, 64)
DROPOUT = 0.25
DENSE_UNITS = 256
NEGATIVE_SLOPE = 0.1


def build(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    kernel_sizes: Sequence[int] = (5, 3),
    last_dropout: float = 0.25,
    activation: str = "relu",
    leaky_relu: Literal["after_relu", "instead"] | None = None,
    batch_normalization: bool = False,
) -> keras.Model:
    """Build CNN models 1 to 7 (886,245 parameters on 28x28x1 images and 5 classes).

    `kernel_sizes` has one size per block, in pixels. `leaky_relu="after_relu"` is model 4 as
    written: LeakyReLU of slope 0.1 behind a dense layer that already ends in the activation; behind
    relu it is the identity, which makes model 4 the same function as model 2. `"instead"` puts
    it in the place of that activation, the control that model 4 meant to be. With
    `batch_normalization` (model 7) it follows the activation, where the report's code has it.
    Raises ValueError for other values.
    """
    if not isinstance(kernel_sizes, Sequence) or len(kernel_sizes) != len(FILTERS):
        raise ValueError(f"kernel_sizes is a list of {len(FILTERS)} sizes, not {kernel_sizes!r}")
    if leaky_relu not in (None, "after_relu", "instead"):
        raise ValueError(f"leaky_relu is None, 'after_relu' or 'instead', not {leaky_relu!r}")

    def stack() -> Iterator[layers.Layer]:
        for block, (filters, kernel_size) in enumerate(zip(FILTERS, kernel_sizes, strict=True), 1):
            yield from convolution_block(
                block, filters, kernel_size, activation, batch_normalization
            )
        yield layers.Flatten(name="flatten")
        yield layers.Dense(
            DENSE_UNITS, None if leaky_relu == "instead" else activation, name="dense1"
        )
        if leaky_relu:
            yield layers.LeakyReLU(NEGATIVE_SLOPE, name="dense1_leaky_relu")
        yield layers.Dropout(last_dropout, name="dense1_dropout")
        yield predictions(num_classes)

    return chain("cnn", input_shape, stack())


def convolution_block(
    block: int, filters: int, kernel_size: int, activation: str, batch_normalization: bool
) -> Iterator[layers.Layer]:
    """Yield two convolutions, pooling and dropout.

    The second normalization follows the second convolution in block 1, but the dropout in block 2:
    the report's code, against its text.
    """
    late = block == 2
    for number in (1, 2):
        name = f"block{block}_conv{number}"
        yield layers.Conv2D(filters, kernel_size, padding="same", activation=activation, name=name)
        if batch_normalization and not (late and number == 2):
            yield layers.BatchNormalization(name=f"block{block}_normalization{number}")
    yield layers.MaxPooling2D(2, name=f"block{block}_pool")
    yield layers.Dropout(DROPOUT, name=f"block{block}_dropout")
    if batch_normalization and late:
        yield layers.BatchNormalization(name=f"block{block}_normalization2")
