"""The record of a training: a row per epoch, its event files, and a sign of life for who waits."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from refit import files
from refit.run_directory.curve_metrics import BATCH_COLUMNS
from refit.run_directory.directory import BATCHES, CHECKPOINT, EVENT_FOLDERS, PROGRESS
from refit.run_directory.events import EventWriter, event_files, read_scalars
from refit.training import checkpoint


class OrphanedError(RuntimeError):
    """The process that wanted this training is gone, so nobody waits for its result."""


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
    """Records every epoch in `run_dir`, and goes on with the record of an interrupted training.

    Place it last, so that it sees and saves what the other callbacks have counted. After an epoch
    it first saves the checkpoint, which holds the curves so far, and then writes the event files;
    on resuming it writes those epochs that the events lack. What an attempt has logged that is not
    gone on from is removed. So every epoch is there exactly once.
    Where the model has `batch_metrics`, and returns to Python after every step, these are recorded
    too, in the event folder `batches`. About once a second it asks `wanted` whether anybody still
    waits for the result, and raises OrphanedError where nobody does. `workers` is the largest
    number of trainings that shared the machine with any of the epochs.
    """

    def __init__(
        self, run_dir: Path, epochs: int, workers: int, wanted: Callable[[], bool]
    ) -> None:
        super().__init__()
        self.run_dir = run_dir
        self.epochs = epochs
        self.workers = workers
        self.wanted = wanted
        self.history: list[dict[str, float]] = []
        self.untrained: dict[str, float] = {}
        self._others: list[keras.callbacks.Callback] | None = None
        self._counters: list[dict[str, float]] = []
        self._resumed = 0
        self._last_sign = 0.0
        self._writers: dict[str, EventWriter] = {}

    def resume(
        self,
        model: keras.Model,
        others: list[keras.callbacks.Callback],
        saved: checkpoint.Checkpoint | None,
    ) -> int:
        """Save checkpoints from now on, and go on from the one `saved` where it fits the model.

        Returns the number of epochs done.
        """
        self._others = others
        if saved is None or not saved.fits(model):
            return 0
        batches = read_scalars(self.run_dir / BATCHES).get(BATCH_COLUMNS[0], {})
        if not set(batches).issuperset(range(saved.state.get("batches", 0))):
            return 0  # what was recorded of them beside the checkpoint is lost
        saved.restore(model)
        state = saved.state
        self.history = state["history"]
        self.workers = max(self.workers, state["workers"])
        self.untrained, self._counters = state["untrained"], state["counters"]
        self._resumed = len(self.history)
        return self._resumed

    def adopt(self, model: keras.Model, history: list[dict[str, float]]) -> None:
        """Record a training that was done elsewhere, a row per epoch as `history` has them."""
        self.set_model(model)
        self.history = history
        self.on_train_begin()
        self.on_train_end()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if self._counters:
            checkpoint.restore_counters(self._others or [], self._counters)
            self._counters = []  # a second phase goes on from what they count themselves
        for old in () if self._resumed else EVENT_FOLDERS:
            for path in event_files(self.run_dir / old):
                path.unlink()
        groups = ("train", "validation")
        self._writers = {group: EventWriter(self.run_dir / group) for group in groups}
        # What was logged beyond the checkpoint is logged again, and the later file counts.
        done = set(range(self._resumed))
        self._logged = {
            group: done & set(read_scalars(self.run_dir / group).get("epoch_loss", {}))
            for group in groups
        }
        self._log()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._started, self._worked = time.perf_counter(), time.process_time()
        self._trained = {}
        self._rate = float(self.model.optimizer.learning_rate)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if logs and BATCH_COLUMNS[0] in logs:
            if BATCHES not in self._writers:
                self._writers[BATCHES] = EventWriter(self.run_dir / BATCHES)
            step = len(self.history) * self.params["steps"] + batch
            self._writers[BATCHES].scalars({tag: float(logs[tag]) for tag in BATCH_COLUMNS}, step)
        self._give_sign(None)

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._trained = {
            "train_seconds": time.perf_counter() - self._started,
            "processor_seconds": time.process_time() - self._worked,
        }

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._give_sign(None)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        times = {"seconds": time.perf_counter() - self._started} | self._trained
        row = {
            name: float(value)
            for name, value in (logs or {}).items()
            if name.removeprefix("val_") not in BATCH_COLUMNS
        }
        row |= {"learning_rate": self._rate} | times
        self.history.append(row)
        if not math.isfinite(row["loss"]):
            # Weights that are not numbers never recover; the divergence itself is the result.
            self.model.stop_training = True
        if self._others is not None and not self.model.stop_training:
            state = {
                "history": self.history,
                "untrained": self.untrained,
                "workers": self.workers,
                "batches": len(self.history) * self.params["steps"] * (BATCHES in self._writers),
            }
            checkpoint.save(self.run_dir / CHECKPOINT, self.model, self._others, state)
        self._log()
        self._give_sign(row)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._resumed = len(self.history)
        self.close()

    def close(self) -> None:
        """Close the event files; also where a training was broken off."""
        for writer in self._writers.values():
            writer.close()
        self._writers = {}

    def report(self) -> None:
        """Tell, in a file for whoever watches, how far the training is."""
        last = self.history[-1] if self.history else {}
        progress = {"epoch": len(self.history), "epochs": self.epochs}
        files.write_json(
            self.run_dir / PROGRESS, progress | {"val_accuracy": last.get("val_accuracy")}
        )

    def _log(self) -> None:
        """Write the epochs that the events lack."""
        for group, logged in self._logged.items():
            for epoch, row in enumerate(self.history):
                if epoch not in logged:
                    self._writers[group].scalars(tags(row, group), epoch)
                    logged.add(epoch)

    def _give_sign(self, row: dict[str, float] | None) -> None:
        """Once a second and after every epoch: check that somebody waits, and report to them."""
        now = time.monotonic()
        if row is None and now - self._last_sign < 1:
            return
        self._last_sign = now
        if not self.wanted():
            raise OrphanedError("the process that started this training has ended")
        self.report()


def tags(row: dict[str, float], group: str) -> dict[str, float]:
    """An epoch's values for the event folder `train` or `validation`, under the tags of Keras's
    TensorBoard callback."""
    return {
        f"epoch_{name.removeprefix('val_')}": value
        for name, value in row.items()
        if name.startswith("val_") == (group == "validation")
    }
