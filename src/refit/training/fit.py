"""One training: data, network and callbacks in, a run directory out.

This is the only place where a network is fitted. `train` is what the runner is handed: it runs in a
process of its own, so it may set the backend's threads and need not clean up after itself.
"""

import contextlib
import io
import math
import resource
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from refit import files
from refit.data import sets
from refit.data.arrays import Dataset
from refit.experiments import factories
from refit.experiments.trial import Optimizer, Trial
from refit.models import layers, networks
from refit.run_directory import curve_metrics, directory, events
from refit.run_directory.directory import (
    BATCH_FILE,
    CHECKPOINT,
    EVENT_FOLDERS,
    PREDICTIONS,
    PROGRESS,
    TRIAL,
)
from refit.training import checkpoint, optimizers, result, stopping, weights
from refit.training.feed import Shuffling, batches
from refit.training.recorder import Recorder, TrainEvaluation, batch_metrics

# Steps between returns to Python: many for small networks, where the return costs as much as a
# step, but never for more than about a second of work on a CPU core, so that progress is seen.
# Hides nothing, because curves are recorded per epoch.
MOST_STEPS = 32
MULTIPLICATIONS = 20e9
# To trace a loop over steps takes as long as so many of them save.
FEW_STEPS = 500


class Fitted(NamedTuple):
    """A trained network, the epochs that an earlier attempt had done, of a search a row for each of
    its candidates, and what `weights.load` tells of the file that it started from."""

    model: keras.Model
    resumed_at: int = 0
    candidates: list[dict[str, Any]] = []
    weights: dict[str, str] = {}


def train(trial: Trial, run_dir: Path, data_dir: Path | None, cache: Path, **how: Any) -> None:
    """Train one trial in a process that does nothing else; `how` is as for `fit_trial`."""
    prepare_process(how["facts"]["workers"])
    fit_trial(trial, run_dir, data_dir, cache, **how)


def prepare_process(workers: int) -> None:
    """Fix what would make curves depend on the machine, or on its user's settings of Keras.

    The order of summation changes with the threads that share an operation, and with it the loss
    curve. Inter-op threads do not matter to it: a lone training gets two, but beside others a
    second one costs all of them a fifth of their speed. On a GPU, let several trainings share its
    memory, and let float32 be what it says, without the faster products of rounded numbers that
    would be taken otherwise. What keras.json and Keras's variables may set is set as Keras does
    without them; the backend is fixed where this process begins.
    """
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1 if workers > 1 else 2)
    tf.config.experimental.enable_tensor_float_32_execution(False)
    for device in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(device, True)
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    keras.config.set_epsilon(result.EPSILON)
    keras.config.set_image_data_format("channels_last")
    keras.config.set_max_epochs(None)
    keras.config.set_max_steps_per_epoch(None)


def fit_trial(
    trial: Trial,
    run_dir: Path,
    data_dir: Path | None,
    cache: Path,
    facts: dict[str, Any],
    wanted: Callable[[], bool],
    fit: Callable[[Trial, Dataset, Recorder, Path | None], Fitted] | None = None,
) -> dict[str, Any]:
    """Train one trial, or go on with it from its last finished epoch, and store its result.

    `facts` are what only the caller knows, such as the number of workers; the training stops once
    `wanted` says that nobody waits for it. `fit` is what trains, by default `fit_network`. The
    result file is written last. Returns its content.
    """
    started = datetime.now(UTC)
    _prepare_folder(trial, run_dir)
    dataset = sets.load(trial.data, data_dir, cache, prepared=True)
    keras.utils.set_random_seed(trial.seed)
    recorder = Recorder(run_dir, trial.epochs, facts["workers"], wanted)
    with closing(events.EventWriter(run_dir)) as log, closing(recorder):
        log.summary(events.hparams_session(factories.columns(trial), factories.group(trial)))
        fit_started = time.perf_counter()
        fitted = (fit or fit_network)(trial, dataset, recorder, data_dir)
        wall_seconds = time.perf_counter() - fit_started
        content = _test(fitted, trial, dataset, recorder, log)
    content |= {
        "environment": result.environment() | facts | {"workers": recorder.workers},
        "started": started.isoformat(timespec="seconds"),
        "wall_seconds": wall_seconds,
        "resumed_at_epoch": fitted.resumed_at,
        "peak_memory_mb": result.megabytes(resource.getrusage(resource.RUSAGE_SELF)),
    }
    _store(content, run_dir)
    return content


