"""In which order trials are trained, and how long that will take, judged by those that are done.

Times come from finished trainings of whatever profile, most of all of the same network, scaled by
the number of images, their pixels and the epochs.
"""

import functools
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from refit import files, paths
from refit.data import cache
from refit.data.spec import DataSpec
from refit.experiments import expand
from refit.experiments.declaration import FULL
from refit.experiments.trial import StopAtTarget, StopWhenStagnant, Trial
from refit.run_directory import archive
from refit.run_directory.directory import RESULT, Result, result_of

# What makes two trainings take equally long per pixel, from the closest match to the loosest, and
# what such trainings have in common.
_LIKENESS = {
    ("model", "options", "pixels", "batch_size", "optimizer", "settings"): "the same settings",
    ("model", "options", "pixels", "batch_size", "optimizer"): "the same optimizer",
    ("model", "options", "pixels", "batch_size"): "the same batch size",
    ("model", "options", "pixels"): "the same network",
    ("model", "options"): "the same network on images of another size",
    ("model", "pixels"): "the same kind of network",
    ("model",): "the same kind of network on images of another size",
}


class Expected(NamedTuple):
    """How long a trial will take, in seconds, and the share of its epochs that it will need."""

    seconds: float
    epochs: float


class Schedule:
    """The trials that are still to be started, each of them once.

    Those that are `expected` to begin the longest chain of trials come first, which keeps all
    workers busy to the end.
    """

    def __init__(self, trials: Sequence[Trial], expected: Mapping[Trial, Expected]) -> None:
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
        return self._expected[trial].seconds + max(map(self._way, followers), default=0.0)


class Times:
    """How long trials of an experiment will take, whose runs are in `folder`, by all that is done.

    `folder` is `<profile>/<experiment>` below the folder of all runs.
    """

    def __init__(self, folder: Path) -> None:
        self._place = "/".join(folder.parts[-2:])
        self._records = pd.DataFrame(_records(paths.runs()))
        self._images_of = functools.cache(self._find_images)
        self._alike = functools.cache(self._find_alike)

    def seconds(self, trial: Trial) -> float:
        """How long a trial will take; NaN where nothing is like it, or its images are not known."""
        _, best = self._alike(trial)
        if best.empty:
            return math.nan
        candidates = trial.model.options.get("candidates", 1)  # of a search
        # Multiplications, of convolutions and of what they end in, are proportional to pixels.
        pixels = self._images_of(trial.data) * _pixels(trial)
        epochs = self.epochs(trial) * candidates
        return best["seconds_per_pixel"].median() * pixels * epochs + best["fixed"].median()

    def epochs(self, trial: Trial) -> float:
        """The epochs of a trial; where it may stop early, as many as are usual in its sweep, or
        else in its experiment."""
        known, usual = self._records, math.nan
        if len(known) and _stops_early(trial):
            early = known[(known["place"] == self._place) & known["early"]]
            usual = early.loc[early["sweep"] == trial.sweep, "epochs"].median()
            usual = early["epochs"].median() if math.isnan(usual) else usual
        return trial.epochs if math.isnan(usual) else min(usual, trial.epochs)

    def rest_on(self, trials: Sequence[Trial]) -> str:
        """What the times of some trials rest on: how many others, and the loosest likeness."""
        found = [self._alike(trial) for trial in trials]
        rank, best = max(found, key=lambda pair: pair[0], default=(0, pd.DataFrame()))
        return f"{len(best)} with {[*_LIKENESS.values()][rank]}" if len(best) else ""

    def _find_alike(self, trial: Trial) -> tuple[int, pd.DataFrame]:
        """The finished trainings that are most like a trial, none at the end; and how much so."""
        traits, alike = _traits(trial), self._records
        for rank, names in enumerate(_LIKENESS if len(alike) else ()):
            alike = self._records
            for name in names:
                alike = alike[alike[name] == traits[name]]
            if len(alike):
                # Trainings on many images tell most: short epochs are mostly fixed cost.
                return rank, alike[alike["images"] == alike["images"].max()]
        return len(_LIKENESS), alike

    def _find_images(self, spec: DataSpec) -> float:
        """How many images a data set trains on; NaN where no result says so and none is decoded."""
        if spec.train_images:
            return spec.train_images
        dataset = cache.read(cache.folder_of(spec, paths.cache()))
        if dataset is None:
            return self._records.loc[self._records["part"] == _part(spec), "images"].median()
        labels = dataset.train.labels
        return int(np.isin(labels, spec.only_classes).sum()) if spec.only_classes else len(labels)


