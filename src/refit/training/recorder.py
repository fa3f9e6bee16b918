"""What happens around the epochs of a training: the record of its curves, and the state to resume.

Keras's BackupAndRestore keeps the weights but not what ReduceLROnPlateau has counted nor the curves
so far, so an interrupted training would go on as another one. `Recorder` keeps all of it.
"""

import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from refit import files
from refit.experiments.trial import (
    Callback,
    KeepBest,
    ReduceOnPlateau,
    StopAtTarget,
    StopWhenStagnant,
)
from refit.run_directory.directory import BATCHES, BEST_WEIGHTS, CHECKPOINT, PROGRESS
from refit.run_directory.events import EventWriter, read_scalars
from refit.training import checkpoint

# Attributes that Keras's callbacks count with; they are plain numbers.
_COUNTERS = ("wait", "best", "cooldown_counter")
_BATCH_TAGS = ("batch_loss", "batch_accuracy")


class OrphanedError(RuntimeError):
    """The process that wanted this training is gone, so nobody waits for its result."""


def build(specs: tuple[Callback, ...], run_dir: Path) -> list[keras.callbacks.Callback]:
    """The Keras callbacks that a trial's declaration names; what they keep goes to `run_dir`."""
    return [_build(spec, run_dir) for spec in specs]


def _build(spec: Callback, run_dir: Path) -> keras.callbacks.Callback:
    match spec:
        case StopAtTarget():
            return TargetStop(spec.monitor, spec.target)
        case StopWhenStagnant():
            return StagnationStop(spec.monitor, spec.patience)
        case KeepBest():
            return BestWeights(spec.monitor, spec.at_least, run_dir, spec.file)
        case ReduceOnPlateau():
            return keras.callbacks.ReduceLROnPlateau(
                monitor=spec.monitor,
                factor=spec.factor,
                patience=spec.patience,
                min_lr=spec.min_lr,
            )


class TargetStop(keras.callbacks.Callback):
    """Ends a training after the first epoch whose `monitor` reaches `target`."""

    def __init__(self, monitor: str, target: float) -> None:
        super().__init__()
        self.monitor = monitor
        self.target = target

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if (logs or {}).get(self.monitor, -math.inf) >= self.target:
            self.model.stop_training = True


class StagnationStop(keras.callbacks.Callback):
    """Ends a training when `monitor` has not risen for `patience` epochs, first after one more.

    Keras's EarlyStopping could stop one epoch earlier, and does not know the untrained network.
    """

    def __init__(self, monitor: str, patience: int) -> None:
        super().__init__()
        self.monitor = monitor
        self.patience = patience
        self.best = -math.inf
        self.wait = 0

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        value = (logs or {})[self.monitor]
        if value > self.best:
            self.best, self.wait = value, 0
        else:
            self.wait += 1
        if self.wait >= self.patience and epoch + 1 > self.patience:
            self.model.stop_training = True


class BestWeights(keras.callbacks.Callback):
    """Keeps the weights of the best epoch so far in a file, once `monitor` reaches `at_least`.

    With a pattern for the name of the `file`, the whole model is kept under the name of its epoch,
    and that of the best epoch before is removed.
    """

    def __init__(self, monitor: str, at_least: float, run_dir: Path, file: str = "") -> None:
        super().__init__()
        self.monitor = monitor
        self.at_least = at_least
        self.run_dir = run_dir
        self.file = file
        self.best = -math.inf

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        value = (logs or {})[self.monitor]
        if value <= self.best:
            return
        self.best = value
        if value < self.at_least:
            return
        if not self.file:
            unfinished = self.run_dir / f".{BEST_WEIGHTS}"
            self.model.save_weights(unfinished)
            files.replace(unfinished, self.run_dir / BEST_WEIGHTS)
            return
        # Written under another name first, so that a file of that name is always a whole one.
        unfinished = self.run_dir / ".best.h5"
        self.model.save(unfinished)
        before = list(self.run_dir.glob(re.sub(r"\{[^}]*\}", "*", self.file)))
        best = self.run_dir / self.file.format(epoch=epoch + 1, **logs or {})
        files.replace(unfinished, best)
        for path in before:
            if path != best:
                path.unlink()


