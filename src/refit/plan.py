"""What a run would cost, before anything is spent: trainings to do and the time they will take.

Times come from trainings that are done already, in whatever profile: the same network on images of
the same size, scaled by the number of images and epochs.
"""

import json
import math
import os
from collections.abc import Iterator

import pandas as pd

from refit import data, paths, storage
from refit.experiment import Trial
from refit.runner import result_of
from refit.study import Study

# What makes two trainings take equally long per image, from the closest match to the loosest.
_LIKENESS = (
    ("model", "options", "size", "batch_size", "optimizer"),
    ("model", "options", "size", "batch_size"),
    ("model", "options", "size"),
    ("model", "size"),
    ("model",),
)


def plan(study: Study, workers: int | None = None) -> pd.DataFrame:
    """One row per sweep: trials, done, to train, and hours on this machine.

    `hours` is the time with `workers` trainings at once (default: one per core); NaN where nothing
    comparable has been trained yet.
    """
    records = pd.DataFrame(_records())
    rows = []
    for sweep in dict.fromkeys(trial.sweep for trial in study.trials):
        trials = [trial for trial in study.trials if trial.sweep == sweep]
        missing = [trial for trial in trials if result_of(trial, study.runs) is None]
        seconds = sum(_seconds(trial, records, study) for trial in missing)
        rows.append(
            {
                "sweep": sweep,
                "trials": len(trials),
                "done": len(trials) - len(missing),
                "to train": len(missing),
                "hours": seconds / 3600 / (workers or os.cpu_count() or 1),
            }
        )
    return pd.DataFrame(rows)


def _seconds(trial: Trial, records: pd.DataFrame, study: Study) -> float:
    """How long a trial will train; NaN while nothing like it has been timed."""
    traits = _traits(trial)
    images = trial.data.train_images
    if images is None:
        images = len(data.load(trial.data, study.data_dir, paths.cache()).train)
    for names in _LIKENESS if len(records) else ():
        alike = records
        for name in names:
            alike = alike[alike[name] == traits[name]]
        if len(alike):
            # The longest trainings tell most: short ones are mostly fixed cost.
            best = alike[alike["images"] == alike["images"].max()]
            return float(best["seconds_per_image"].median()) * images * trial.epochs
    return math.nan


def _records() -> Iterator[dict[str, object]]:
    """Seconds per image and epoch of every finished training below the folder of runs."""
    for path in sorted(paths.runs().glob(f"*/*/*/*/{storage.RESULT}")):
        result = storage.read_json(path)
        try:
            trial = Trial.model_validate(result["trial"])
            images = result["data"]["train_images"]
            seconds = result["metrics"]["seconds_per_epoch"]
        except (TypeError, KeyError, ValueError):
            continue
        yield _traits(trial) | {"images": images, "seconds_per_image": seconds / images}


def _traits(trial: Trial) -> dict[str, object]:
    return {
        "model": trial.model.name,
        "options": json.dumps(trial.model.options, sort_keys=True),
        "size": trial.data.image_size,
        "batch_size": trial.batch_size,
        "optimizer": trial.optimizer.name,
    }