def expected(trials: Sequence[Trial], folder: Path) -> dict[Trial, Expected]:
    """What each trial will take; where nothing tells its time, as long as the longest."""
    times = Times(folder)
    known = {trial: times.seconds(trial) for trial in trials}
    longest = max((value for value in known.values() if value > 0), default=1.0)
    return {
        trial: Expected(value if value > 0 else longest, times.epochs(trial) / trial.epochs)
        for trial, value in known.items()
    }


def plan(trials: Sequence[Trial], folder: Path, workers: int) -> pd.DataFrame:
    """One row per sweep: trials, done, to train, hours with `workers` trainings at once, and what
    these rest on: how many finished trainings, and what they have in common with those to train.

    `folder` has the experiment's runs. Where nothing like a trial was trained here, the results of
    record are taken. Reads no data and downloads none: hours are NaN where nothing comparable has
    been trained yet, or where only the data could tell how many they are.
    """
    times, rows = Times(folder), []
    if any(math.isnan(times.seconds(trial)) for trial in trials):
        for name in expand.names():
            archive.take(FULL, name)
        times = Times(folder)
    for sweep in dict.fromkeys(trial.sweep for trial in trials):
        of_sweep = [trial for trial in trials if trial.sweep == sweep]
        missing = [trial for trial in of_sweep if result_of(trial, folder) is None]
        seconds = sum(times.seconds(trial) for trial in missing)
        counts = (len(of_sweep), len(of_sweep) - len(missing), len(missing))
        rows.append((sweep, *counts, seconds / 3600 / workers, times.rest_on(missing)))
    columns = ["sweep", "trials", "done", "to train", "hours", "by finished trainings"]
    return pd.DataFrame(rows, columns=columns)


def _records(runs: Path) -> Iterator[dict[str, object]]:
    for path in sorted(runs.glob(f"*/*/*/*/{RESULT}")):
        result = files.read_model(path, Result)
        try:
            trial = Trial.model_validate(result.trial) if result else None
        except ValueError:  # of a version whose settings were others
            continue
        if result and trial:
            images, share = result.data.train_images, share_of_processor(result)
            yield _traits(trial) | {
                "place": "/".join(path.parts[-5:-3]),
                "sweep": trial.sweep,
                "early": _stops_early(trial),
                "images": images,
                "epochs": result.metrics.epochs,
                "part": _part(trial.data),
                "seconds_per_pixel": result.metrics.seconds_per_epoch
                * share
                / (images * _pixels(trial)),
                "fixed": _fixed(result) * share,
            }


def share_of_processor(result: Result) -> float:
    """The part of its time in which a training was computed: beside others, on a CPU, it waits."""
    worked, took = (
        getattr(result.metrics, name, None) or math.nan
        for name in ("processor_seconds", "train_seconds")
    )
    share = math.nan if result.environment.gpus else worked / took
    return min(share, 1.0) if share > 0 else 1.0


def _part(spec: DataSpec) -> str:
    """What decides how many images a data set trains on."""
    asked = {"name", "validation", "validation_fraction", "only_classes", "train_images"}
    return spec.model_dump_json(include=asked)


def _pixels(trial: Trial) -> int:
    return trial.data.image_size**2 * (trial.data.frames or 1)


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
        "pixels": _pixels(trial),
        "batch_size": trial.batch_size,
        "optimizer": trial.optimizer.name,
        "settings": trial.optimizer.model_dump_json(),
    }
