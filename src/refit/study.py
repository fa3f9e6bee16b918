"""An experiment opened in one profile: what a notebook or a command works with."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from refit import files, paths, tries
from refit.data import sets
from refit.data.arrays import Dataset
from refit.data.spec import DataSpec
from refit.errors import DataError, DeclarationError, TrialError
from refit.experiments import expand
from refit.experiments.declaration import FULL, Declaration, Profile
from refit.experiments.trial import LOCAL, SEED_STEP, Trial
from refit.run_directory import archive, directory, run_tables
from refit.run_directory import log as run_log
from refit.run_directory.directory import PREDICTIONS
from refit.run_directory.log import RunLog
from refit.running import runner
from refit.searches import retrain, tuner
from refit.verdicts import claims, published_figures
from refit.verdicts.scoreboard import CLAIMS_FILE, FIGURES_FILE


@dataclass(frozen=True)
class Study:
    """A declaration expanded into trials, with the folders where results and pages go."""

    declaration: Declaration
    profile_name: str
    trials: Sequence[Trial]
    runs: Path
    pages: Path
    data_dir: Path | None

    @classmethod
    def open(
        cls,
        name: str,
        profile: str = "smoke",
        seeds: int = 0,
        data_dir: str | Path = "",
        runs_dir: str | Path = "",
        reports_dir: str | Path = "",
        train: bool = True,
    ) -> "Study":
        """Load an experiment and expand it; empty folders mean the defaults of `refit.paths`.

        What committed packs hold and the runs lack is imported first. `seeds` is the number of
        replicates, 0 for the declared one. Unless anything is to be trained, data sets that are
        not here are those of the results, or, where `full` has none of them, as declared; `train`
        is checked, as every text is true, `no` as well as `yes`. Raises DeclarationError or
        DataError before anything is trained.
        """
        if not isinstance(train, bool):
            raise DeclarationError(f"train is {train!r}; give True or False")
        runs_dir = paths.folder("runs_dir", runs_dir) if runs_dir else None
        reports_dir = paths.folder("reports_dir", reports_dir) if reports_dir else ""
        folder = paths.folder("DATA_DIR", data_dir) if data_dir else paths.data()
        if folder is not None and not folder.is_dir():
            raise DeclarationError(f"DATA_DIR: {folder} is not a folder")
        declaration = expand.load(name)
        paths.keep_runs_in(runs_dir)
        runs = paths.runs()
        told = archive.take(profile, name) if profile in declaration.profiles else []
        print(*told, sep="\n", end="\n" * bool(told), file=sys.stderr)
        known = None if train else cache(partial(directory.data_of, runs / profile / name))

        def resolve(spec: DataSpec) -> DataSpec:
            try:
                return sets.resolve(spec, folder, known)
            except DataError:
                if train or profile != FULL:
                    raise
                return spec  # of what nobody trained as published a page can still say so

        trials = expand.expand(declaration, profile, seeds, resolve)
        reports = reports_dir or paths.reports()
        return cls(
            declaration, profile, trials, runs / profile / name, reports / profile / name, folder
        )

    @property
    def name(self) -> str:
        return self.declaration.name

    @property
    def profile(self) -> Profile:
        return self.declaration.profiles[self.profile_name]  # type: ignore[index]

    @property
    def page(self) -> Path:
        return self.pages.with_name(f"{self.name}.html")

    @property
    def titles(self) -> dict[str, str]:
        """Trial names and their titles, in the order of the declaration."""
        return {trial.name: trial.title for trial in self.trials}

    def train(self, workers: int | None = None, executor: str = LOCAL) -> runner.Summary:
        """Train what is missing; both are as for `refit.running.runner.run`.

        Raises TrialError naming the trials that failed, but for those of optional sweeps.
        """
        summary = runner.run(
            self.trials, self.runs, workers, data_dir=self.data_dir, executor=executor
        )
        vars(self).pop("measured", None)
        sweeps = self.declaration.sweeps
        optional = {one.directory.name for one in self.trials if sweeps[one.sweep].optional}
        runner.check(summary, optional)
        return summary

    def log(self) -> RunLog:
        """What the trials have left so far, as tables."""
        return run_log.read(self.trials, self.runs)

    @cached_property
    def measured(self) -> tuple[RunLog, pd.DataFrame, pd.DataFrame]:
        """The log, the published numbers beside the reproduced ones, and the judged claims.

        Read once, and again after `train`.
        """
        log = self.log()
        numbers = published_figures.figures(self.declaration, self.profile_name, log)
        return log, numbers, claims.judge(self.declaration, self.profile_name, log)

    def save(self) -> None:
        """Store beside the page what it was made from and what was made of it."""
        log, numbers, verdicts = self.measured
        log.save(self.pages)
        files.write_table(self.pages / FIGURES_FILE, numbers)
        files.write_table(self.pages / CLAIMS_FILE, verdicts)
        for tool, name in run_tables.FILES.items():
            files.write_table(self.pages / name, run_tables.of(tool, log.results))

    def space(self, sweep: str) -> tuner.Grid:
        """What the profile leaves of a sweep's grid, with the trials of the first seed."""
        declared = self.declaration.sweeps[sweep]
        axes = declared.grid | self.profile.of(sweep).grid
        trials = {
            tuple(point.values()): self.trial(expand.point_name(sweep, declared, point))
            for point in expand.points(axes)
        }
        return tuner.Grid(sweep, axes, trials)

    def search(self, sweep: str) -> pd.DataFrame:
        """Search the space of a sweep with Keras Tuner, as declared, or read the record of it.

        See `tuner.run` for the table, which is also stored beside the page; it is empty where the
        grid is not finished. Raises DeclarationError where the sweep declares no search.
        """
        spec, space = self.declaration.plan(self.profile_name, sweep, "search"), self.space(sweep)
        if not all(directory.result_of(trial, self.runs) for trial in space.trials.values()):
            return pd.DataFrame(columns=tuner.COLUMNS)
        trace = tuner.run(space, spec, self.runs)
        files.write_table(self.pages / f"{tuner.FILE}{sweep}.csv", trace)
        return trace

    def retrain(
        self, sweep: str, workers: int | None = None, executor: str = LOCAL, train: bool = True
    ) -> pd.DataFrame:
        """Train the winner of a sweep and its default again with other seeds, as declared.

        One row per trial: role (`winner` or `default`), trial, repetition (0 for the one of the
        sweep), seed, digest and value, the declared metric. Only what is missing is trained, and
        nothing unless `train`, and as `Study.train` does; the table is also stored beside the page.
        Raises DeclarationError where the sweep declares no such thing, TrialError where a training
        fails.
        """
        spec = self.declaration.plan(self.profile_name, sweep, "retrain")
        rows = retrain.run(
            self.trials, sweep, spec, self.runs, workers, self.data_dir, train, executor
        )
        files.write_table(self.pages / f"{retrain.FILE}{sweep}.csv", rows)
        return rows

    def try_out(self, name: str, **changes: Any) -> tries.Tried:
        """Train a variant of a trial, by its first seed, and show it beside the original.

        `changes` are settings such as `epochs=3, learning_rate=0.01`; see `tries.changed`. Results
        of record are left alone: what is trained lies in the folder `tries` of the runs.
        """
        folder = paths.runs() / tries.FOLDER / self.profile_name / self.name
        chain = self.before(trial := self.trial(name))
        return tries.try_out(trial, changes, chain, self.runs, folder, self.data_dir)

    def provenance(self) -> dict[str, str]:
        """Data, versions and hardware of the finished trials, all values that occur."""
        return run_log.provenance(self.trials, self.runs).set_index("fact")["value"].to_dict()

    def data(self, name: str = "") -> Dataset:
        """The data set of a trial, by default the first, decoded."""
        trial = self.trial(name) if name else self.trials[0]
        return sets.load(trial.data, self.data_dir, paths.cache())

    def overview(self) -> pd.DataFrame:
        """One row per sweep: its trials, and what the profile leaves of epochs and images."""
        rows = []
        for name, sweep in self.declaration.sweeps.items():
            trials = [trial for trial in self.trials if trial.sweep == name]
            images = dict.fromkeys(trial.data.train_images or "all" for trial in trials)
            rows.append(
                {
                    "sweep": sweep.title,
                    "in the report": "yes" if sweep.published else "no",
                    "networks and settings": sweep.trials,
                    "trainings here": len(trials),
                    "epochs": _span({trial.epochs for trial in trials}),
                    "published epochs": _span({trial.published_epochs for trial in trials}),
                    "training images": ", ".join(map(str, images)) or "-",
                }
            )
        return pd.DataFrame(rows)

    def settings(self) -> pd.DataFrame:
        """One row per trial: its title and the settings in which trials differ."""
        rows = [
            {"title": trial.title}
            | trial.hyper_parameters()
            | {"data": trial.data.name, "images": trial.data.train_images or "all"}
            for trial in self.trials
            if self._is_first(trial)
        ]
        frame = pd.DataFrame(rows).drop(columns="seed")
        varied = [name for name in frame if frame[name].nunique(dropna=False) > 1]
        shown = frame[["trial", "title", *[n for n in varied if n not in ("trial", "title")]]]
        return shown.convert_dtypes()  # whole numbers stay whole where some trials lack them

    def notes(self, kind: str) -> pd.DataFrame:
        """The numbered `assumptions` or `anomalies` of the declaration."""
        frame = pd.DataFrame([note.model_dump() for note in getattr(self.declaration, kind)])
        return frame.loc[:, (frame != "").any()] if len(frame) else frame

    def selection_check(self, sweep: str) -> pd.DataFrame:
        """What the best trial of a sweep owes to its choice on test images, without new trainings.

        The test images are halved, even and odd positions; the trial that is best on one half is
        measured on the other, which had no part in the choice. One row per half, of the first seed;
        none where the images are not here or have no labels.
        """
        halves = {}
        for trial in self.trials if self.has_images else ():
            first = trial.sweep == sweep and self._is_first(trial)
            if first and directory.result_of(trial, self.runs):
                if (labels := self.data(trial.name).test.labels) is None:
                    break
                right = self._predictions(trial) == labels
                halves[trial.name] = {"even": right[::2].mean(), "odd": right[1::2].mean()}
        rows = []
        for half, other in (("even", "odd"), ("odd", "even")) if halves else ():
            winner = max(halves, key=lambda name: halves[name][half])
            there, elsewhere = halves[winner][half], halves[winner][other]
            rows.append((half, winner, there, elsewhere, there - elsewhere))
        columns = ["chosen on", "trial", "accuracy there", "accuracy on the other half", "lost"]
        return pd.DataFrame(rows, columns=columns)

    @property
    def has_results(self) -> bool:
        """Whether any training is finished."""
        return any(directory.result_of(trial, self.runs) for trial in self.trials)

    @property
    def has_images(self) -> bool:
        """Whether all images can be shown without a download."""
        return all(sets.is_here(spec, self.data_dir) for spec in {t.data for t in self.trials})

    def _predictions(self, trial: Trial) -> np.ndarray:
        """The predicted classes of the test images. Raises TrialError where there are none."""
        path = self.runs / trial.directory / PREDICTIONS
        try:
            return np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise TrialError(f"{path}: cannot be read: {error}") from error

    def predictions(self, trial: Trial) -> None:
        """Store what a trial makes of every test image: as `predictions.csv`, see `Dataset.tell`,
        and as `submission.csv`, Id and Label, for competitions.

        Raises TrialError where the trial has no predictions.
        """
        data, predicted = self.data(trial.name), self._predictions(trial)
        files.write_table(self.pages / "predictions.csv", pd.DataFrame(data.tell(predicted)))
        submitted = pd.DataFrame({"Id": data.test.ids, "Label": predicted})
        files.write_table(self.pages / "submission.csv", submitted)

    def numbers(self, sweep: str) -> dict[str, int]:
        """The trials of a sweep's whole grid, numbered from 1 as the reports number theirs."""
        declared = self.declaration.sweeps[sweep]
        return {
            expand.point_name(sweep, declared, point): number
            for number, point in enumerate(expand.points(declared.grid), start=1)
        }

    def _is_first(self, trial: Trial) -> bool:
        """Whether a trial is the first of its replicates, or a declared repetition of that."""
        return trial.seed % SEED_STEP == self.declaration.seed % SEED_STEP

    def before(self, trial: Trial) -> list[Trial]:
        """The trials that a trial starts from, each by the weights of the one before it."""
        starts = (each for each in self.trials if str(each.directory) == trial.starts_from)
        return [each for start in starts for each in (*self.before(start), start)]

    def trial(self, name: str) -> Trial:
        """The first replicate of a trial, by name."""
        found = [trial for trial in self.trials if trial.name == name]
        if not found:
            raise DeclarationError(f"{self.name} has no trial {name!r} in {self.profile_name}")
        return found[0]


def _span(values: set[int]) -> str:
    """The lowest and highest of some numbers, as text."""
    return " to ".join(map(str, sorted({min(values), max(values)}))) if values else "-"
