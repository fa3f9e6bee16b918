"""Layers as PyTorch makes them by default, for reports whose networks were trained there.

Keras starts weights and biases from other distributions and normalises batches with other
constants, which changes how a network trains from its first step on.
"""

import math
from typing import Any

from keras.initializers import RandomUniform, VarianceScaling
from keras.layers import BatchNormalization


def torch_normalization(**options: Any) -> BatchNormalization:
    """`torch.nn.BatchNorm1d` and `2d`: epsilon 1e-5, a tenth of every new batch in the averages.

    PyTorch averages the unbiased variance, Keras the biased one; with a batch of 32 they differ by
    3 % in evaluation mode.
    """
    return BatchNormalization(momentum=0.9, epsilon=1e-5, **options)


def torch_start(fan_in: int) -> dict[str, Any]:
    """The initializers of `torch.nn.Linear(fan_in, …)` and, with the fan-in channels * kernel², of
    `torch.nn.Conv2d`: weights and biases uniform in ± 1 / sqrt(fan_in)."""
    bound = 1 / math.sqrt(fan_in)
    return {
        "kernel_initializer": VarianceScaling(1 / 3, "fan_in", "uniform"),
        "bias_initializer": RandomUniform(-bound, bound),
    }
