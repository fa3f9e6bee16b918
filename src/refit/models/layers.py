"""What the architectures share, and a built model as plain data.

The plain data can be stored as JSON beside a trial's results, so that a page shows the reports'
layer tables without importing Keras.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import keras
from keras.layers import Dense, Dropout, Flatten, Layer


def chain(name: str, input_shape: tuple[int, ...], layers: Iterable[Layer]) -> keras.Model:
    """Connect layers one after another into a functional model."""
    inputs = outputs = keras.Input(input_shape, name="images")
    for layer in layers:
        outputs = layer(outputs)
    return keras.Model(inputs, outputs, name=name)


def dense_head(
    num_classes: int, units: Iterable[int], activation: str = "relu", dropout: float | None = None
) -> Iterator[Layer]:
    """Yield flattening, hidden dense layers, each with dropout unless None, and the softmax."""
    yield Flatten(name="flatten")
    for number, width in enumerate(units, start=1):
        yield Dense(width, activation=activation, name=f"dense{number}")
        if dropout is not None:
            yield Dropout(dropout, name=f"dense{number}_dropout")
    yield predictions(num_classes)


def predictions(num_classes: int, **options: Any) -> Layer:
    """Return the layer every network ends with: class probabilities by softmax."""
    return Dense(num_classes, activation="softmax", name="predictions", **options)


def layer_table(model: keras.Model) -> list[dict[str, Any]]:
    """Describe a model layer by layer, the input left out, in the order of Keras' own summary.

    Each row holds `name`, `type` (Keras class), `output_shape` (list, without the batch) and
    `parameters` (count, trainable or not).
    """
    return [
        {
            "name": layer.name,
            "type": type(layer).__name__,
            # A network that was searched may know its sizes as NumPy's numbers.
            "output_shape": [side and int(side) for side in layer.output.shape[1:]],
            "parameters": int(layer.count_params()),
        }
        for layer in model.layers
        if not isinstance(layer, keras.layers.InputLayer)
    ]


def parameter_counts(model: keras.Model) -> dict[str, int]:
    """Count a model's weights under the names that the results table uses."""
    total = int(model.count_params())
    trainable = sum(int(math.prod(weight.shape)) for weight in model.trainable_weights)
    return {
        "total_params": total,
        "trainable_params": trainable,
        "non_trainable_params": total - trainable,
    }


def multiplications(model: keras.Model) -> int:
    """Count the multiplications with weights of one image's way through convolutions and dense
    layers: what the time of a step is proportional to, roughly."""
    total = 0
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            total += multiplications(layer)
        elif isinstance(layer, keras.layers.TimeDistributed):
            total += layer.output.shape[1] * multiplications(layer.layer)
        elif isinstance(layer, keras.layers.RNN):
            weights = sum(math.prod(weight.shape) for weight in layer.weights if weight.ndim > 1)
            total += layer.input.shape[1] * weights
        elif (kernel := getattr(layer, "kernel", None)) is not None:
            places = layer.output.shape[1:-1]
            total += math.prod(kernel.shape) * math.prod(places)
    return total
