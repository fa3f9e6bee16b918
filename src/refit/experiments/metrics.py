"""Words that declarations share: metrics, names, printed numbers, and records that refuse typos."""

import re
from collections.abc import Mapping
from string import Formatter
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

# What can be measured of a trial: the unit in which it is kept, and what it is. The first have one
# value per epoch, read at the last epoch unless a figure says otherwise.
_OF_CURVES = {
    "train_accuracy": ("fraction", "mean over an epoch's batches, while weights change"),
    "train_loss": ("nats", "the same, weight penalty included"),
    "evaluated_train_accuracy": ("fraction", "of the training images after the epoch, dropout off"),
    "evaluated_train_loss": ("nats", "the same; both need `evaluate_train`"),
    "val_accuracy": ("fraction", "of the validation images after the epoch"),
    "val_loss": ("nats", "the same, weight penalty included"),
    "train_cross_entropy": ("nats", "train loss without the weight penalty, where there is one"),
    "val_cross_entropy": ("nats", "validation loss without it"),
    "learning_rate": ("rate", "that an epoch begins with"),
    "seconds_per_epoch": ("s", "validation included"),
    "train_seconds": ("s", "of one epoch, without validation"),
    "processor_seconds": ("s", "the same, counted while the processor works for this training"),
}
_OF_TRIALS = {
    "best_val_accuracy": ("fraction", "the highest of all epochs"),
    "best_val_accuracy_epoch": ("epoch", "the first that has it"),
    "min_val_loss": ("nats", "the lowest of all epochs"),
    "min_val_loss_epoch": ("epoch", "the first that has it"),
    "test_accuracy": ("fraction", "after the last epoch"),
    "mean_batch_test_accuracy": ("fraction", "mean of batches, of which the last one is smaller"),
    "seconds": ("s", "of all epochs, validation included"),
    "total_seconds": ("s", "the same, or of a search, all of its candidates"),
    "minutes": ("min", "`seconds`, for reports that print minutes"),
    "val_accuracy_before_fine_tuning": ("fraction", "in the last epoch of the head alone"),
    "fine_tuning_gain": ("fraction", "what the last epoch has more"),
    "microseconds_per_sample": ("µs", "`seconds_per_epoch` for each training image"),
    "epochs_to_target": ("epochs", "until a target is reached; infinite where it never was"),
    "seconds_to_target": ("s", "the same, without validation"),
    "processor_seconds_to_target": ("s", "the same of the processor's time"),
    "batch_loss_noise": ("nats", "spread of single batches' losses from one to the next"),
    "batch_loss_oscillation": ("nats", "rise of means over 100 batches in all, per such mean"),
    "largest_batch_loss_jump": (
        "nats", "of such a mean above the one before; infinite where the training ended guessing",
    ),
    "total_params": ("count", "weights"),
    "trainable_params": ("count", "weights that are trained"),
    "non_trainable_params": ("count", "weights that are not"),
    "layers_with_pooling": ("count", "convolutions, poolings and dense layers"),
    "layers": ("count", "without the input; a nested network is one"),
    "train_images": ("count", "images trained on"),
    "test_images": ("count", "images tested on"),
    "test_class_imbalance": ("count", "test images of the largest class more than of the smallest"),
    "architectures_tried": ("count", "networks of different size that a search trained"),
    "epochs": ("epochs", "that were trained"),
    "untrained_accuracy": ("fraction", "of the validation images before the first step"),
    "untrained_train_accuracy": ("fraction", "of the training images before the first step"),
    "min_train_loss": ("nats", "the lowest of all epochs"),
    "train_loss_at_min_val_loss": ("nats", "in the epoch of the lowest validation loss"),
    "train_loss_at_best_val_accuracy": ("nats", "in the epoch of the highest validation accuracy"),
    "train_accuracy_at_best_val_accuracy": ("fraction", "in the same epoch"),
    "val_loss_at_best_val_accuracy": ("nats", "in the same epoch"),
    "val_accuracy_fall": ("fraction", "from the highest to the last"),
    "train_loss_rise": ("nats", "from the lowest to the last"),
    "val_loss_rise": ("nats", "from the lowest to the last"),
    "largest_train_loss_rise": ("nats", "from one epoch to the next"),
    "loss_gap": ("nats", "validation less train, last epoch"),
    "accuracy_lag": ("epochs", "from the lowest validation loss to the highest accuracy"),
    "loss_rise_beyond_accuracy_fall": (
        "share", "rise of the validation loss less fall of the accuracy, as shares of the best",
    ),
    "learned": ("share", "one where the best validation accuracy exceeds twice guessing, or zero"),
    "accuracy_gap": ("fraction", "train less validation, last epoch"),
    "gap_to_best_val_accuracy": ("fraction", "train, last epoch, less the best validation"),
    "test_minus_val": ("fraction", "test less validation, last epoch"),
}  # fmt: skip
CURVE_METRICS = {name: unit for name, (unit, _) in _OF_CURVES.items()}
METRICS = CURVE_METRICS | {name: unit for name, (unit, _) in _OF_TRIALS.items()}
MEANINGS = {name: meaning for name, (_, meaning) in (_OF_CURVES | _OF_TRIALS).items()}
# Batches whose mean smooths a curve of batch losses.
BATCHES_PER_BLOCK = 100


class Strict(BaseModel):
    """A frozen record that refuses unknown keys, and numbers that are infinite or none."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _check_metric(name: str) -> str:
    if name not in METRICS:
        raise ValueError(f"unknown metric {name!r}; known: {', '.join(METRICS)}")
    return name


def _check_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.=-]{0,79}", name):
        raise ValueError(
            f"{name!r} cannot name a folder: use letters, digits, '_', '-', '.', '=', at most 80"
        )
    return name


def filled(pattern: str, parts: Mapping[str, Any]) -> str:
    """A pattern of names, such as `lr{learning_rate}`, with its braces filled in.

    Raises ValueError where it does not fit its `parts`.
    """
    try:
        for _, _, form, _ in Formatter().parse(pattern):
            if re.search("[0-9]{3}|{", form or ""):
                raise ValueError("too wide")
        return pattern.format(**parts)
    except (LookupError, ValueError, AttributeError, TypeError) as error:
        raise ValueError(
            f"{pattern!r} does not fit; in braces may stand {', '.join(parts)}"
        ) from error


def _check_printed(text: Any) -> Any:
    if text is not None and not (isinstance(text, str) and re.fullmatch(r"-?\d+(\.\d+)?", text)):
        raise ValueError(
            f"{text!r} is not a number in quotes; write published numbers as they are printed, "
            "for example '0.90', so that their precision is kept"
        )
    return text


Metric = Annotated[str, AfterValidator(_check_metric)]
Name = Annotated[str, AfterValidator(_check_name)]
Printed = Annotated[str, BeforeValidator(_check_printed)]