def _prepare_folder(trial: Trial, run_dir: Path) -> None:
    """Say which trial a run directory is of, and remove what was left half written there."""
    files.write_json(run_dir / TRIAL, trial.model_dump(mode="json"))
    for unfinished in run_dir.glob(".*"):
        with contextlib.suppress(OSError):
            unfinished.unlink()  # left by a training that was killed while it saved


def fit_network(
    trial: Trial, dataset: Dataset, recorder: Recorder, data_dir: Path | None
) -> Fitted:
    """Build the trial's network and fit it, or go on with it."""
    model = build_model(trial, dataset.train.images.shape[1:], len(dataset.class_names))
    loaded = weights.load(model, trial, recorder.run_dir, data_dir)
    saved = checkpoint.read(recorder.run_dir / CHECKPOINT)
    if trial.pretrained:
        _begin_phase(model, trial, len(saved.state["history"]) - 1 if saved else 0)
    others = [stopping.build(spec, recorder.run_dir) for spec in trial.callbacks]
    before = recorder.resume(model, others, saved)
    if trial.pretrained and saved and not before:
        _begin_phase(model, trial, 0)  # the checkpoint was no use
    validation = batches(dataset.validation, trial.evaluation_batch)
    callbacks = [*others]
    if trial.evaluate_untrained or trial.evaluate_train:
        in_order = batches(dataset.train, trial.evaluation_batch)
        if trial.evaluate_untrained and not before:
            parts = {"untrained_train_accuracy": in_order, "untrained_accuracy": validation}
            recorder.untrained = {
                name: model.evaluate(images, verbose=0, return_dict=True)["accuracy"]
                for name, images in parts.items()
            }
            stopping.set_first(others, recorder.untrained["untrained_accuracy"])
        if trial.evaluate_train:
            callbacks.append(TrainEvaluation(in_order))
    order = None
    if trial.shuffle:
        callbacks.insert(0, shuffling := Shuffling(len(dataset.train), trial.seed))
        order = shuffling.order
    shown = batches(dataset.train, trial.batch_size, order)
    _fit_phases(model, trial, recorder, shown, validation, callbacks)
    if before >= trial.epochs:
        recorder.adopt(model, recorder.history)  # it was ended before its last events were written
    return Fitted(model, before, weights=loaded)


def _fit_phases(
    model: keras.Model,
    trial: Trial,
    recorder: Recorder,
    shown: tf.data.Dataset,
    validation: tf.data.Dataset,
    callbacks: list[keras.callbacks.Callback],
) -> None:
    """Fit the epochs that the recorder lacks: one phase, or with fine-tuning two."""
    switch = trial.fine_tuning.after if trial.fine_tuning else trial.epochs
    for last in sorted({switch, trial.epochs}):
        done = len(recorder.history)
        if done >= last or model.stop_training:
            continue
        if trial.fine_tuning and done == switch:
            _begin_phase(model, trial, done)
        model.fit(
            shown,
            validation_data=validation,
            epochs=last,
            initial_epoch=done,
            callbacks=[*callbacks, recorder],
            shuffle=False,  # the order is the batches' own
            verbose=0,
        )


