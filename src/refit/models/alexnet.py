"""AlexNet as the Fashion-MNIST report trains it: stride 1 in front and no response normalization.

The original's stride 4 would leave too little of a 48x48 image.
"""

import keras
from keras.layers import Conv2D, MaxPooling2D

from refit.models.layers import chain, dense_head


def build(
    input_shape: tuple[int, int, int], num_classes: int, *, dropout: float = 0.5
) -> keras.Model:
    """Build AlexNet (Krizhevsky, Sutskever and Hinton 2012) with the report's changes.

    29,967,045 parameters on 48x48x1 images and 5 classes. `dropout` is the rate after both dense
    layers.
    """
    same = {"padding": "same", "activation": "relu"}
    convolutions = [
        Conv2D(96, 11, activation="relu", name="block1_conv1"),
        MaxPooling2D(3, 2, name="block1_pool"),
        Conv2D(256, 5, **same, name="block2_conv1"),
        MaxPooling2D(3, 2, name="block2_pool"),
        Conv2D(384, 3, **same, name="block3_conv1"),
        Conv2D(384, 3, **same, name="block3_conv2"),
        Conv2D(256, 3, **same, name="block3_conv3"),
        MaxPooling2D(3, 2, name="block3_pool"),
    ]
    head = dense_head(num_classes, units=(4096, 4096), dropout=dropout)
    return chain("alexnet", input_shape, [*convolutions, *head])
