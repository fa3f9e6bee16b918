"""One training: data, model and callbacks in, a run directory out.

This is the only place where a network is fitted. It runs in a process of its own (see
`refit.running.runner`), so it may set the backend's threads and need not clean up after itself.
"""

import contextlib
import io
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from refit import files
from refit.data import sets
from refit.data.arrays import Dataset, Part
from refit.experiments.trial import (
    AUTOKERAS,
    Optimizer,
    Trial,
)
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
from refit.searches import autokeras_search
from refit.training import hardware, optimizers, transfer
from refit.training import recorder as callbacks
from refit.training.feed import batches, new_order
from refit.training.result import assess, batch_measures, environment

# Steps between returns to Python: many for small networks, where the return costs as much as a
# step, but never for more than about a second of work on a CPU core, so that progress is seen.
# Hides nothing, because curves are recorded per epoch.
MOST_STEPS = 32
MULTIPLICATIONS = 20e9
# Images evaluated at once: many are fast, and few enough for VGG-16; fewer where each is large.
EVALUATION_BATCH = 250
LARGE_IMAGE = 96  # pixels on a side
LARGE_EVALUATION_BATCH = 32


def use_one_thread(workers: int) -> None:
    """Fix what would make curves depend on the machine: the threads that share an operation.

    The order of summation changes with their number, and with it the loss curve. Inter-op threads
    do not matter to it: a lone training gets two, but beside others a second one costs all of them
    a fifth of their speed. On a GPU, let several trainings share its memory, and let float32 be
    what it says, without the faster products of rounded numbers that would be taken otherwise.
    """
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1 if workers > 1 else 2)
    tf.config.experimental.enable_tensor_float_32_execution(False)
    for device in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(device, True)


class Shuffling(keras.callbacks.Callback):
    """Gives every epoch an order of its own, which depends on nothing but seed and epoch.

    So an interrupted training goes on as it would have. `order` is what `batches` follows.
    """

    def __init__(self, images: int, seed: int) -> None:
        super().__init__()
        self.images = images
        self.seed = seed
        self.order = new_order(images)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        order = np.random.default_rng([self.seed, epoch]).permutation(self.images)
        self.order.assign(order.astype(np.int32))


def build_model(trial: Trial, input_shape: tuple[int, ...], classes: int) -> keras.Model:
    """The trial's network, compiled with its optimizer and its metrics."""
    model = networks.build(trial.model.name, input_shape, classes, **trial.model.options)
    _compile(model, trial, trial.optimizer)
    return model


