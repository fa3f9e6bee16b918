"""The multilayer perceptrons and the CNNs of the CIFAR-10 report, with PyTorch's defaults."""

from collections.abc import Iterator, Sequence

import keras
from keras import layers

from refit.models.layers import chain, predictions
from refit.models.torch_layers import torch_normalization, torch_start

KERNEL = 5
HIDDEN = (128, 64)


def build_mlp(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    hidden_layers: int = 3,
    width: int = 256,
    dropout: float = 0.0,
    batch_normalization: bool = False,
) -> keras.Model:
    """Build a perceptron (920,842 parameters with 3 x 256 on 32x32x3 images and 10 classes).

    Pixels 0..1 are first stretched to -1..1, as the report normalises them. Every hidden layer is
    dense, normalised where asked, ReLU, dropout.
    """
    height, depth, channels = input_shape
    if hidden_layers < 1 or width < 1:
        raise ValueError(f"{hidden_layers} hidden layers of {width} units; at least one of one")

    def stack() -> Iterator[layers.Layer]:
        yield layers.Rescaling(2.0, -1.0, name="normalize")
        yield layers.Flatten(name="flatten")
        units = [width] * hidden_layers
        yield from _dense_part(height * depth * channels, units, dropout, batch_normalization)
        yield predictions(num_classes, **torch_start(width))

    return chain("mlp", input_shape, stack())


def build_cnn(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    convolutions: int = 5,
    filters: int = 256,
    dropout: float = 0.0,
    batch_normalization: bool = False,
) -> keras.Model:
    """Build a CNN (6,714,186 parameters with 5 x 256 on 32x32x3 images and 10 classes).

    Every convolution is followed by ReLU, max pooling and a dropout of whole channels, and
    normalised before ReLU where asked; then come two dense layers. Three convolutions and more pad
    by 3 pixels on every side, which lets a map of 32 pixels grow before it is pooled.
    """
    margin = 0 if convolutions == 2 else 3

    def stack() -> Iterator[layers.Layer]:
        yield layers.Rescaling(2.0, -1.0, name="normalize")
        side, channels = input_shape[0], input_shape[2]
        for number in range(1, convolutions + 1):
            if margin:
                yield layers.ZeroPadding2D(margin, name=f"padding{number}")
            start = torch_start(channels * KERNEL**2)
            yield layers.Conv2D(filters, KERNEL, **start, name=f"conv{number}")
            if batch_normalization:
                yield torch_normalization(name=f"conv{number}_normalization")
            yield layers.Activation("relu", name=f"conv{number}_relu")
            yield layers.MaxPooling2D(2, name=f"pool{number}")
            yield layers.SpatialDropout2D(dropout, name=f"pool{number}_dropout")
            side = (side + 2 * margin - KERNEL + 1) // 2
            if side < 1:
                raise ValueError(f"nothing is left after 'pool{number}'; larger images are needed")
            channels = filters
        yield layers.Flatten(name="flatten")
        yield from _dense_part(side * side * channels, HIDDEN, dropout, batch_normalization)
        yield predictions(num_classes, **torch_start(HIDDEN[-1]))

    return chain("cifar_cnn", input_shape, stack())


def _dense_part(
    fan_in: int, units: Sequence[int], dropout: float, batch_normalization: bool
) -> Iterator[layers.Layer]:
    for number, width in enumerate(units, start=1):
        yield layers.Dense(width, **torch_start(fan_in), name=f"dense{number}")
        if batch_normalization:
            yield torch_normalization(name=f"dense{number}_normalization")
        yield layers.Activation("relu", name=f"dense{number}_relu")
        yield layers.Dropout(dropout, name=f"dense{number}_dropout")
        fan_in = width
