"""Networks for transfer learning: a known base, and a new head for the classes at hand."""

from collections.abc import Callable

import keras
from keras import layers

from refit.models.layers import predictions

BASE = "base"


def build_mobilenet_v2(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    alpha: float = 1.0,
    normalization_momentum: float = 0.999,
) -> keras.Model:
    """Build MobileNetV2 (Sandler et al. 2018) with a new head: a base of 154 layers, 2,257,984
    parameters and 1,280 features at `alpha` 1, which scales the widths.

    Keras's own momentum of its batch normalisation, 0.999, averages over thousands of steps; a
    network that learns from scratch in fewer guesses in evaluation however well it has learned.
    See `_build` for the head. Images have at least 32 pixels on a side.
    """

    def base(shape: tuple[int, int, int]) -> keras.Model:
        network = keras.applications.MobileNetV2(
            input_shape=shape, alpha=alpha, include_top=False, weights=None, name=BASE
        )
        for layer in network.layers:
            if isinstance(layer, layers.BatchNormalization):
                layer.momentum = normalization_momentum
        return network

    return _build("mobilenet_v2", base, input_shape, num_classes)


def build_inception_v3(input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Build InceptionV3 (Szegedy et al. 2016) with a new head: a base of 311 layers, 21,802,784
    parameters and 2,048 features.

    See `_build` for the head. Images have at least 75 pixels on a side.
    """

    def base(shape: tuple[int, int, int]) -> keras.Model:
        return keras.applications.InceptionV3(
            input_shape=shape, include_top=False, weights=None, name=BASE
        )

    return _build("inception_v3", base, input_shape, num_classes)


def _build(
    name: str,
    base: Callable[[tuple[int, int, int]], keras.Model],
    input_shape: tuple[int, int, int],
    num_classes: int,
) -> keras.Model:
    """Augmentation, preprocessing, base, global average pooling, dropout, prediction.

    Augmented images are mirrored at random and turned by up to a fifth of a circle; both bases want
    pixels in -1..1.
    """
    inputs = outputs = keras.Input(input_shape, name="images")
    outputs = layers.RandomFlip("horizontal", name="augment_flip")(outputs)
    # XLA has no kernel for it, so on a GPU Keras compiles the other networks, but not these.
    outputs = layers.RandomRotation(0.2, name="augment_rotation")(outputs)
    outputs = layers.Rescaling(2.0, -1.0, name="normalize")(outputs)
    outputs = base(input_shape)(outputs)
    outputs = layers.GlobalAveragePooling2D(name="pool")(outputs)
    outputs = layers.Dropout(0.4, name="dropout")(outputs)
    outputs = predictions(num_classes)(outputs)
    return keras.Model(inputs, outputs, name=name)
