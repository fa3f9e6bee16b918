"""One training: data, model and callbacks in, a run directory out.

This is the only place where a network is fitted. It runs in a process of its own (see
`refit.runner`), so it may set TensorFlow's threads and need not clean up after itself.
"""

import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from refit import callbacks, data, events, models, storage
from refit.data import Dataset, Part
from refit.declaration import Optimizer, StopAtTarget
from refit.experiment import Trial
from refit.models import layers
from refit.storage import PREDICTIONS, PROGRESS, RESULT

TRIAL = "trial.json"

# Steps between returns to Python: many for small networks, where the return costs as much as a
# step, but never for more than about a second of work on a CPU core, so that progress is seen.
# Hides nothing, because curves are recorded per epoch.
MOST_STEPS = 32
MULTIPLICATIONS = 20e9
# Evaluation does not depend on the batch size; this one is fast and small enough for VGG-16.
EVALUATION_BATCH = 250
# Keras clips probabilities here before the logarithm.
EPSILON = 1e-7
# Batches whose mean smooths a curve of batch losses.
BLOCK = 100


def use_one_thread(workers: int) -> None:
    """Fix what would make curves depend on the machine: TensorFlow's threads per operation.

    The order of summation changes with the number of intra-op threads, and with it the loss curve.
    Inter-op threads do not matter to it: a lone training gets two, but beside others a second one
    costs all of them a fifth of their speed. On a GPU, let several trainings share its memory.
    """
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1 if workers > 1 else 2)
    for device in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(device, True)


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


def build_optimizer(spec: Optimizer) -> keras.optimizers.Optimizer:
    """The Keras optimizer of a declaration, with Keras 2's defaults where they differed."""
    if spec.name == "adam":
        return keras.optimizers.Adam(spec.learning_rate)
    if spec.name == "adadelta":
        return keras.optimizers.Adadelta(spec.learning_rate, rho=spec.rho or 0.95)
    settings = {"momentum": spec.momentum, "nesterov": spec.nesterov}
    if spec.decay or spec.weight_decay:
        return DecayingSGD(spec.learning_rate, decay=spec.decay, l2=spec.weight_decay, **settings)
    return keras.optimizers.SGD(spec.learning_rate, **settings)


class Shuffling(keras.callbacks.Callback):
    """Gives every epoch an order of its own, which depends on nothing but seed and epoch.

    So an interrupted training goes on as it would have. `order` is what `batches` follows.
    """

    def __init__(self, images: int, seed: int) -> None:
        super().__init__()
        self.images = images
        self.seed = seed
        self.order = tf.Variable(tf.range(images, dtype=tf.int32), trainable=False)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        order = np.random.default_rng([self.seed, epoch]).permutation(self.images)
        self.order.assign(order.astype(np.int32))


