"""Callbacks that end a training, lower its rate, or keep the weights of its best epoch."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from refit.experiments.trial import (
    Callback,
    KeepBest,
    ReduceOnPlateau,
    StopAtTarget,
    StopWhenStagnant,
)
from refit.run_directory.directory import BEST_WEIGHTS


def build(spec: Callback, run_dir: Path) -> keras.callbacks.Callback:
    """The Keras callback that a trial's declaration names; what it keeps goes to `run_dir`."""
    match spec:
        case StopAtTarget():
            return TargetStop(spec.monitor, spec.target)
        case StopWhenStagnant():
            return StagnationStop(spec.monitor, spec.patience)
        case KeepBest():
            folder = str(run_dir).replace("{", "{{").replace("}", "}}")  # Keras fills in braces
            return BestModel(
                Path(folder, spec.file or BEST_WEIGHTS),
                spec.monitor,
                save_best_only=True,
                save_weights_only=not spec.file,
                mode="max",
                # Keras keeps what surpasses it, and a declaration means what reaches it.
                initial_value_threshold=math.nextafter(spec.at_least, -math.inf),
            )
        case ReduceOnPlateau():
            return keras.callbacks.ReduceLROnPlateau(
                spec.monitor, spec.factor, spec.patience, min_lr=spec.min_lr
            )


def set_first(callbacks: Sequence[keras.callbacks.Callback], accuracy: float) -> None:
    """Let the accuracy of the untrained network be the first that an epoch must surpass."""
    for callback in callbacks:
        if isinstance(callback, StagnationStop | BestModel):
            callback.best = max(callback.best, accuracy)


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
        self.wait = 0 if value > self.best else self.wait + 1
        self.best = max(self.best, value)
        if self.wait >= self.patience and epoch + 1 > self.patience:
            self.model.stop_training = True


class BestModel(keras.callbacks.ModelCheckpoint):
    """Keras's ModelCheckpoint, which leaves one file where its name tells of the epoch."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        before = self.best
        super().on_epoch_end(epoch, logs)
        if self.best != before:
            kept = Path(self.filepath.format(epoch=epoch + 1, **logs or {}))
            for path in kept.parent.glob(re.sub(r"\{[^}]*\}", "*", Path(self.filepath).name)):
                if path != kept:
                    path.unlink()
