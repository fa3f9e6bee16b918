"""The two kinds of network of the gesture report, for clips: Conv3D, and Conv2D with a recurrent
layer.

The report prints neither layers nor parameters, only how many layers there are: 21 and 4.
"""

from collections.abc import Iterator, Sequence

import keras
from keras import layers

from refit.models.layers import chain, predictions

# Of batch normalisation: with Keras's own 0.99 the first ten epochs of 20 steps are validated with
# averages that are still those of the first weights.
MOMENTUM = 0.9


def build_conv3d(
    input_shape: tuple[int, int, int, int],
    num_classes: int,
    *,
    filters: Sequence[int] = (8, 16, 32, 64),
    units: int = 128,
) -> keras.Model:
    """Build a Conv3D network on clips (frames, height, width, channels); 21 layers, as published.

    Four blocks of convolution, batch normalisation, ReLU and pooling, then two dense layers. The
    first block pools frames in space only. All kernels have an L2 penalty: the published losses are
    far above what cross-entropy alone can be at their accuracies.
    """
    penalty = keras.regularizers.L2(0.01)

    def stack() -> Iterator[layers.Layer]:
        for number, width in enumerate(filters, start=1):
            name = f"block{number}"
            pool = (1, 2, 2) if number == 1 else 2
            yield layers.Conv3D(
                width, 3, padding="same", kernel_regularizer=penalty, name=f"{name}_conv"
            )
            yield layers.BatchNormalization(momentum=MOMENTUM, name=f"{name}_normalization")
            yield layers.Activation("relu", name=f"{name}_relu")
            yield layers.MaxPooling3D(pool, padding="same", name=f"{name}_pool")
        yield layers.Flatten(name="flatten")
        yield layers.Dense(units, activation="relu", kernel_regularizer=penalty, name="dense")
        yield layers.BatchNormalization(momentum=MOMENTUM, name="dense_normalization")
        yield layers.Dropout(0.5, name="dense_dropout")
        yield predictions(num_classes, kernel_regularizer=penalty)

    return chain("conv3d", input_shape, stack())


def build_conv2d_rnn(
    input_shape: tuple[int, int, int, int],
    num_classes: int,
    *,
    filters: Sequence[int] = (16, 32, 64),
    units: int = 64,
) -> keras.Model:
    """Build a Conv2D network that is applied to every frame, then a GRU over the frames; 4 layers.

    The convolutions are one layer of the network, wrapped to be distributed over time. What they
    find stays where it is in the frame: an average over places would hide every movement.
    """
    frame_shape = input_shape[1:]

    def frame_stack() -> Iterator[layers.Layer]:
        for number, width in enumerate(filters, start=1):
            name = f"block{number}"
            yield layers.Conv2D(width, 3, padding="same", name=f"{name}_conv")
            yield layers.BatchNormalization(momentum=MOMENTUM, name=f"{name}_normalization")
            yield layers.Activation("relu", name=f"{name}_relu")
            yield layers.MaxPooling2D(2, padding="same", name=f"{name}_pool")
        yield layers.Flatten(name="flatten")

    def stack() -> Iterator[layers.Layer]:
        yield layers.TimeDistributed(chain("frame", frame_shape, frame_stack()), name="frames")
        yield layers.GRU(units, name="gru")
        yield layers.Dropout(0.25, name="dropout")
        yield predictions(num_classes)

    return chain("conv2d_rnn", input_shape, stack())
