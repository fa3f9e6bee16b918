"""What one training can be told: network, optimizer, callbacks, where weights come from."""

import re
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from refit.vocabulary import Strict, filled

# The model of trials that are searches, and the optional package that runs them.
AUTOKERAS = "autokeras"
# What to do where a batch does not fit into memory.
FAIL, ACCUMULATE, SMALLER = OUT_OF_MEMORY = ("fail", "accumulate", "smaller")
# What a network computes in. Its variables, its dropouts and its last layer are always float32.
FLOAT32, BFLOAT16 = PRECISIONS = ("float32", "bfloat16")
# Where trials are trained: on this machine, or on the nodes of a Ray cluster.
LOCAL, RAY = EXECUTORS = ("local", "ray")
# Whether trials that differ in numbers only are trained together, as one program on JAX: where
# there is a GPU, or as said.
AUTO, ALWAYS, NEVER = FUSED = ("auto", "always", "never")


class Model(Strict):
    """A factory of `refit.models` and its options."""

    name: str
    options: dict[str, Any] = {}


class Optimizer(Strict):
    """An optimizer with every setting that the reports vary.

    `decay` is Keras 2's time decay: the rate of step t is learning_rate / (1 + decay * t).
    `weight_decay` is PyTorch's: that multiple of every variable, biases too, joins its gradient.
    """

    name: Literal["sgd", "adam", "adadelta", "adagrad", "adamax", "ftrl", "nadam", "rmsprop"]
    learning_rate: PositiveFloat
    momentum: float = Field(0.0, ge=0, lt=1)
    nesterov: bool = False
    decay: float = Field(0.0, ge=0)
    weight_decay: float = Field(0.0, ge=0)
    rho: float | None = Field(None, gt=0, lt=1)

    @model_validator(mode="after")
    def _options_fit(self) -> "Optimizer":
        for setting in ("momentum", "nesterov", "decay", "weight_decay"):
            if self.name != "sgd" and getattr(self, setting):
                raise ValueError(f"{setting} belongs to sgd, not to {self.name}")
        if self.name != "adadelta" and self.rho is not None:
            raise ValueError(f"rho belongs to adadelta, not to {self.name}")
        return self


class StopAtTarget(Strict):
    """End the training after the first epoch whose `monitor` reaches `target`.

    The epochs of the trial are then the most that it may take to get there.
    """

    name: Literal["stop_at_target"]
    monitor: Literal["accuracy", "val_accuracy"] = "accuracy"
    target: float = Field(gt=0, le=1)


class StopWhenStagnant(Strict):
    """End the training when `monitor` has not risen for `patience` epochs, first after one more.

    The rule of the CIFAR-10 report's code. Where the untrained network is evaluated, its accuracy
    is the first that must be surpassed.
    """

    name: Literal["stop_when_stagnant"]
    monitor: Literal["val_accuracy"] = "val_accuracy"
    patience: PositiveInt


class KeepBest(Strict):
    """Keep the weights of the epoch with the highest `monitor`, if it reaches `at_least`.

    With `file`, the whole model is kept in a file of that name, in whose braces the epoch and its
    curves are put, as Keras's ModelCheckpoint does: `model-{epoch:05d}-{val_loss:.5f}.h5`.
    """

    name: Literal["keep_best"]
    monitor: Literal["val_accuracy"] = "val_accuracy"
    at_least: float = Field(0.0, ge=0, le=1)
    file: str = ""

    @model_validator(mode="after")
    def _file_fits(self) -> "KeepBest":
        known = ("loss", "accuracy", "val_loss", "val_accuracy")
        try:
            name = filled(self.file, {"epoch": 1} | dict.fromkeys(known, 0.5))
        except ValueError as error:
            raise ValueError(f"file: {error}") from error
        if name and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*\.h5", name):
            raise ValueError(f"file: {self.file!r} does not give the name of a file, ending in .h5")
        return self


class ReduceOnPlateau(Strict):
    """Keras's ReduceLROnPlateau: multiply the rate by `factor` after `patience` stagnant epochs."""

    name: Literal["reduce_lr_on_plateau"]
    monitor: Literal["val_accuracy", "val_loss", "accuracy", "loss"] = "val_accuracy"
    factor: float = Field(gt=0, lt=1)
    patience: PositiveInt
    min_lr: float = Field(0.0, ge=0)


class Pretrained(Strict):
    """Where the base of a network has its first weights from, and stays frozen.

    `weights` is `imagenet` or the name of a file in DATA_DIR; `trial` is one of the same experiment
    that keeps its base, and `run` its run directory, filled in when the experiment is expanded.
    """

    weights: str = ""
    trial: str = ""
    run: str = ""

    @model_validator(mode="after")
    def _one_source(self) -> "Pretrained":
        if bool(self.weights) == bool(self.trial):
            raise ValueError("give either weights or trial")
        return self


class CarriedOver(Strict):
    """Start from the weights with which `trial` ended, with a new optimizer.

    The trial is one of the same experiment that keeps its weights; `run` is its run directory,
    filled in when the experiment is expanded.
    """

    trial: str
    run: str = ""


class FineTuning(Strict):
    """The second phase of a transfer: the base learns too, at a rate of its own.

    It begins after epoch `after`; `from_layer` is the first of the base's layers, counted from 0 as
    Keras lists them, that is trained. Batch normalisation stays frozen, in inference mode.
    """

    after: PositiveInt
    from_layer: int = Field(ge=0)
    learning_rate: PositiveFloat


Callback = Annotated[
    ReduceOnPlateau | StopAtTarget | StopWhenStagnant | KeepBest, Field(discriminator="name")
]