def _compile(model: keras.Model, trial: Trial, optimizer: Optimizer) -> None:
    """Where a weight penalty is part of the loss, `cross_entropy` is recorded beside it."""
    metrics: list[Any] = ["accuracy"]
    if trial.record_batches:
        metrics += callbacks.batch_metrics()
    if model.losses:
        metrics.append(keras.metrics.SparseCategoricalCrossentropy(name="cross_entropy"))
    work = layers.multiplications(model) * trial.batch_size
    model.compile(
        optimizer=optimizers.build(optimizer),
        loss="sparse_categorical_crossentropy",
        metrics=metrics,
        steps_per_execution=1
        if trial.record_batches
        else int(min(max(MULTIPLICATIONS / work, 1), MOST_STEPS)),
        # XLA costs seconds per trial on a CPU and runs slower there; on a GPU Keras knows best.
        jit_compile="auto" if tf.config.list_physical_devices("GPU") else False,
    )
    model.optimizer.build(model.trainable_variables)


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

    `facts` are what only the caller knows of the circumstances, such as the number of workers; the
    training stops once `wanted` says that nobody waits for it. `earlier` is the run directory of a
    training with fewer epochs, from whose kept checkpoint this one goes on. The result file is
    written last. Returns its content.
    """
    started = datetime.now(UTC)
    prepare(trial, run_dir)
    checkpoint = run_dir / CHECKPOINT
    if earlier and not checkpoint.exists():
        for name in (directory.BEST_WEIGHTS, checkpoint.name):
            if (earlier / name).exists():
                files.write_bytes(run_dir / name, (earlier / name).read_bytes())
    dataset = sets.load(trial.data, data_dir, cache_dir)
    keras.utils.set_random_seed(trial.seed)
    recorder = callbacks.Recorder(run_dir, trial.epochs, facts["workers"], wanted)
    with closing(events.EventWriter(run_dir)) as log, closing(recorder):
        log.summary(events.hparams_session(trial.hyper_parameters(), str(trial.directory)))
        fit_started = time.perf_counter()
        if trial.model.name == AUTOKERAS:
            model, done, found = _search(trial, dataset, recorder, wanted)
        else:
            model, done = _fit(trial, dataset, recorder, data_dir)
            found = {}
        wall_seconds = time.perf_counter() - fit_started
        result = told_of(model, trial, dataset, recorder, log, evaluation_batch(trial))
        result |= found
        if "candidates" in found:
            result["metrics"]["total_seconds"] = sum(row["seconds"] for row in found["candidates"])
        result |= {
            "environment": environment() | facts | {"workers": recorder.workers},
            "started": started.isoformat(timespec="seconds"),
            "wall_seconds": wall_seconds,
            "resumed_at_epoch": done,
            "peak_memory_mb": hardware.peak_memory(),
        }
    store_result(result, run_dir, [checkpoint] * (not keep_checkpoint))
    return result


def prepare(trial: Trial, run_dir: Path) -> None:
    """Say which trial a run directory is of, and remove what was left half written there."""
    files.write_json(run_dir / TRIAL, trial.model_dump(mode="json"))
    for unfinished in run_dir.glob(".*"):
        with contextlib.suppress(OSError):
            unfinished.unlink()  # left by a training that was killed while it saved


def told_of(
    model: keras.Model,
    trial: Trial,
    dataset: Dataset,
    recorder: callbacks.Recorder,
    log: events.EventWriter,
    evaluated: int,
) -> dict[str, Any]:
    """Test a trained network, so many `evaluated` images at once: what its result says of it.

    Predictions, kept weights and the end of the event file `log` are written on the way.
    """
    test = batches(_labelled(dataset.test), evaluated)
    probabilities = model.predict(test, verbose=0).astype(np.float64)
    kind = np.uint8 if probabilities.shape[1] <= 256 else np.uint16
    predicted = io.BytesIO()
    np.save(predicted, probabilities.argmax(axis=1).astype(kind))
    files.write_bytes(recorder.run_dir / PREDICTIONS, predicted.getbuffer())
    result = {"trial": trial.model_dump(mode="json"), "digest": trial.digest}
    result |= assess(model, dataset, trial, recorder.history, probabilities)
    result["metrics"] |= recorder.untrained | batch_measures(np.array(recorder.batch_losses))
    transfer.keep(model, trial, recorder.run_dir)
    if "test_accuracy" in result["metrics"]:
        log.scalars({"test_accuracy": result["metrics"]["test_accuracy"]}, len(recorder.history))
    log.summary(events.hparams_session_end(success=True))
    return result


def store_result(result: dict[str, Any], run_dir: Path, passing: Sequence[Path] = ()) -> None:
    """Write a result file, once all that it names is closed; then remove what is in `passing`."""
    curve_metrics.store_batches(run_dir, run_dir)
    result["files"] = files.identify(run_dir, _lasting(run_dir))
    directory.write_result(run_dir, result)
    for path in [run_dir / PROGRESS, *passing]:
        with contextlib.suppress(OSError):  # the trial is done, whatever becomes of these
            path.unlink()


def _lasting(run_dir: Path) -> list[Path]:
    """The files that a trial leaves for tables, pages and other trials."""
    logged = [path for name in EVENT_FOLDERS for path in events.event_files(run_dir / name)]
    return [*logged, run_dir / PREDICTIONS, *run_dir.glob(BATCH_FILE), *run_dir.glob("*.h5")]


def _fit(
    trial: Trial,
    dataset: Dataset,
    recorder: callbacks.Recorder,
    data_dir: Path | None,
) -> tuple[keras.Model, int]:
    """Fit the trial's network; returns it, and the epochs that had been done before."""
    model = build_model(trial, dataset.train.images.shape[1:], len(dataset.class_names))
    evaluated = evaluation_batch(trial)
    if trial.carried_over:
        transfer.carry_over(model, trial, recorder.run_dir)
    if trial.pretrained:
        transfer.start(model, trial, recorder.run_dir, data_dir)
        saved = recorder.saved_epochs()
        _begin_phase(model, trial, saved - 1)
    others = callbacks.build(trial.callbacks, recorder.run_dir)
    shuffling = [Shuffling(len(dataset.train), trial.seed)] if trial.shuffle else []
    order = shuffling[0].order if shuffling else None
    done = before = recorder.restore(model, others)
    if trial.pretrained and done < saved:
        _begin_phase(model, trial, 0)  # the checkpoint is damaged, so all begins anew
    in_order = batches(dataset.train, evaluated)
    validation = batches(dataset.validation, evaluated)
    if trial.evaluate_untrained and not done:
        recorder.measure_untrained(in_order, validation)
    evaluation = [callbacks.TrainEvaluation(in_order)] if trial.evaluate_train else []
    phases = [trial.fine_tuning.after] if trial.fine_tuning else []
    for last in [*phases, trial.epochs]:
        if done >= last:
            continue
        if done in phases:
            _begin_phase(model, trial, done)
        model.fit(
            batches(dataset.train, trial.batch_size, order),
            validation_data=validation,
            epochs=last,
            initial_epoch=done,
            callbacks=[*shuffling, *others, *evaluation, recorder],
            shuffle=False,  # the order is the batches' own
            verbose=0,
        )
        done = len(recorder.history)
        if model.stop_training:
            break
    if before >= trial.epochs:
        recorder.adopt(model, recorder.history)  # it was ended before its last events were written
    return model, before


def _begin_phase(model: keras.Model, trial: Trial, epoch: int) -> None:
    """Compile for the phase that an epoch, counted from 0, belongs to: head, or fine-tuning."""
    tuning = trial.fine_tuning
    if tuning is None or epoch < tuning.after:
        transfer.freeze(model)
        _compile(model, trial, trial.optimizer)
        return
    transfer.thaw(model, tuning.from_layer)
    changes = {"learning_rate": tuning.learning_rate}
    _compile(model, trial, trial.optimizer.model_copy(update=changes))


def _search(
    trial: Trial, dataset: Dataset, recorder: callbacks.Recorder, wanted: Callable[[], bool]
) -> tuple[keras.Model, int, dict[str, Any]]:
    """Let AutoKeras search; its best network stands for the trial, the candidates beside it."""
    found = autokeras_search.run(trial, dataset, recorder.run_dir, wanted)
    recorder.adopt(found.model, found.history)
    return found.model, 0, {"candidates": found.candidates}


def evaluation_batch(trial: Trial) -> int:
    """How many images are evaluated at once: the result does not depend on it, memory does."""
    pixels = trial.data.image_size**2 * (trial.data.frames or 1)
    if pixels > LARGE_IMAGE**2:
        return min(LARGE_EVALUATION_BATCH, trial.batch_size)
    return EVALUATION_BATCH


def _labelled(part: Part) -> Part:
    """The part itself, or, where it has no labels, one with zeros that nobody reads."""
    if part.labels is not None:
        return part
    return Part(part.images, np.zeros(len(part.images), np.int32), part.ids)
