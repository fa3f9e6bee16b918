"""Words that declarations share: metrics, names, printed numbers, and records that refuse typos."""

import re
from collections.abc import Mapping
from string import Formatter
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

# What can be measured of a trial, with the unit in which it is kept.
# Metrics that have one value per epoch are read at the last epoch unless a figure says otherwise.
CURVE_METRICS = {
    "train_accuracy": "fraction",
    "train_loss": "nats",
    # The training images after the epoch, in evaluation mode, where a trial asks for it.
    "evaluated_train_accuracy": "fraction",
    "evaluated_train_loss": "nats",
    "val_accuracy": "fraction",
    "val_loss": "nats",
    "train_cross_entropy": "nats",  # the loss without a weight penalty, where there is one
    "val_cross_entropy": "nats",
    "learning_rate": "rate",
    "seconds_per_epoch": "s",  # validation included
    "train_seconds": "s",  # of one epoch, without validation
    "processor_seconds": "s",  # the same, counted while the processor works for this training
}
TRIAL_METRICS = {
    "best_val_accuracy": "fraction",
    "best_val_accuracy_epoch": "epoch",
    "min_val_loss": "nats",
    "min_val_loss_epoch": "epoch",
    "test_accuracy": "fraction",
    "mean_batch_test_accuracy": "fraction",  # over batches of equal weight, the last one smaller
    "seconds": "s",
    "total_seconds": "s",  # the same, or of a search, all of its candidates
    "minutes": "min",  # `seconds`, for reports that print minutes
    "val_accuracy_before_fine_tuning": "fraction",
    "fine_tuning_gain": "fraction",
    "microseconds_per_sample": "µs",
    # What it took until a training that stops at a target was there; infinite where it never was.
    "epochs_to_target": "epochs",
    "seconds_to_target": "s",
    "processor_seconds_to_target": "s",
    # Of the losses of single batches: their spread from one to the next, and how far their means
    # over 100 batches rise in all, per such mean.
    "batch_loss_noise": "nats",
    "batch_loss_oscillation": "nats",
    # How far such a mean of 100 batches lies above the one before, at most; infinite where the
    # training diverged or ended no better than guessing.
    "largest_batch_loss_jump": "nats",
    "total_params": "count",
    "trainable_params": "count",
    "non_trainable_params": "count",
    "layers_with_pooling": "count",  # convolutions, poolings and dense layers
    "layers": "count",  # without the input; a nested network is one
    "train_images": "count",
    "test_images": "count",
    "test_class_imbalance": "count",  # test images of the largest class more than of the smallest
    "architectures_tried": "count",  # networks of different size that a search trained
    "epochs": "epochs",  # trained
    "untrained_accuracy": "fraction",  # on the validation images, before the first step
    "untrained_train_accuracy": "fraction",
    # Of the curves: how far they rise in the end, and what one was when another was at its best.
    "min_train_loss": "nats",
    "train_loss_at_min_val_loss": "nats",
    # In the epoch of the highest validation accuracy, and how far that falls until the last one.
    "train_loss_at_best_val_accuracy": "nats",
    "train_accuracy_at_best_val_accuracy": "fraction",
    "val_loss_at_best_val_accuracy": "nats",
    "val_accuracy_fall": "fraction",
    "train_loss_rise": "nats",  # last minus lowest
    "val_loss_rise": "nats",
    "largest_train_loss_rise": "nats",  # from one epoch to the next
    "loss_gap": "nats",  # validation minus train, last epoch
    "accuracy_lag": "epochs",  # from the lowest validation loss to the highest accuracy
    # After their best epochs: the loss's rise less the accuracy's fall, as shares of the best.
    "loss_rise_beyond_accuracy_fall": "share",
    "learned": "share",  # one where the best validation accuracy exceeds twice guessing, else zero
    "accuracy_gap": "fraction",  # train minus validation, last epoch
    "gap_to_best_val_accuracy": "fraction",  # train accuracy of the last epoch minus that
    "test_minus_val": "fraction",  # test minus validation accuracy
}
METRICS = CURVE_METRICS | TRIAL_METRICS
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
