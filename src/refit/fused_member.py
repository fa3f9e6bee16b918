"""One member of a group: what surrounds its epochs, by the same callbacks as when trained alone."""

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from refit.experiments.trial import Trial
from refit.run_directory import events
from refit.run_directory.directory import CHECKPOINT
from refit.run_directory.run_log import SHARE
from refit.training import callbacks, checkpoint

# The times of an epoch, which a member has no part of its own in.
_TIMES = ("seconds", "train_seconds", "processor_seconds")


class Optimizer:
    """What callbacks know of an optimizer: a learning rate, rounded as a variable is."""

    def __init__(self, value: float) -> None:
        self.learning_rate = value

    @property
    def learning_rate(self) -> np.float32:
        return self._value

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._value = np.float32(value)


class StandIn:
    """What callbacks take for the member's model.

    `loaded` returns a model that holds the member's weights, for those that save them; `metrics`
    are the model's.
    """

    def __init__(self, rate: float, metrics: list[Any], loaded: Callable[[], Any]) -> None:
        self.optimizer = Optimizer(rate)
        self.metrics = metrics
        self.stop_training = False
        self._loaded = loaded

    def evaluate(self, found: dict[str, float], **_: Any) -> dict[str, float]:
        """What the group has measured already, given in place of images."""
        return found

    def save(self, path: Path) -> None:
        self._loaded().save(path)

    def save_weights(self, path: Path) -> None:
        self._loaded().save_weights(path)


class MemberRecorder(callbacks.Recorder):
    """Records a member. Its group tells when to `save` the state, and then to `write` the events.

    So events never hold an epoch that would be trained again. The times are those of the group and
    say nothing of this training, so they are not numbers, and the `share` of them stands beside.
    """

    share = float("nan")

    def __init__(
        self, run_dir: Path, epochs: int, workers: int, circumstances: dict[str, Any]
    ) -> None:
        super().__init__(run_dir, epochs, workers, lambda: True)
        self._circumstances = circumstances

    def circumstances(self) -> dict[str, Any]:
        return self._circumstances

    def resume(self, state: dict[str, Any], others: list[Any]) -> None:
        """Go on from the state of a checkpoint; an empty one is a beginning."""
        self.others = others
        self.history = state.get("history", [])
        self.untrained = state.get("untrained", {})
        self._counters = state.get("counters", [])
        self.workers = max(self.workers, state.get("workers", 0))

    def save(self, variables: list[np.ndarray]) -> None:
        """Write the checkpoint, with the member's variables in the order of `_variables`."""
        checkpoint.write_checkpoint(self.run_dir / CHECKPOINT, self._state(), variables)

    def write(self) -> None:
        """Write the epochs that the events lack."""
        super()._log()

    def tell(self) -> None:
        """Tell how far the training is."""
        self._report()

    def _times(self) -> dict[str, float]:
        return dict.fromkeys(_TIMES, float("nan")) | {SHARE: self.share}

    def _save(self) -> None:
        pass

    def _log(self) -> None:
        pass

    def _sign_of_life(self, row: dict[str, float] | None) -> None:
        pass


class Member:
    """A trial in a group: its run directory, and its callbacks with the model they are to see."""

    def __init__(
        self,
        trial: Trial,
        run_dir: Path,
        workers: int,
        model: StandIn,
        circumstances: dict[str, Any],
    ) -> None:
        self.trial = trial
        self.run_dir = run_dir
        self.model = model
        self._open = True
        self.recorder = MemberRecorder(run_dir, trial.epochs, workers, circumstances)
        self.log = events.EventWriter(run_dir)

    def begin(self, state: dict[str, Any], untrained: tuple[dict[str, float], ...]) -> None:
        """Begin, or go on from a saved state; `untrained` has the first measures, where wanted."""
        others = callbacks.build(self.trial.callbacks, self.run_dir)
        for callback in (*others, self.recorder):
            callback.set_model(self.model)
        self.recorder.resume(state, others)
        if untrained:
            self.recorder.measure_untrained(*untrained)
        for callback in (*others, self.recorder):
            callback.on_train_begin()
        self.log.summary(
            events.hparams_session(self.trial.hyper_parameters(), str(self.trial.directory))
        )

    def begin_epoch(self) -> None:
        self.recorder.on_epoch_begin(len(self.recorder.history))

    def end_epoch(self, logs: dict[str, float], share: float) -> bool:
        """Let the callbacks see an epoch; returns whether it was the last."""
        self.recorder.share = share
        epoch = len(self.recorder.history)
        for callback in (*self.recorder.others, self.recorder):
            callback.on_epoch_end(epoch, logs)
        return self.model.stop_training or epoch + 1 >= self.trial.epochs

    def close(self) -> None:
        """Close the event files."""
        if self._open:
            self._open = False
            self.recorder.close()
            self.log.close()

    @property
    def shares(self) -> list[float]:
        """The seconds that each epoch took the group, divided by its members."""
        return [row[SHARE] for row in self.recorder.history]

    @property
    def seconds_per_epoch(self) -> float:
        """The median of the shares without the first, in which the group was compiled."""
        return statistics.median(self.shares[1:] or self.shares)
