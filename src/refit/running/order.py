"""In which order trials are trained, and how long that will take, judged by those that are done.

Times come from finished trainings of whatever profile: the same network on images of the same
size, scaled by the number of images and epochs.
"""

import functools
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from refit import files, paths
from refit.data import cache
from refit.data.spec import DataSpec
from refit.experiments.trial import StopAtTarget, StopWhenStagnant, Trial
from refit.run_directory.directory import RESULT, Result, result_of

# What makes two trainings take equally long per image, from the closest match to the loosest.
_LIKENESS = (
    ("model", "options", "size", "batch_size", "optimizer", "settings"),
    ("model", "options", "size", "batch_size", "optimizer"),
    ("model", "options", "size", "batch_size"),
    ("model", "options", "size"),
    ("model", "size"),
    ("model",),
)


class Schedule:
    """The trials that are still to be started, each of them once.

    `expected` tells how long each will take, in seconds. Those that begin the longest chain of
    trials come first, which keeps all workers busy to the end.
    """

    def __init__(self, trials: Sequence[Trial], expected: Mapping[Trial, float]) -> None:
        self._expected = expected
        self._followers: dict[str, list[Trial]] = defaultdict(list)
        directories = {str(trial.directory) for trial in trials}
        for trial in trials:
            start = trial.starts_from if trial.starts_from in directories else ""
            self._followers[start].append(trial)
        self._ready: list[Trial] = []
        self._release("")

    def start(self) -> Trial | None:
        """The trial to start next; None where all others wait for one that is running."""
        return self._ready.pop(0) if self._ready else None

    def ended(self, trial: Trial) -> None:
        """Release the trials that start from this one; without its weights they fail at once."""
        self._release(str(trial.directory))

    def _release(self, start: str) -> None:
        if released := self._followers.pop(start, []):
            self._ready = sorted([*self._ready, *released], key=self._way, reverse=True)

    def _way(self, trial: Trial) -> float:
        """The time from a trial's start to the end of the last that must wait for it."""
        followers = self._followers.get(str(trial.directory), [])
        return self._expected[trial] + max(map(self._way, followers), default=0.0)


class Times:
    """How long trials of an experiment will take, whose runs are in `folder`, by all that is done.

    `folder` is `<profile>/<experiment>` below the folder of all runs.
    """

    def __init__(self, folder: Path) -> None:
        self._place = "/".join(folder.parts[-2:])
        self._records = pd.DataFrame(_records(paths.runs()))
        self._images_of = functools.cache(_images_of)

    def seconds(self, trial: Trial) -> float:
        """How long a trial will take; NaN where nothing is like it, or its images are not known."""
        traits = _traits(trial)
        for names in _LIKENESS if len(self._records) else ():
            alike = self._records
            for name in names:
                alike = alike[alike[name] == traits[name]]
            if len(alike):
                # Trainings on many images tell most: short epochs are mostly fixed cost.
                best = alike[alike["images"] == alike["images"].max()]
                candidates = trial.model.options.get("candidates", 1)  # of a search
                epochs = self._epochs(trial) * candidates
                images = self._images_of(trial.data)
                return best["seconds_per_image"].median() * images * epochs + best["fixed"].median()
        return math.nan

    def _epochs(self, trial: Trial) -> float:
        """The epochs of a trial; where it may stop early, as many as are usual in its sweep."""
        known, usual = self._records, math.nan
        if _stops_early(trial):
            sweep = (known["place"] == self._place) & (known["sweep"] == trial.sweep)
            usual = known.loc[sweep & known["early"], "epochs"].median()
        return trial.epochs if math.isnan(usual) else min(usual, trial.epochs)


def expected(trials: Sequence[Trial], folder: Path) -> dict[Trial, float]:
    """How long each trial will take, in seconds; where nothing tells, as long as the longest."""
    times = Times(folder)
    known = {trial: times.seconds(trial) for trial in trials}
    longest = max((value for value in known.values() if value > 0), default=1.0)
    return {trial: value if value > 0 else longest for trial, value in known.items()}


def plan(trials: Sequence[Trial], folder: Path, workers: int) -> pd.DataFrame:
    """One row per sweep: trials, done, to train, and hours with `workers` trainings at once.

    `folder` has the experiment's runs. Reads no data and downloads none: hours are NaN where
    nothing comparable has been trained yet, or where only the data could tell how many they are.
    """
    times = Times(folder)
    rows = []
    for sweep in dict.fromkeys(trial.sweep for trial in trials):
        of_sweep = [trial for trial in trials if trial.sweep == sweep]
        missing = [trial for trial in of_sweep if result_of(trial, folder) is None]
        seconds = sum(times.seconds(trial) for trial in missing)
        counts = (len(of_sweep), len(of_sweep) - len(missing), len(missing))
        rows.append((sweep, *counts, seconds / 3600 / workers))
    return pd.DataFrame(rows, columns=["sweep", "trials", "done", "to train", "hours"])


def _images_of(spec: DataSpec) -> float:
    """How many images a data set trains on; NaN where nobody has said so or decoded it."""
    if spec.train_images:
        return spec.train_images
    dataset = cache.read(cache.folder_of(spec, paths.cache()))
    if dataset is None:
        return math.nan
    labels = dataset.train.labels
    return int(np.isin(labels, spec.only_classes).sum()) if spec.only_classes else len(labels)


def _records(runs: Path) -> Iterator[dict[str, object]]:
    for path in sorted(runs.glob(f"*/*/*/*/{RESULT}")):
        result = files.read_model(path, Result)
        try:
            trial = Trial.model_validate(result.trial) if result else None
        except ValueError:  # of a version whose settings were others
            continue
        if result and trial:
            images = result.data.train_images
            yield _traits(trial) | {
                "place": "/".join(path.parts[-5:-3]),
                "sweep": trial.sweep,
                "early": _stops_early(trial),
                "images": images,
                "epochs": result.metrics.epochs,
                "seconds_per_image": result.metrics.seconds_per_epoch / images,
                "fixed": _fixed(result),
            }


def _fixed(result: Result) -> float:
    """The seconds before the first epoch and in it, where the graph is built."""
    if result.resumed_at_epoch or result.candidates:
        return 0.0
    return max(result.wall_seconds - result.metrics.seconds_per_epoch * result.metrics.epochs, 0.0)


def _stops_early(trial: Trial) -> bool:
    return any(isinstance(one, StopAtTarget | StopWhenStagnant) for one in trial.callbacks)


def _traits(trial: Trial) -> dict[str, object]:
    return {
        "model": trial.model.name,
        "options": json.dumps(trial.model.options, sort_keys=True),
        "size": (trial.data.image_size, trial.data.frames or 1),
        "batch_size": trial.batch_size,
        "optimizer": trial.optimizer.name,
        "settings": trial.optimizer.model_dump_json(),
    }
