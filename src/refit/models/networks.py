"""The networks of the reports, by name, so that a declaration can say which one a trial trains.

Every factory takes `(input_shape, num_classes, **options)` and returns an uncompiled functional
model whose layer names read as an address (`block1_conv1`) and whose last layer is `predictions`.
Importing this package imports Keras.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras

from refit.errors import DeclarationError
from refit.models import (
    alexnet,
    cifar,
    cnn,
    conv_pair,
    gesture,
    handwritten,
    lenet,
    resnet,
    transfer,
    vgg,
)

ARCHITECTURES: dict[str, Callable[..., keras.Model]] = {
    "cnn": cnn.build,
    "vgg": vgg.build,
    "alexnet": alexnet.build,
    "lenet": lenet.build,
    "lenet_wide": lenet.build_wide,
    "resnet": resnet.build,
    "conv_pair": conv_pair.build,
    "mlp": cifar.build_mlp,
    "cifar_cnn": cifar.build_cnn,
    "handwritten": handwritten.build,
    "mobilenet_v2": transfer.build_mobilenet_v2,
    "inception_v3": transfer.build_inception_v3,
    "conv3d": gesture.build_conv3d,
    "conv2d_rnn": gesture.build_conv2d_rnn,
}


def build(name: str, input_shape: Sequence[int], num_classes: int, **options: Any) -> keras.Model:
    """Build one architecture, uncompiled, with freshly drawn weights.

    The model maps float images `(batch, height, width, channels)`, or clips `(batch, frames,
    height, width, channels)`, in 0..1 to class probabilities `(batch, num_classes)`; `input_shape`
    is without the batch. Raises DeclarationError where name, options and shape do not make a
    network, such as an image too small for the poolings.
    """
    try:
        model = ARCHITECTURES[name](tuple(input_shape), num_classes, **options)
        if empty := [layer.name for layer in model.layers if 0 in layer.output.shape]:
            raise ValueError(f"nothing is left after '{empty[0]}'; larger images are needed")
    except (TypeError, ValueError, ArithmeticError, LookupError) as error:
        raise DeclarationError(
            f"model '{name}' on images of shape {tuple(input_shape)} with options {options} cannot "
            f"be built: {error}"
        ) from error
    return model
