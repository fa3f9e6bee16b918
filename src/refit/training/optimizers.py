"""Keras optimizers from their declarations, with what Keras 3 or PyTorch changed restored."""

from typing import Any

import keras
import numpy as np

from refit.experiments.trial import Optimizer


class DecayingSGD(keras.optimizers.SGD):
    """SGD with Keras 2's time decay and PyTorch's weight decay.

    Step t uses learning_rate / (1 + decay * t). Keras 3 removed `decay`, and its schedules cannot
    be combined with ReduceLROnPlateau, which sets the learning rate itself; here the decay acts on
    whatever rate is set. The gradient becomes g + l2 * w, so that the penalty is l2 / 2 * |w|²;
    Keras's own weight decay is another where there is momentum.
    """

    def __init__(self, *args: Any, decay: float = 0.0, l2: float = 0.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.decay = decay
        self.l2 = l2

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        steps = keras.ops.cast(self.iterations, learning_rate.dtype)
        rate = learning_rate / (1.0 + self.decay * steps)
        super().update_step(gradient + self.l2 * variable, variable, rate)


def build(spec: Optimizer) -> keras.optimizers.Optimizer:
    """The Keras optimizer of a declaration, with Keras 2's defaults where they differed."""
    settings: dict[str, Any] = {"learning_rate": spec.learning_rate}
    if spec.name == "adadelta":
        settings["rho"] = spec.rho or 0.95
    if spec.name == "sgd":
        settings |= {"momentum": spec.momentum, "nesterov": spec.nesterov}
        if spec.decay or spec.weight_decay:
            return DecayingSGD(decay=spec.decay, l2=spec.weight_decay, **settings)
    return keras.optimizers.get({"class_name": spec.name, "config": settings})


def build_state(model: keras.Model, label: np.ndarray) -> None:
    """Make what a compiled model keeps beside its weights, given one label, (1,) or (1, classes).

    Where the first step has to make the state of the optimizer or of the metrics, Keras traces that
    step, seconds to minutes of work, twice.
    """
    model.optimizer.build(model.trainable_variables)
    model.compute_metrics(None, label, np.zeros((1, model.output_shape[-1]), np.float32))
    model.reset_metrics()
