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
            return BestWeights(spec.monitor, spec.at_least, run_dir, spec.file)
        case ReduceOnPlateau():
            return keras.callbacks.ReduceLROnPlateau(
                spec.monitor, spec.factor, spec.patience, min_lr=spec.min_lr
            )


def set_first(callbacks: Sequence[keras.callbacks.Callback], accuracy: float) -> None:
    """Let the accuracy of the untrained network be the first that an epoch must surpass."""
    for callback in callbacks:
        if isinstance(callback, StagnationStop | BestWeights):
            callback.best = accuracy


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


class BestWeights(keras.callbacks.Callback):
    """Keeps the weights of the best epoch so far in a file, once `monitor` reaches `at_least`.

    With a pattern for the name of the `file`, the whole model is kept under the name of its epoch,
    and that of the best epoch before is removed. Files appear whole: they are written beside.
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
        if self.file:
            self._keep_model(self.file.format(epoch=epoch + 1, **logs or {}))
        else:
            unfinished = self.run_dir / f".{BEST_WEIGHTS}"
            self.model.save_weights(unfinished)
            unfinished.replace(self.run_dir / BEST_WEIGHTS)

    def _keep_model(self, name: str) -> None:
        unfinished = self.run_dir / ".best.h5"
        self.model.save(unfinished)
        before = list(self.run_dir.glob(re.sub(r"\{[^}]*\}", "*", self.file)))
        unfinished.replace(self.run_dir / name)
        for path in before:
            if path.name != name:
                path.unlink()
