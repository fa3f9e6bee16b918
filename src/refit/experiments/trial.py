"""One training with every setting fixed: what a run directory is named after.

A trial's identity is a hash of what the training means, so that a result is found again wherever
the trial stands in a list, and is never taken for another after a setting has changed.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from refit.data.spec import DataSpec
from refit.experiments.metrics import Name, Strict, filled

# The model of trials that are searches, and the optional package that runs them.
AUTOKERAS = "autokeras"
# Where trials are trained: on this machine, or on the nodes of a Ray cluster.
LOCAL, RAY = EXECUTORS = ("local", "ray")


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

    With `file`, the whole model is kept under that name, filled in as Keras's ModelCheckpoint does:
    `model-{epoch:05d}-{val_loss:.5f}.h5`.
    """

    name: Literal["keep_best"]
    monitor: Literal["val_accuracy"] = "val_accuracy"
    at_least: float = Field(0.0, ge=0, le=1)
    file: str = ""

    @field_validator("file")
    @classmethod
    def _file_fits(cls, file: str) -> str:
        known = ("loss", "accuracy", "val_loss", "val_accuracy")
        name = filled(file, {"epoch": 1} | dict.fromkeys(known, 0.5))
        if name and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*\.h5", name):
            raise ValueError(f"{file!r} does not give the name of a file, ending in .h5")
        return file


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
    """Start from the weights with which a trial ended, with a new optimizer; `run` as above."""

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

# Part of every trial's identity: raise it when the same settings come to mean another training.
TRAINING_VERSION = 1
# An entry's `repetition` moves its seeds by so much, beyond any number of replicates.
SEED_STEP = 10_000
LABELS = {"sweep", "name", "title", "published_epochs", "altered"}


class Trial(Strict):
    """One training with everything fixed. Plain data: it travels to other processes as JSON.

    LABELS say where it belongs; the rest is what the training means and enters its identity.
    Settings at their default do not, so that a setting added later leaves old results valid.

    With `shuffle` every epoch has an order of its own, drawn from the seed; `record_batches` keeps
    loss and accuracy of every training batch; `test_batch_size` also measures the mean of the test
    accuracies of batches of that size, which some reports take for the accuracy;
    `evaluate_untrained` measures the network before its first step, and `evaluate_train` the
    training images after every epoch, with dropout off. `keep_base` and `keep_weights` keep what
    other trials start from.
    """

    sweep: Name
    name: Name
    title: str
    published_epochs: PositiveInt
    altered: bool = False
    data: DataSpec
    model: Model
    optimizer: Optimizer
    callbacks: tuple[Callback, ...] = ()
    epochs: Annotated[int, Field(gt=0, strict=True)]
    batch_size: PositiveInt
    seed: int
    shuffle: bool = False
    record_batches: bool = False
    test_batch_size: PositiveInt | None = None
    evaluate_untrained: bool = False
    evaluate_train: bool = False
    pretrained: Pretrained | None = None
    fine_tuning: FineTuning | None = None
    keep_base: bool = False
    carried_over: CarriedOver | None = None
    keep_weights: bool = False

    @model_validator(mode="after")
    def _phases_fit(self) -> "Trial":
        if self.carried_over and self.pretrained:
            raise ValueError("carried_over: the weights cannot be pretrained ones as well")
        if self.fine_tuning and not self.pretrained:
            raise ValueError("fine_tuning: needs weights to start from; give pretrained too")
        if self.fine_tuning and self.fine_tuning.after >= self.epochs:
            raise ValueError(
                f"fine_tuning.after: is {self.fine_tuning.after}, and {self.epochs} epochs leave "
                "none to fine-tune in"
            )
        return self

    @property
    def digest(self) -> str:
        """Ten hexadecimal digits of the hash of what the training means."""
        meaning = self.model_dump(mode="json", exclude_defaults=True, exclude=LABELS)
        text = json.dumps([TRAINING_VERSION, meaning], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    def __hash__(self) -> int:
        return int(self.digest, 16)

    def with_seed(self, seed: int) -> "Trial":
        """The same training with another seed, which draws its images anew if it draws any."""
        drawn = {} if self.data.draw_seed is None else {"draw_seed": seed}
        return self.model_copy(update={"seed": seed, "data": self.data.model_copy(update=drawn)})

    @property
    def evaluation_batch(self) -> int:
        """How many images are evaluated at once: the result does not depend on it, memory does.

        Many are fast, and few enough for VGG-16; fewer where each is large."""
        large = self.data.image_size**2 * (self.data.frames or 1) > 96**2
        return min(32, self.batch_size) if large else 250

    @property
    def starts_from(self) -> str:
        """The run directory of the trial whose weights this one starts from; empty without one."""
        start = self.carried_over or self.pretrained
        return start.run if start else ""

    @property
    def directory(self) -> Path:
        """The run directory, relative to the experiment's folder of one profile."""
        return Path(self.sweep) / f"{self.name}-seed{self.seed}-{self.digest}"

    def hyper_parameters(self) -> dict[str, bool | int | float | str]:
        """The settings, flat, for tables and for TensorBoard's HParams tab."""
        flat: dict[str, Any] = {"trial": self.name, "model": self.model.name}
        flat |= {f"model.{name}": value for name, value in self.model.options.items()}
        optimizer = self.optimizer.model_dump(exclude_none=True)
        flat |= {"optimizer": optimizer.pop("name")}
        flat |= {f"optimizer.{name}": value for name, value in optimizer.items()}
        used = {callback.name: callback for callback in self.callbacks}
        flat["reduce_lr_on_plateau"] = "reduce_lr_on_plateau" in used
        if flat["reduce_lr_on_plateau"]:
            flat["reduce_lr_on_plateau.factor"] = used["reduce_lr_on_plateau"].factor
        if "stop_at_target" in used:
            flat["target"] = used["stop_at_target"].target
        if "stop_when_stagnant" in used:
            flat["stop_when_stagnant.patience"] = used["stop_when_stagnant"].patience
        if "keep_best" in used:
            flat["keep_best.at_least"] = used["keep_best"].at_least
        if self.pretrained:
            flat["pretrained"] = self.pretrained.weights or self.pretrained.trial
        if self.carried_over:
            flat["carried_over"] = self.carried_over.trial
        tuning = self.fine_tuning.model_dump() if self.fine_tuning else {}
        flat |= {f"fine_tuning.{name}": value for name, value in tuning.items()}
        flat |= {name: getattr(self, name) for name in ("epochs", "batch_size", "seed")}
        plain = (bool, int, float, str)
        return {key: v if isinstance(v, plain) else json.dumps(v) for key, v in flat.items()}


def is_setting(name: str) -> bool:
    """Whether a hyper-parameter, by its column in a log's results, is one to compare by."""
    alone = ("batch_size", "published_epochs", "reduce_lr_on_plateau.factor")
    return name.split(".")[0] in ("model", "optimizer") or name in alone
