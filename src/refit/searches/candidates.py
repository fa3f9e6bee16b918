"""What an AutoKeras search keeps of its candidates: a folder for each, recorded like a training."""

import contextlib
import math
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from refit import files
from refit.experiments.trial import Trial
from refit.run_directory.directory import PROGRESS
from refit.run_directory.events import EventWriter, hparams_session, hparams_session_end
from refit.training.recorder import Recorder

# Below a run directory: a folder for each candidate; in it, its row and its curve.
FOLDERS = "candidates"
CANDIDATE = "candidate.json"


def folder_of(run_dir: Path, number: int) -> Path:
    """The folder of a candidate, by its number from 1, below the run directory of the search."""
    return run_dir / FOLDERS / f"{number:02}"


class CandidateRecorder(Recorder):
    """Records a candidate in a folder of its own, and how far the whole search is in `run_dir`.

    A candidate is trained as a whole or again, so it has no checkpoint.
    """

    def __init__(
        self, run_dir: Path, number: int, trial: Trial, wanted: Callable[[], bool]
    ) -> None:
        super().__init__(folder_of(run_dir, number), trial.epochs, 1, wanted)
        self.search_dir = run_dir
        self.number = number
        self.trial = trial

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if self._writers:
            # The first attempt did not end. AutoKeras begins again with half the batch, which is
            # not what the trial declares.
            raise MemoryError(f"batches of {self.trial.batch_size} images do not fit into memory")
        super().on_train_begin(logs)

    def report(self) -> None:
        progress = {
            "epoch": (self.number - 1) * self.epochs + len(self.history),
            "epochs": self.trial.model.options["candidates"] * self.epochs,
            "val_accuracy": self.history[-1]["val_accuracy"] if self.history else None,
        }
        files.write_json(self.search_dir / PROGRESS, progress)


@contextlib.contextmanager
def recorded(recorder: CandidateRecorder, values: dict[str, Any]) -> Iterator[None]:
    """Record a candidate with its hyper-parameters: a row of TensorBoard's HParams tab, in the
    columns that trials have there, and a file with its row and curve."""
    trial, number = recorder.trial, recorder.number
    plain = {name.rpartition("/")[2]: value for name, value in values.items()}
    plain = {"version": plain.pop("version")} | plain
    renamed = {"optimizer": "optimizer", "learning_rate": "optimizer.learning_rate"}
    columns = {renamed.get(name, f"model.{name}"): value for name, value in plain.items()}
    columns = trial.hyper_parameters() | columns | {"trial": f"{trial.name} {number:02}"}
    with closing(EventWriter(recorder.run_dir)) as log, closing(recorder):
        log.summary(hparams_session(columns, f"{trial.directory}/{number:02}"))
        yield
        log.summary(hparams_session_end())
    row = {"number": number} | plain | _score(recorder)
    stored = {"candidate": row, "history": recorder.history}
    files.write_json(recorder.run_dir / CANDIDATE, stored)


def _score(recorder: CandidateRecorder) -> dict[str, Any]:
    """What is said of a trained candidate: the values of the epoch whose weights are kept."""
    losses = [row["val_loss"] for row in recorder.history]
    finite = [place for place, loss in enumerate(losses) if math.isfinite(loss)]
    kept = min(finite, key=losses.__getitem__, default=None)
    row = recorder.history[-1 if kept is None else kept]
    return {
        "kept_epoch": None if kept is None else kept + 1,
        "val_accuracy": row["val_accuracy"],
        "val_loss": row["val_loss"],
        "epochs": len(recorder.history),
        "seconds": sum(row["seconds"] for row in recorder.history),
        "parameters": recorder.model.count_params(),
    }
