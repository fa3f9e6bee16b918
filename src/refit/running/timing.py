"""How long a training will take, judged by those that are done.

Times come from finished trainings of whatever profile: the same network on images of the same
size, scaled by the number of images and epochs.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from refit import files
from refit.experiments.trial import StopAtTarget, Trial
from refit.run_directory.directory import RESULT, Result

# What makes two trainings take equally long per image, from the closest match to the loosest.
_LIKENESS = (
    ("model", "options", "size", "batch_size", "optimizer", "settings"),
    ("model", "options", "size", "batch_size", "optimizer"),
    ("model", "options", "size", "batch_size"),
    ("model", "options", "size"),
    ("model", "size"),
    ("model",),
)


class Times:
    """The times of all finished trainings below a folder of runs."""

    def __init__(self, runs: Path) -> None:
        self._records = pd.DataFrame(_records(runs))

    def seconds(self, trial: Trial, images: int) -> float:
        """How long a trial trains on so many images, in seconds; NaN where nothing is like it."""
        traits = _traits(trial)
        for names in _LIKENESS if len(self._records) else ():
            alike = self._records
            for name in names:
                alike = alike[alike[name] == traits[name]]
            if len(alike):
                # Trainings on many images tell most: short epochs are mostly fixed cost.
                best = alike[alike["images"] == alike["images"].max()]
                # One that stops at a target takes fewer epochs than it may.
                early = alike[alike["target"] & traits["target"]]
                epochs = early["epochs"].median() if len(early) else trial.epochs
                candidates = trial.model.options.get("candidates", 1)  # of a search
                return float(best["seconds_per_image"].median() * images * epochs * candidates)
        return math.nan


def _records(runs: Path) -> Iterator[dict[str, object]]:
    for path in sorted(runs.glob(f"*/*/*/*/{RESULT}")):
        result = files.read_model(path, Result)
        try:
            trial = Trial.model_validate(result.trial) if result else None
        except ValueError:  # of a version whose settings were others
            continue
        if trial:
            images, metrics = result.data.train_images, result.metrics
            measured = {"images": images, "epochs": metrics.epochs}
            measured["seconds_per_image"] = metrics.seconds_per_epoch / images
            yield _traits(trial) | measured


def _traits(trial: Trial) -> dict[str, object]:
    return {
        "model": trial.model.name,
        "options": json.dumps(trial.model.options, sort_keys=True),
        "size": (trial.data.image_size, trial.data.frames or 1),
        "batch_size": trial.batch_size,
        "optimizer": trial.optimizer.name,
        "settings": trial.optimizer.model_dump_json(),
        "target": any(isinstance(callback, StopAtTarget) for callback in trial.callbacks),
    }
