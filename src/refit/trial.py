"""One training with every setting fixed: what a run directory is named after.

A trial's identity is a hash of what the training means, so that a result is found again wherever
the trial stands in a list, and is never taken for another after a setting has changed.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import PositiveInt, model_validator

from refit.data import DataSpec
from refit.settings import (
    FLOAT32,
    Callback,
    CarriedOver,
    FineTuning,
    Model,
    Optimizer,
    Pretrained,
)
from refit.vocabulary import Name, Strict

# Part of every trial's identity: raise it when the same settings come to mean another training.
TRAINING_VERSION = 1
# An entry's `repetition` moves its seeds by so much, beyond any number of replicates.
SEED_STEP = 10_000


class Trial(Strict):
    """One training with everything fixed. Plain data: it travels to other processes as JSON.

    `sweep`, `name`, `title`, `published_epochs` and whether its profile or precision `altered` it
    say where it belongs; the rest is what the training means and enters its identity. Settings at
    their default do not, so that a setting added later leaves old results valid.

    With `shuffle` every epoch has an order of its own, drawn from the seed; `record_batches` keeps
    loss and accuracy of every training batch; `test_batch_size` also measures the mean of the test
    accuracies of batches of that size, which some reports take for the accuracy;
    `evaluate_untrained` measures the network before its first step, and `evaluate_train` the
    training images after every epoch, with dropout off. `pretrained` and `fine_tuning` are about
    networks with a base, and `keep_base` keeps the base's weights for other trials to start from;
    `keep_weights` keeps all of them, for a trial that is `carried_over` from this one. With the
    `precision` bfloat16 the network computes in that, but for dropouts and its last layer, and its
    variables stay float32; no report trained so.
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
    epochs: PositiveInt
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
    precision: Literal["float32", "bfloat16"] = FLOAT32

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
        labels = {"sweep", "name", "title", "published_epochs", "altered"}
        meaning = self.model_dump(mode="json", exclude_defaults=True, exclude=labels)
        text = json.dumps([TRAINING_VERSION, meaning], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    def __hash__(self) -> int:
        return int(self.digest, 16)

    @property
    def source(self) -> str:
        """The run directory of the trial whose weights this one starts from; empty without one."""
        start = self.carried_over or self.pretrained
        return start.run if start else ""

    @property
    def directory(self) -> Path:
        """The run directory, relative to the experiment's folder of one profile."""
        return Path(self.sweep) / f"{self.name}-seed{self.seed}-{self.digest}"

    def hyper_parameters(self) -> dict[str, bool | int | float | str]:
        """The settings, flat, for tables and for TensorBoard's HParams tab.

        The precision is there only where it is not float32.
        """
        flat: dict[str, Any] = {"trial": self.name, "model": self.model.name}
        flat |= {f"model.{name}": value for name, value in self.model.options.items()}
        optimizer = self.optimizer.model_dump(exclude_none=True)
        flat |= {"optimizer": optimizer.pop("name")}
        flat |= {f"optimizer.{name}": value for name, value in optimizer.items()}
        used = {callback.name: callback for callback in self.callbacks}
        flat |= {"reduce_lr_on_plateau": "reduce_lr_on_plateau" in used}
        if "reduce_lr_on_plateau" in used:
            flat |= {"reduce_lr_on_plateau.factor": used["reduce_lr_on_plateau"].factor}
        if "stop_at_target" in used:
            flat |= {"target": used["stop_at_target"].target}
        if self.pretrained:
            flat |= {"pretrained": self.pretrained.weights or self.pretrained.trial}
        if self.carried_over:
            flat |= {"carried_over": self.carried_over.trial}
        if self.fine_tuning:
            tuning = self.fine_tuning.model_dump()
            flat |= {f"fine_tuning.{name}": value for name, value in tuning.items()}
        if self.precision != FLOAT32:
            flat |= {"precision": self.precision}
        flat |= {name: getattr(self, name) for name in ("epochs", "batch_size", "seed")}
        return {
            name: value if isinstance(value, bool | int | float | str) else json.dumps(value)
            for name, value in flat.items()
        }


def is_setting(name: str) -> bool:
    """Whether a hyper-parameter, by its column in a log's results, is one to compare by."""
    alone = ("batch_size", "published_epochs", "reduce_lr_on_plateau.factor")
    return name.split(".")[0] in ("model", "optimizer") or name in alone
