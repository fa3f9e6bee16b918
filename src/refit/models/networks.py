"""The networks of the reports, by name, so that a declaration can say which one a trial trains.

Every factory takes `(input_shape, num_classes, **options)` and returns an uncompiled functional
model whose layer names read as an address (`block1_conv1`) and whose last layer is `predictions`.
Importing this package imports Keras.
"""

import inspect
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

    The model maps float images `(batch, height, width, channels)` in 0..1 to class probabilities
    `(batch, num_classes)`. `input_shape` is `(height, width, channels)`; `default_options` lists
    what else can be set. Raises DeclarationError for an unknown name or option, and where the
    values do not make a network, such as an image too small for the poolings.
    """
    known = default_options(name)
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise DeclarationError(
            f"model '{name}' has no option {', '.join(map(repr, unknown))}; "
            f"its options are: {', '.join(known) or 'none'}"
        )
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


def default_options(name: str) -> dict[str, Any]:
    """Return an architecture's options with their defaults.

    Raises DeclarationError for an unknown name.
    """
    if name not in ARCHITECTURES:
        raise DeclarationError(
            f"unknown model '{name}'; the models are: {', '.join(ARCHITECTURES)}"
        )
    parameters = inspect.signature(ARCHITECTURES[name]).parameters.values()
    return {
        option.name: option.default for option in parameters if option.kind is option.KEYWORD_ONLY
    }