def _begin_phase(model: keras.Model, trial: Trial, epoch: int) -> None:
    """Compile for the phase that an epoch, counted from 0, belongs to: head, or fine-tuning."""
    tuning = trial.fine_tuning
    if tuning is None or epoch < tuning.after:
        weights.freeze(model)
        _compile(model, trial, trial.optimizer)
        return
    weights.thaw(model, tuning.from_layer)
    changes = {"learning_rate": tuning.learning_rate}
    _compile(model, trial, trial.optimizer.model_copy(update=changes))


def build_model(trial: Trial, input_shape: tuple[int, ...], classes: int) -> keras.Model:
    """The trial's network, compiled with its optimizer and its metrics."""
    model = networks.build(trial.model.name, input_shape, classes, **trial.model.options)
    _compile(model, trial, trial.optimizer)
    return model


def _compile(model: keras.Model, trial: Trial, optimizer: Optimizer) -> None:
    """Where a weight penalty is part of the loss, `cross_entropy` is recorded beside it."""
    metrics: list[Any] = ["accuracy"]
    if trial.record_batches:
        metrics += batch_metrics()
    if model.losses:
        metrics.append(keras.metrics.SparseCategoricalCrossentropy(name="cross_entropy"))
    work = layers.multiplications(model) * trial.batch_size
    at_once = int(min(max(MULTIPLICATIONS / work, 1), MOST_STEPS))
    if trial.epochs * (trial.data.train_images or math.inf) <= FEW_STEPS * trial.batch_size:
        at_once = 1
    model.compile(
        optimizer=optimizers.build(optimizer),
        loss="sparse_categorical_crossentropy",
        metrics=metrics,
        steps_per_execution=1 if trial.record_batches else at_once,
        # XLA costs seconds per trial on a CPU and runs slower there; on a GPU Keras knows best.
        jit_compile="auto" if tf.config.list_physical_devices("GPU") else False,
    )
    optimizers.build_state(model, np.zeros(1, np.int32))


def _test(
    fitted: Fitted, trial: Trial, dataset: Dataset, recorder: Recorder, log: events.EventWriter
) -> dict[str, Any]:
    """Test a trained network: what its result says of it.

    Predictions, kept weights and the end of the event file `log` are written on the way.
    """
    model, history = fitted.model, recorder.history
    test = batches(dataset.test, trial.evaluation_batch)
    probabilities = model.predict(test, verbose=0).astype(np.float64)
    kind = np.uint8 if probabilities.shape[1] <= 256 else np.uint16
    predicted = io.BytesIO()
    np.save(predicted, probabilities.argmax(axis=1).astype(kind))
    files.write_bytes(recorder.run_dir / PREDICTIONS, predicted.getbuffer())
    table = layers.layer_table(model)
    content = {"trial": trial.model_dump(mode="json"), "digest": trial.digest}
    content |= result.measure(trial, dataset, history, probabilities, table)
    metrics = content["metrics"]
    if fitted.weights:
        content["weights"] = fitted.weights
    if fitted.candidates:
        content["candidates"] = fitted.candidates
        metrics["total_seconds"] = sum(row["seconds"] for row in fitted.candidates)
    metrics |= layers.parameter_counts(model) | recorder.untrained
    weights.keep(model, trial, recorder.run_dir)
    if "test_accuracy" in metrics:
        log.scalars({"test_accuracy": metrics["test_accuracy"]}, len(history))
    log.summary(events.hparams_session_end())
    return content


def _store(content: dict[str, Any], run_dir: Path) -> None:
    """Write the result file, once all that it names is closed; then remove what has served."""
    curve_metrics.store_batches(run_dir, run_dir)
    logged = [path for name in EVENT_FOLDERS for path in events.event_files(run_dir / name)]
    lasting = [run_dir / PREDICTIONS, *run_dir.glob(BATCH_FILE), *run_dir.glob("*.h5")]
    content["files"] = files.identify(run_dir, [*logged, *lasting])
    directory.write_result(run_dir, content)
    for name in (PROGRESS, CHECKPOINT):
        with contextlib.suppress(OSError):  # the trial is done, whatever becomes of these
            (run_dir / name).unlink()
