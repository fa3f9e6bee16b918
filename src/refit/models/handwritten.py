"""The handwritten CNN of the tuning report: two pairs of convolutions, two dense layers."""

from collections.abc import Iterator

import keras
from keras import layers

from refit.models.layers import chain, predictions


def build(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    activation1: str = "relu",
    activation2: str = "relu",
    activation3: str = "relu",
    activation4: str = "relu",
    filters1: int = 32,
    filters2: int = 32,
    filters3: int = 64,
    filters4: int = 64,
) -> keras.Model:
    """Build the network (3,831,018 parameters on 28x28x1 images and 10 classes).

    Every convolution, two with 5x5 and two with 3x3 kernels, is normalised before its activation;
    max pooling and dropout follow each pair. Behind the dense layers the normalisation comes after
    ReLU, as the report's layer table has it.
    """
    convolutions = (
        ("block1_conv1", filters1, 5, activation1),
        ("block1_conv2", filters2, 5, activation2),
        ("block2_conv1", filters3, 3, activation3),
        ("block2_conv2", filters4, 3, activation4),
    )

    def stack() -> Iterator[layers.Layer]:
        for name, filters, kernel_size, activation in convolutions:
            # Only the first layer is said to start this way; the others have Keras's default.
            start = "he_uniform" if name == "block1_conv1" else "glorot_uniform"
            yield layers.Conv2D(
                filters, kernel_size, padding="same", kernel_initializer=start, name=name
            )
            yield layers.BatchNormalization(name=f"{name}_normalization")
            yield layers.Activation(activation, name=f"{name}_activation")
            if name.endswith("conv2"):
                block = name.partition("_")[0]
                yield layers.MaxPooling2D(2, name=f"{block}_pool")
                yield layers.Dropout(0.3, name=f"{block}_dropout")
        yield layers.Flatten(name="flatten")
        for name, units in (("dense1", 1024), ("dense2", 512)):
            yield layers.Dense(units, activation="relu", name=name)
            yield layers.BatchNormalization(name=f"{name}_normalization")
        yield layers.Dropout(0.2, name="dense2_dropout")
        yield predictions(num_classes)

    return chain("handwritten", input_shape, stack())