class TrainEvaluation(keras.callbacks.Callback):
    """Adds the loss and accuracy of the training images in evaluation mode to an epoch's logs.

    What an epoch reports of its training images is a mean over changing weights, with dropout on.
    """

    def __init__(self, images: Any) -> None:
        super().__init__()
        self.images = images

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        values = self.model.evaluate(self.images, verbose=0, return_dict=True)
        for name in ("accuracy", "loss"):
            (logs or {})[f"evaluated_{name}"] = values[name]


class LastBatch(keras.metrics.Metric):
    """The mean of a loss or an accuracy over the last batch only, where Keras averages all.

    `measure` maps labels and predictions of a batch to a value per image.
    """

    def __init__(self, measure: Callable[[Any, Any], Any], name: str) -> None:
        super().__init__(name=name)
        self.measure = measure
        self.value = self.add_variable((), "zeros", name="value")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        self.value.assign(keras.ops.mean(self.measure(y_true, y_pred)))

    def result(self) -> Any:
        return keras.ops.convert_to_tensor(self.value)


def batch_metrics() -> list[keras.metrics.Metric]:
    """Cross-entropy, in nats, and accuracy of single batches, for `Recorder` to record."""
    return [
        LastBatch(keras.losses.sparse_categorical_crossentropy, "batch_loss"),
        LastBatch(keras.metrics.sparse_categorical_accuracy, "batch_accuracy"),
    ]