def batches(part: Part, batch_size: int, order: tf.Variable | None = None) -> tf.data.Dataset:
    """Batches of (float32 images in 0..1, int32 labels), in the order of the part or in `order`.

    The bytes stay as they are on disk and are scaled batch by batch. tf.data's autotuning is off:
    its threads compete with the training for the cores.
    """
    images = tf.constant(part.images)
    labels = tf.constant(part.labels)

    def batch(start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        rows = slice(start, start + batch_size)
        if order is None:
            return tf.cast(images[rows], tf.float32) / 255.0, labels[rows]
        chosen = order[rows]
        return tf.cast(tf.gather(images, chosen), tf.float32) / 255.0, tf.gather(labels, chosen)

    options = tf.data.Options()
    options.autotune.enabled = False
    starts = tf.data.Dataset.range(0, len(part.images), batch_size)
    return starts.map(batch).prefetch(2).with_options(options)


def build_model(trial: Trial, input_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """The trial's network, compiled with its optimizer and metrics.

    Where a weight penalty is part of the loss, `cross_entropy` is recorded beside it.
    """
    model = models.build(trial.model.name, input_shape, classes, **trial.model.options)
    metrics: list[Any] = ["accuracy"]
    if trial.record_batches:
        metrics += callbacks.batch_metrics()
    if model.losses:
        metrics.append(keras.metrics.SparseCategoricalCrossentropy(name="cross_entropy"))
    work = layers.multiplications(model) * trial.batch_size
    model.compile(
        optimizer=build_optimizer(trial.optimizer),
        loss="sparse_categorical_crossentropy",
        metrics=metrics,
        steps_per_execution=1
        if trial.record_batches
        else int(min(max(MULTIPLICATIONS / work, 1), MOST_STEPS)),
        jit_compile=False,
    )
    return model


def train(
    trial: Trial,
    run_dir: Path,
    data_dir: Path | None,
    cache_dir: Path,
    facts: dict[str, Any],
    wanted: Callable[[], bool],
    earlier: Path | None = None,
    keep_checkpoint: bool = False,
) -> dict[str, Any]:
    """Train one trial, or go on with it from its last finished epoch, and store its result.

    `facts` are what only the caller knows of the circumstances, such as the number of workers;
    the training stops once `wanted` says that nobody waits for it. `earlier` is the run directory
    of a training with fewer epochs, from whose kept checkpoint this one goes on. The result file
    is written last. Returns its content.
    """
    started = datetime.now(UTC)
    storage.write_json(run_dir / TRIAL, trial.model_dump(mode="json"))
    for unfinished in run_dir.glob(f".{callbacks.CHECKPOINT}.*"):
        unfinished.unlink()  # left by a training that was killed while it saved
    checkpoint = run_dir / callbacks.CHECKPOINT
    if earlier and not checkpoint.exists():
        for name in (callbacks.BEST_WEIGHTS, checkpoint.name):
            if (earlier / name).exists():
                storage.write_bytes(run_dir / name, (earlier / name).read_bytes())
    dataset = data.load(trial.data, data_dir, cache_dir)
    keras.utils.set_random_seed(trial.seed)
    model = build_model(trial, dataset.train.images.shape[1:], len(dataset.class_names))
    model.optimizer.build(model.trainable_variables)

    recorder = callbacks.Recorder(run_dir, trial.epochs, facts["workers"], wanted)
    others = callbacks.build(trial.callbacks, run_dir)
    shuffling = [Shuffling(len(dataset.train), trial.seed)] if trial.shuffle else []
    done = recorder.restore(model, others)
    in_order = batches(dataset.train, EVALUATION_BATCH)
    validation = batches(dataset.validation, EVALUATION_BATCH)
    if trial.evaluate_untrained and not done:
        recorder.measure_untrained(in_order, validation)
    evaluation = [callbacks.TrainEvaluation(in_order)] if trial.evaluate_train else []
    log = events.EventWriter(run_dir)
    log.summary(events.hparams_session(trial.hyper_parameters(), str(trial.directory)))
    fit_started = time.perf_counter()
    model.fit(
        batches(dataset.train, trial.batch_size, *(one.order for one in shuffling)),
        validation_data=validation,
        epochs=trial.epochs,
        initial_epoch=done,
        callbacks=[*shuffling, *others, *evaluation, recorder],
        verbose=0,
    )
    result = {"trial": trial.model_dump(mode="json"), "digest": trial.digest}
    result |= _assess(model, dataset, trial, recorder, run_dir)
    result |= {
        "environment": environment() | facts | {"workers": recorder.workers},
        "started": started.isoformat(timespec="seconds"),
        "wall_seconds": time.perf_counter() - fit_started,
        "resumed_at_epoch": done,
        "peak_memory_mb": _peak_memory(),
    }
    if "test_accuracy" in result["metrics"]:
        log.scalars({"test_accuracy": result["metrics"]["test_accuracy"]}, len(recorder.history))
    log.summary(events.hparams_session_end(success=True))
    log.close()
    storage.write_json(run_dir / RESULT, result)
    if not keep_checkpoint:
        checkpoint.unlink(missing_ok=True)
    (run_dir / PROGRESS).unlink(missing_ok=True)
    return result


def _assess(
    model: keras.Model,
    dataset: Dataset,
    trial: Trial,
    recorder: callbacks.Recorder,
    run_dir: Path,
) -> dict[str, Any]:
    """What a finished training says of its network; stores the predictions of the test images."""
    probabilities = model.predict(
        batches(_labelled(dataset.test), EVALUATION_BATCH), verbose=0
    ).astype(np.float64)
    np.save(run_dir / PREDICTIONS, probabilities.argmax(axis=1).astype(np.uint8))
    table = layers.layer_table(model)
    metrics = summarise(recorder.history) | recorder.untrained | layers.parameter_counts(model)
    metrics |= _test(dataset.test, probabilities, trial.test_batch_size)
    metrics |= _to_target(recorder.history, trial)
    metrics |= batch_measures(np.array(recorder.batch_losses))
    metrics |= {
        "classes": len(dataset.class_names),
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
    return spent if reached else dict.fromkeys(spent, float("inf"))


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
    gpus = [
        tf.config.experimental.get_device_details(device).get("device_name", device.name)
        for device in tf.config.list_physical_devices("GPU")
    ]
    return {
        "python": sys.version.split()[0],
        "keras": keras.__version__,
        "backend": keras.backend.backend(),
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "gpus": gpus,
        "intra_op_threads": tf.config.threading.get_intra_op_parallelism_threads(),
    }


def _peak_memory() -> float:
    """The most memory that this process has held, in MiB."""
    unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux kibibytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor())


def _labelled(part: Part) -> Part:
    """The part itself, or, where it has no labels, one with zeros that nobody reads."""
    if part.labels is not None:
        return part
    return Part(part.images, np.zeros(len(part.images), np.int32), part.ids)


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
