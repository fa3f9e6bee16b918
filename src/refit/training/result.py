"""What a finished training says: its metrics, and the circumstances under which they came about."""

import os
import platform
import statistics
import sys
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from refit.data.arrays import Dataset, Part
from refit.experiments.metrics import BATCHES_PER_BLOCK as BLOCK
from refit.experiments.trial import StopAtTarget, Trial
from refit.models import layers
from refit.training import hardware

# Keras clips probabilities here before the logarithm.
EPSILON = 1e-7


def assess(
    model: keras.Model,
    dataset: Dataset,
    trial: Trial,
    history: list[dict[str, float]],
    probabilities: np.ndarray,
) -> dict[str, Any]:
    """What a finished training says of its network: metrics, confusions, layers, data.

    `history` has a row per epoch, as `Recorder` keeps it; `probabilities` are those
    of the test images, `(images, classes)`.
    """
    table = layers.layer_table(model)
    metrics = summarise(history) | layers.parameter_counts(model)
    metrics |= _test(dataset.test, probabilities, trial.test_batch_size)
    metrics |= _to_target(history, trial) | _fine_tuned(history, trial)
    metrics |= {
        "classes": len(dataset.class_names),
        "layers": len(table),
        "weight_layers": sum(row["type"] in ("Conv2D", "Dense") for row in table),
    }
    return {
        "metrics": metrics,
        "confusion_matrix": _confusion_matrix(dataset.test, probabilities),
        "layers": table,
        "data": describe(dataset),
    }


def summarise(history: list[dict[str, float]]) -> dict[str, Any]:
    """Final and best values of the curves and the times.

    `seconds` is the sum over the epochs, validation included, as the reports measured it;
    `seconds_per_epoch` is the median without the first epoch, which also builds the graph.
    """
    names = {
        "train_accuracy": "accuracy",
        "train_loss": "loss",
        "evaluated_train_accuracy": "evaluated_accuracy",
        "evaluated_train_loss": "evaluated_loss",
        "val_accuracy": "val_accuracy",
        "val_loss": "val_loss",
        "train_cross_entropy": "cross_entropy",
        "val_cross_entropy": "val_cross_entropy",
    }
    last = history[-1]
    values = {name: last[key] for name, key in names.items() if key in last}
    accuracies = [row["val_accuracy"] for row in history]
    losses = [row["val_loss"] if np.isfinite(row["val_loss"]) else np.inf for row in history]
    seconds = [row["seconds"] for row in history]
    return values | {
        "epochs": len(history),
        "best_val_accuracy": max(accuracies),
        "best_val_accuracy_epoch": int(np.argmax(accuracies)) + 1,
        "min_val_loss": float(min(losses)),
        "min_val_loss_epoch": int(np.argmin(losses)) + 1,
        "diverged": not np.isfinite(last["loss"]),
        "seconds": sum(seconds),
        "total_seconds": sum(seconds),
        "seconds_per_epoch": statistics.median(seconds[1:] or seconds),
        "train_seconds": _median(history, "train_seconds"),
        "processor_seconds": _median(history, "processor_seconds"),
    }


def _median(history: list[dict[str, float]], name: str) -> float:
    """The median over the epochs but the first; NaN where it was not measured."""
    values = [row[name] for row in history[1:] or history if name in row]
    return statistics.median(values) if values else float("nan")


def _to_target(history: list[dict[str, float]], trial: Trial) -> dict[str, float]:
    """What it took to reach the target of a training that stops there; infinite if it never did.

    The epochs are whole ones: Keras's accuracy of an epoch is the mean while it was trained.
    """
    stops = [spec for spec in trial.callbacks if isinstance(spec, StopAtTarget)]
    if not stops:
        return {}
    reached = history[-1].get(stops[0].monitor, -np.inf) >= stops[0].target
    spent = {
        "epochs_to_target": len(history),
        "seconds_to_target": sum(row["train_seconds"] for row in history),
        "processor_seconds_to_target": sum(row["processor_seconds"] for row in history),
    }
    if reached:
        return spent
    # Times that were not measured stay so, or of many seeds only those would count that failed.
    return {name: value if value != value else float("inf") for name, value in spent.items()}


def _fine_tuned(history: list[dict[str, float]], trial: Trial) -> dict[str, float]:
    """The validation accuracy before the base was fine-tuned, and what that added."""
    if trial.fine_tuning is None or len(history) <= trial.fine_tuning.after:
        return {}
    before = history[trial.fine_tuning.after - 1]["val_accuracy"]
    gain = history[-1]["val_accuracy"] - before
    return {"val_accuracy_before_fine_tuning": before, "fine_tuning_gain": gain}


def batch_measures(losses: np.ndarray) -> dict[str, float]:
    """How rugged the losses of single batches are, `(batches,)` in nats; empty without any.

    `batch_loss_noise` is the root mean square of the differences between neighbours over the
    square root of two (von Neumann 1941), which a slow trend hardly touches; oscillation is what
    the means of blocks of 100 batches rise in all, per block. Infinite for a diverged training.
    """
    if not len(losses):
        return {}
    if not np.isfinite(losses).all():
        return {"batch_loss_noise": float("inf"), "batch_loss_oscillation": float("inf")}
    blocks = losses[: len(losses) // BLOCK * BLOCK].reshape(-1, BLOCK).mean(axis=1)
    rises = np.diff(blocks).clip(min=0)
    return {
        "batch_loss_noise": float(np.sqrt((np.diff(losses) ** 2).mean() / 2))
        if len(losses) > 1
        else float("nan"),
        "batch_loss_oscillation": float(rises.mean()) if len(rises) else float("nan"),
    }


def describe(dataset: Dataset) -> dict[str, Any]:
    """Which data a result was made from."""
    return {
        "source": dataset.source,
        "stand_in": dataset.stand_in,
        "embedded": dataset.embedded,
        "classes": list(dataset.class_names),
        "train_images": len(dataset.train.images),
        "validation_images": len(dataset.validation.images),
        "test_images": len(dataset.test.images),
        "test_labelled": dataset.test.labels is not None,
    }


def environment() -> dict[str, Any]:
    """Versions and hardware of this process."""
    gpus = tf.config.list_physical_devices("GPU")
    details = tf.config.experimental.get_device_details
    return {
        "python": sys.version.split()[0],
        "keras": keras.__version__,
        "backend": keras.backend.backend(),
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "processor": hardware.processor(),
        "cores": os.cpu_count(),
        "gpus": [details(gpu).get("device_name", gpu.name) for gpu in gpus],
        "intra_op_threads": tf.config.threading.get_intra_op_parallelism_threads(),
    }


def _test(part: Part, probabilities: np.ndarray, batch_size: int | None) -> dict[str, float]:
    if part.labels is None:
        return {}
    chosen = probabilities[np.arange(len(part.labels)), part.labels]
    right = probabilities.argmax(axis=1) == part.labels
    metrics = {
        "test_accuracy": float(right.mean()),
        "test_loss": float(-np.log(np.clip(chosen, EPSILON, 1 - EPSILON)).mean()),
    }
    if batch_size:
        starts = range(0, len(right), batch_size)
        means = [right[start : start + batch_size].mean() for start in starts]
        metrics["mean_batch_test_accuracy"] = float(np.mean(means))
    return metrics


def _confusion_matrix(part: Part, probabilities: np.ndarray) -> list[list[int]] | None:
    """Counts with a row per true class and a column per predicted class."""
    if part.labels is None:
        return None
    matrix = np.zeros((probabilities.shape[1],) * 2, int)
    np.add.at(matrix, (part.labels, probabilities.argmax(axis=1)), 1)
    return matrix.tolist()