class Recorder(keras.callbacks.Callback):
    """Records every epoch in `run_dir` and lets an interrupted training go on.

    Place it last, so that it sees and saves what the other callbacks have counted. After an epoch
    it first saves the checkpoint, which holds the curves so far, and then writes the event files;
    on resuming it writes those epochs that the events lack. So every epoch is there exactly once.
    Where the model has `batch_metrics`, and returns to Python after every step, these are recorded
    too, in the event folder `batches`. About once a second it asks `wanted` whether anybody still
    waits for the result. `workers` is the largest number of trainings that shared the machine with
    any of the epochs.
    """

    def __init__(
        self, run_dir: Path, epochs: int, workers: int, wanted: Callable[[], bool]
    ) -> None:
        super().__init__()
        self.workers = workers
        self.wanted = wanted
        self.run_dir = run_dir
        self.epochs = epochs
        self.history: list[dict[str, float]] = []
        self.others: list[keras.callbacks.Callback] = []
        self.batch_losses: list[float] = []
        self.untrained: dict[str, float] = {}
        self._counters: list[dict[str, float]] = []
        self._last_sign = 0.0
        self._writers: dict[str, EventWriter] = {}

    def saved_epochs(self) -> int:
        """How many epochs the checkpoint holds, without loading it; 0 where there is none."""
        return checkpoint.saved_epochs(self.run_dir / CHECKPOINT)

    def adopt(self, model: keras.Model, history: list[dict[str, float]]) -> None:
        """Record a training that was done elsewhere, a row per epoch as `history` has them."""
        self.set_model(model)
        self.history = history
        self.on_train_begin()
        self.on_train_end()

    def restore(self, model: keras.Model, others: list[keras.callbacks.Callback]) -> int:
        """Load the checkpoint, if there is a whole one, into the model and the other callbacks.

        Returns the number of epochs done.
        """
        self.set_model(model)
        self.others = others
        state, arrays = checkpoint.read_checkpoint(self.run_dir / CHECKPOINT)
        if not state:
            return 0
        try:
            losses = read_scalars(self.run_dir / BATCHES).get(_BATCH_TAGS[0], {})
            # Batches after the last whole epoch are trained, and recorded, once more.
            batch_losses = [losses[step] for step in range(state.get("batches", 0))]
        except checkpoint.UNREADABLE:
            return 0
        variables = self._variables()
        if [a.shape for a in arrays] != [tuple(v.shape) for v in variables]:
            return 0
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)
        self.history = state["history"]
        self.workers = max(self.workers, state.get("workers", 0))
        self._counters = state["counters"]
        self.untrained = state.get("untrained", {})
        self.batch_losses = batch_losses
        return len(self.history)

    def measure_untrained(self, train: Any, validation: Any) -> None:
        """Evaluate the network as it is; its validation accuracy is the first one to surpass."""
        for name, images in (
            ("untrained_train_accuracy", train),
            ("untrained_accuracy", validation),
        ):
            self.untrained[name] = self.model.evaluate(images, verbose=0, return_dict=True)[
                "accuracy"
            ]
        for callback in self.others:
            if isinstance(callback, StagnationStop | BestWeights):
                callback.best = self.untrained["untrained_accuracy"]

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        for callback, counters in zip(self.others, self._counters, strict=False):
            for name, value in counters.items():
                setattr(callback, name, value)
        self._counters = []  # a second phase goes on from what they count themselves
        self._writers = {
            group: EventWriter(self.run_dir / group) for group in ("train", "validation")
        }
        self._logged = {
            group: set(read_scalars(self.run_dir / group).get("epoch_loss", {}))
            for group in self._writers
        }
        self._log()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._started, self._worked = time.perf_counter(), time.process_time()
        self._trained = {}
        self._rate = float(self.model.optimizer.learning_rate)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if logs and _BATCH_TAGS[0] in logs:
            self._record_batch({tag: float(logs[tag]) for tag in _BATCH_TAGS})
        self._sign_of_life(None)

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._trained = {
            "train_seconds": time.perf_counter() - self._started,
            "processor_seconds": time.process_time() - self._worked,
        }

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._sign_of_life(None)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        times = self._times()
        row = {
            name: float(value)
            for name, value in (logs or {}).items()
            if name.removeprefix("val_") not in _BATCH_TAGS
        }
        row |= {"learning_rate": self._rate} | times
        self.history.append(row)
        if not math.isfinite(row["loss"]):
            # Weights that are not numbers never recover; the divergence itself is the result.
            self.model.stop_training = True
        if not self.model.stop_training:
            self._save()
        self._log()
        self._sign_of_life(row)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self.close()

    def close(self) -> None:
        """Close the event files; also where a training was broken off."""
        for writer in self._writers.values():
            writer.close()
        self._writers = {}

    def _times(self) -> dict[str, float]:
        """What an epoch that has just ended took, in seconds."""
        return {"seconds": time.perf_counter() - self._started} | self._trained

    def _log(self) -> None:
        """Write the epochs that the events lack."""
        for group, logged in self._logged.items():
            for epoch, row in enumerate(self.history):
                if epoch not in logged:
                    self._writers[group].scalars(_tags(row, group), epoch)
                    logged.add(epoch)

    def _record_batch(self, values: dict[str, float]) -> None:
        if BATCHES not in self._writers:
            self._writers[BATCHES] = EventWriter(self.run_dir / BATCHES)
        self._writers[BATCHES].scalars(values, len(self.batch_losses))
        self.batch_losses.append(values[_BATCH_TAGS[0]])

    def _variables(self) -> list[Any]:
        return [*self.model.variables, *self.model.optimizer.variables]

    def _state(self) -> dict[str, Any]:
        """All that a training needs to go on but its variables, as plain data."""
        return {
            "history": self.history,
            "batches": len(self.batch_losses),
            "untrained": self.untrained,
            "workers": self.workers,
            "counters": [
                {name: float(getattr(c, name)) for name in _COUNTERS if hasattr(c, name)}
                for c in self.others
            ],
        }

    def _save(self) -> None:
        variables = [np.asarray(variable) for variable in self._variables()]
        checkpoint.write_checkpoint(self.run_dir / CHECKPOINT, self._state(), variables)

    def _sign_of_life(self, row: dict[str, float] | None) -> None:
        """Once a second and after every epoch: tell how far the training is, and check that
        somebody still wants it."""
        now = time.monotonic()
        if row is None and now - self._last_sign < 1:
            return
        self._last_sign = now
        if not self.wanted():
            raise OrphanedError("the process that started this training has ended")
        self._report()

    def _report(self) -> None:
        last = self.history[-1] if self.history else {}
        progress = {
            "epoch": len(self.history),
            "epochs": self.epochs,
            "val_accuracy": last.get("val_accuracy"),
        }
        files.write_json(self.run_dir / PROGRESS, progress)


def _tags(row: dict[str, float], group: str) -> dict[str, float]:
    """The tags of one event folder, named as Keras's TensorBoard callback names them."""
    if group == "validation":
        return {
            f"epoch_{name.removeprefix('val_')}": value
            for name, value in row.items()
            if name.startswith("val_")
        }
    return {f"epoch_{name}": value for name, value in row.items() if not name.startswith("val_")}
