"""The Fashion-MNIST report's ResNet: 18 weight layers and three projecting shortcuts.

It differs from He and others (2015) in dropout after every activation but the stem's, in shortcuts
without batch normalization, and in average pooling of 2x2 before the classes.
"""

from collections.abc import Callable
from functools import partial

import keras
from keras import layers

from refit.models.layers import predictions

FILTERS = (64, 128, 256, 512)
UNITS_PER_BLOCK = 2


def build(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    max_pool: bool = False,
    dropout: float = 0.25,
) -> keras.Model:
    """Build ResNet models 1 to 3 (11,183,621 parameters on 28x28x1 images and 5 classes).

    `max_pool` (model 2) pools after the stem and leaves out the fourth block, whose map of 1x1 the
    final pooling could not halve: 2,782,981 parameters. The report does not state the `dropout`
    rate. The convolutions' kernels have an L2 penalty, which is part of the model's loss.
    """
    convolution = partial(
        layers.Conv2D,
        padding="same",
        kernel_initializer="he_normal",
        kernel_regularizer=keras.regularizers.L2(1e-4),
    )
    inputs = keras.Input(input_shape, name="images")
    outputs = convolution(FILTERS[0], 7, strides=2, name="stem_conv")(inputs)
    outputs = layers.BatchNormalization(name="stem_normalization")(outputs)
    outputs = layers.Activation("relu", name="stem_relu")(outputs)
    if max_pool:
        outputs = layers.MaxPooling2D(3, strides=2, padding="same", name="stem_pool")(outputs)
    for block, filters in enumerate(FILTERS[:-1] if max_pool else FILTERS, start=1):
        for unit in range(1, UNITS_PER_BLOCK + 1):
            outputs = residual_unit(outputs, block, unit, filters, convolution, dropout)
    outputs = layers.AveragePooling2D(2, name="pool")(outputs)
    outputs = layers.Flatten(name="flatten")(outputs)
    outputs = predictions(num_classes, kernel_initializer="he_normal")(outputs)
    return keras.Model(inputs, outputs, name="resnet")


def residual_unit(
    inputs: keras.KerasTensor,
    block: int,
    unit: int,
    filters: int,
    convolution: Callable[..., layers.Layer],
    dropout: float,
) -> keras.KerasTensor:
    """Add two convolutions to their own input; the first unit of blocks 2 and up halves the map."""
    halve = block > 1 and unit == 1
    stride = 2 if halve else 1
    name = f"block{block}_unit{unit}"
    residual = convolution(filters, 3, strides=stride, name=f"{name}_conv1")(inputs)
    residual = layers.BatchNormalization(name=f"{name}_normalization1")(residual)
    residual = layers.Activation("relu", name=f"{name}_relu1")(residual)
    residual = layers.Dropout(dropout, name=f"{name}_dropout1")(residual)
    residual = convolution(filters, 3, name=f"{name}_conv2")(residual)
    residual = layers.BatchNormalization(name=f"{name}_normalization2")(residual)
    shortcut = inputs
    if halve:
        shortcut = convolution(filters, 1, strides=2, name=f"block{block}_shortcut")(inputs)
    outputs = layers.Add(name=f"{name}_add")([shortcut, residual])
    outputs = layers.Activation("relu", name=f"{name}_relu2")(outputs)
    return layers.Dropout(dropout, name=f"{name}_dropout2")(outputs)
