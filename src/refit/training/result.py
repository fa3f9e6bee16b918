"""What the result of a training says: its metrics, and on which machine they came about."""

import os
import platform
import resource
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np

from refit.data.arrays import Dataset, Part
from refit.experiments.trial import StopAtTarget, Trial

# Keras clips probabilities here before the logarithm.
EPSILON = 1e-7
# Metrics that are the last value of a curve.
LAST = {
    "train_accuracy": "accuracy",
    "train_loss": "loss",
    "evaluated_train_accuracy": "evaluated_accuracy",
    "evaluated_train_loss": "evaluated_loss",
    "train_cross_entropy": "cross_entropy",
} | {name: name for name in ("val_accuracy", "val_loss", "val_cross_entropy")}


def measure(
    trial: Trial,
    dataset: Dataset,
    history: list[dict[str, float]],
    probabilities: np.ndarray,
    layers: list[dict[str, Any]],
) -> dict[str, Any]:
    """Metrics, confusions, layers and data of a training's result.

    `history` has a row per epoch, as `Recorder` keeps it; `probabilities` are those of the test
    images, `(images, classes)`; `layers` is the table of `refit.models.layers`.
    """
    metrics = summarise(history) | _test(dataset.test, probabilities, trial.test_batch_size)
    metrics |= _to_target(history, trial)
    if trial.fine_tuning and len(history) > trial.fine_tuning.after:
        before = history[trial.fine_tuning.after - 1]["val_accuracy"]
        metrics["val_accuracy_before_fine_tuning"] = before
        metrics["fine_tuning_gain"] = history[-1]["val_accuracy"] - before
    metrics |= {
        "classes": len(dataset.class_names),
        "layers": len(layers),
    }
    return {
        "metrics": metrics,
        "confusion_matrix": _confusion_matrix(dataset.test, probabilities),
        "layers": layers,
        "data": describe(dataset),
    }


def summarise(history: list[dict[str, float]]) -> dict[str, Any]:
    """Final and best values of the curves and the times.

    `seconds` is the sum over the epochs, validation included, as the reports measured it.
    """
    last = history[-1]
    values = {name: last[key] for name, key in LAST.items() if key in last}
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
        "seconds_per_epoch": _median(history, "seconds"),
        "train_seconds": _median(history, "train_seconds"),
        "processor_seconds": _median(history, "processor_seconds"),
    }


def _median(history: list[dict[str, float]], name: str) -> float:
    """The median over the epochs, without the first, which also builds the graph."""
    return statistics.median(row[name] for row in history[1:] or history)


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
    return spent if reached else dict.fromkeys(spent, float("inf"))


def describe(dataset: Dataset) -> dict[str, Any]:
    """Which data a result was made from."""
    return {
        "source": dataset.source,
        "content": dataset.content,
        "stand_in": dataset.stand_in,
        "embedded": dataset.embedded,
        "classes": list(dataset.class_names),
        "train_images": len(dataset.train.images),
        "validation_images": len(dataset.validation.images),
        "test_images": len(dataset.test.images),
    }


def environment() -> dict[str, Any]:
    """Versions and hardware of this process, in which Keras has been trained."""
    # Here, so that what only reads results or knows the machine need not wait for them.
    import keras
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    details = tf.config.experimental.get_device_details
    return {
        "python": sys.version.split()[0],
        "keras": keras.__version__,
        "backend": keras.backend.backend(),
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "gpus": [details(gpu).get("device_name", gpu.name) for gpu in gpus],
        "intra_op_threads": tf.config.threading.get_intra_op_parallelism_threads(),
    }


def processor() -> str:
    """The processor's name, as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor())


def megabytes(usage: resource.struct_rusage) -> float:
    """The most memory that a process, or each of some, has held, in MiB."""
    unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux kibibytes
    return usage.ru_maxrss / unit


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
    size = probabilities.shape[1]
    pairs = part.labels * size + probabilities.argmax(axis=1)
    return np.bincount(pairs, minlength=size * size).reshape(size, size).tolist()
