"""LeNet-5 in the Fashion-MNIST report's two forms: near the original, and widened with relu.

The report's text describes poolings of 5x5 and a dense layer of 1x1 filters; these are the layers
of its code, which its printed parameter counts confirm.
"""

import keras
from keras.layers import AveragePooling2D, Conv2D, MaxPooling2D

from refit.models.layers import chain, dense_head


def build(
    input_shape: tuple[int, int, int], num_classes: int, *, activation: str = "tanh"
) -> keras.Model:
    """Build LeNet-5 (LeCun and others 1998) with the report's first pooling of stride 1.

    245,601 parameters on 28x28x1 images and 5 classes.
    """
    convolutions = [
        Conv2D(6, 5, padding="same", activation=activation, name="block1_conv1"),
        AveragePooling2D(2, strides=1, name="block1_pool"),
        Conv2D(16, 5, activation=activation, name="block2_conv1"),
        AveragePooling2D(2, name="block2_pool"),
    ]
    head = dense_head(num_classes, units=(120, 84), activation=activation)
    return chain("lenet", input_shape, [*convolutions, *head])


def build_wide(
    input_shape: tuple[int, int, int], num_classes: int, *, activation: str = "relu"
) -> keras.Model:
    """Build the report's widened LeNet-5 with max pooling.

    368,749 parameters on 28x28x1 images and 5 classes.
    """
    convolutions = [
        Conv2D(32, 5, padding="same", activation=activation, name="block1_conv1"),
        MaxPooling2D(2, name="block1_pool"),
        Conv2D(48, 5, activation=activation, name="block2_conv1"),
        MaxPooling2D(2, name="block2_pool"),
    ]
    head = dense_head(num_classes, units=(256, 84), activation=activation)
    return chain("lenet_wide", input_shape, [*convolutions, *head])
