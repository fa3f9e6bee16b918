"""What trainings left behind, as tables: the bridge from run directories to figures and verdicts.

Two tables hold all of it, one row per trial and one row per epoch. They can be read from the run
directories, where the curves come from the TensorBoard event files, or from the CSV files stored
beside a report. Nothing here needs TensorFlow.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from refit import files
from refit.errors import ReportError
from refit.experiments.metrics import CURVE_METRICS, METRICS
from refit.experiments.predicates import Selection
from refit.experiments.trial import SEED_STEP, Trial, is_setting
from refit.run_directory import curve_metrics, result_rows
from refit.run_directory.directory import result_of

RESULTS_FILE = "results.csv"
CURVES_FILE = "curves.csv"
CONFUSIONS_FILE = "confusions.csv"
FILES = (RESULTS_FILE, CURVES_FILE, CONFUSIONS_FILE)

_CONFUSION_COLUMNS = ["trial", "seed", "true", "predicted", "count"]


@dataclass(frozen=True)
class RunLog:
    """The results of some trials: `results` has a row per trial, `curves` a row per epoch,
    `confusions` a row per pair of true and predicted class that occurs.

    `results`: sweep, trial, title, seed, status (`done`, `failed` or `missing`), reason, digest,
    the hyper-parameters, and the metrics of `METRICS`; accuracies are fractions, losses
    nats, times seconds. `curves`: sweep, trial, seed, epoch (from 1) and the metrics of the epoch.
    `confusions`: trial, seed, true, predicted (names of classes) and count, on the test images.
    """

    results: pd.DataFrame
    curves: pd.DataFrame
    confusions: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame(columns=_CONFUSION_COLUMNS)
    )

    @cached_property
    def done(self) -> pd.DataFrame:
        """The rows of the trials that have a result."""
        return self.results[self.results["status"] == "done"]

    @cached_property
    def _places(self) -> dict[str, np.ndarray]:
        """Where the rows of each finished trial are; claims ask often, so they are found once."""
        return self.done.groupby("trial").indices

    @cached_property
    def _curves_by_trial(self) -> dict[str, pd.DataFrame]:
        return dict(iter(self.curves.groupby("trial")))

    @property
    def seconds(self) -> float:
        """What all finished trainings took together, the candidates of searches included."""
        return total_seconds(self.done)

    def first(self, sweep: str, metric: str) -> dict[str, float]:
        """A metric of every finished trial of a sweep, by the first of its seeds."""
        rows = self.done[self.done["sweep"] == sweep].sort_values("seed", kind="stable")
        rows = rows.drop_duplicates("trial").reindex(columns=["trial", metric]).dropna()
        return dict(zip(rows["trial"], rows[metric].astype(float), strict=True))

    def declared(self, trials: Iterable[str]) -> pd.DataFrame:
        """The rows of `results` that belong to some trials, whether they are done or not."""
        return self.results[self.results["trial"].isin(trials)]

    def measure(
        self,
        trial: str | Selection,
        metric: str,
        epochs: tuple[int, int] | None = None,
        statistic: str = "last",
    ) -> pd.Series:
        """A metric of a trial, one value per seed (the index); empty where nothing was measured.

        A repetition declared in a sweep stands at the seed that it repeats.

        With `epochs` (first and last, from 1) the statistic (`predicates.Statistic`) is taken over
        that part of the curve; seeds whose training did not reach its end are left out. A
        selection's trials are reduced to one value per seed, over the seeds for which all of them
        are measured. A `train_loss` or `val_loss` that is not a number is infinite: the training
        diverged, which must not look like a missing one. Other losses only some trainings have.
        """
        if isinstance(trial, Selection):
            return self._measure_selection(trial, metric, epochs, statistic)
        if epochs is None and statistic == "last":
            if trial not in self._places or metric not in self.done:
                return pd.Series(dtype=float)
            values, seeds = (
                self.done[name].to_numpy(float)[self._places[trial]] for name in (metric, "seed")
            )
            return _with_diverged(pd.Series(values, _replicates(seeds)), metric).dropna()
        return self.curve_parts(trial, metric, epochs, curve_metrics.STATISTICS[statistic]).dropna()

    def curve_parts(
        self,
        trial: str,
        metric: str,
        epochs: tuple[int, int] | None,
        of: Callable[[pd.Series], float],
    ) -> pd.Series:
        """A number `of` the curve of a trial or a part of it, one value per seed that has it all.

        Without `epochs` a curve ends where its training did."""
        found = {}
        for seed, curve in self.curve(trial, metric).items():
            first, last = epochs or (1, curve.last_valid_index() or 0)
            part = curve.loc[first:last].dropna()
            if len(part) == last - first + 1 > 0:
                found[seed] = of(part)
        return pd.Series(found, _replicates(list(found)), dtype=float)

    def _measure_selection(
        self, chosen: Selection, metric: str, epochs: tuple[int, int] | None, statistic: str
    ) -> pd.Series:
        names = self.select(chosen)
        if not names:
            return pd.Series(dtype=float)
        values = [self.measure(name, metric, epochs, statistic) for name in names]
        together = pd.concat(values, axis=1).dropna()
        if chosen.take not in ("best", "of_best"):
            return together.agg(chosen.take, axis=1)
        score = chosen.score(metric)
        plain = score == metric and epochs is None and statistic == "last"
        scores = together if plain else pd.concat([self.measure(n, score) for n in names], axis=1)
        scores = scores.reindex(together.index).dropna() * (-1 if chosen.smallest else 1)
        if chosen.take == "best":
            # Chosen by the other seeds, so that no luck of this one is in the choice.
            others = [scores.drop(index=seed).mean() for seed in scores.index if len(scores) > 1]
            scores = pd.DataFrame(others, scores.index[: len(others)])
        if scores.empty:
            return pd.Series(dtype=float)
        winners = scores.to_numpy().argmax(axis=1)
        values_of = together.loc[scores.index].to_numpy()
        return pd.Series(values_of[range(len(winners)), winners], scores.index, dtype=float)

    def select(self, selection: Selection) -> list[str]:
        """The names of the trials that have the wanted settings, whether they are done or not."""
        rows = self.results
        if selection.sweep is not None:
            rows = rows[rows["sweep"] == selection.sweep]
        if selection.trials:
            rows = rows[rows["trial"].isin(selection.trials)]
        rows = rows[~rows["trial"].isin(selection.without)]
        for setting, wanted in selection.where.items():
            if setting not in rows:
                return []  # the profile leaves out all trials that have it
            rows = rows[rows[setting].isin(wanted if isinstance(wanted, list) else [wanted])]
        return list(dict.fromkeys(rows["trial"]))

    def means(self, sweep: str | None = None) -> pd.DataFrame:
        """One row per finished trial, of one sweep or of all: settings, and means over seeds."""
        rows = self.done if sweep is None else self.done[self.done["sweep"] == sweep]
        rows = rows.drop(columns=["seed", "digest", "reason", "status"])
        numbers = [name for name in rows.select_dtypes("number") if not is_setting(name)]
        kept = {name: "mean" if name in numbers else "first" for name in rows if name != "trial"}
        if rows.empty:
            return rows
        kept["diverged"] = "max"  # of any seed
        return rows.groupby("trial", sort=False).agg(kept).reset_index()

    def settings(self, sweep: str) -> pd.DataFrame:
        """The hyper-parameters in which the trials of a sweep differ, one row per trial.

        Trials that are not done are there too. The index is the trial's name.
        """
        rows = self.results[self.results["sweep"] == sweep].drop_duplicates("trial")
        rows = rows.set_index("trial")[[name for name in rows if is_setting(name)]]
        return rows.loc[:, rows.nunique(dropna=False) > 1]

    def curve(self, trial: str, metric: str) -> pd.DataFrame:
        """A metric of a trial over its epochs (the index, from 1), one column per seed.

        Losses that are not a number are infinite, as for `measure`.
        """
        if metric not in CURVE_METRICS:
            raise ReportError(f"{metric} has no curve; known: {', '.join(CURVE_METRICS)}")
        if trial not in self._curves_by_trial:
            return pd.DataFrame()
        rows = self._curves_by_trial[trial]
        rows = rows.assign(**{metric: _with_diverged(rows[metric], metric)})
        return rows.pivot(index="epoch", columns="seed", values=metric)

    def best(self, metric: str) -> str:
        """The trial with the highest mean of a metric. Raises ReportError if none is done."""
        means = self.done.groupby("trial")[metric].mean().dropna()
        if means.empty:
            raise ReportError(f"no finished trial has a {metric}")
        return str(means.idxmax())

    def summary(self) -> pd.DataFrame:
        """One row per trial, in declared order: means over seeds of what a reader looks for."""
        names = ["train_accuracy", "train_loss", "val_accuracy", "val_loss", "best_val_accuracy"]
        names += ["test_accuracy", "epochs", "seconds", "seconds_per_epoch"]
        columns = {name: name.replace("_", " ") for name in names}
        groups = self.results.groupby(["trial", "title"], sort=False)
        means = groups[[name for name in columns if name in self.results]].mean()
        means.insert(0, "seeds", groups["status"].agg(lambda status: (status == "done").sum()))
        if len(self.done) and (self.done["diverged"] == True).any():  # noqa: E712 - holds NaN too
            means["diverged"] = groups["diverged"].agg(lambda flags: (flags == True).sum())  # noqa: E712
        return means.rename(columns=columns).reset_index()

    def save(self, folder: Path) -> None:
        """Store the tables as CSV, with as many digits as it takes to read them back the same."""
        for name, frame in zip(FILES, (self.results, self.curves, self.confusions), strict=True):
            files.write_table(folder / name, frame)


def total_seconds(done: pd.DataFrame) -> float:
    """What some finished trainings took together; older results know no searches."""
    if done.empty:
        return 0.0
    return float(done.get("total_seconds", done["seconds"]).fillna(done["seconds"]).sum())


def read(trials: Sequence[Trial], folder: Path) -> RunLog:
    """Read what the trials left in `folder`, the experiment's runs of one profile."""
    rows, curves, confusions = [], [], []
    for trial in trials:
        result = result_of(trial, folder)
        rows.append(result_rows.result_row(trial, folder, result))
        if result is not None:
            curves.append(curve_metrics.read(trial, folder))
            rows[-1] |= curve_metrics.metrics(curves[-1], rows[-1])
            rows[-1] |= curve_metrics.batch_metrics(trial, folder, rows[-1])
            confusions += result_rows.confusion_rows(trial, result)
    results = pd.DataFrame(rows)
    if not curves:
        # What is shown before anything is done has the columns of what will be measured.
        planned = ("sweep", "trial", "title", "seed", "digest", "status", "reason")
        results = results.reindex(columns=list(dict.fromkeys([*results, *planned, *METRICS])))
    frame = pd.concat(curves) if curves else pd.DataFrame()
    frame = frame.reindex(columns=curve_metrics.COLUMNS).reset_index(drop=True)
    return RunLog(results, frame, pd.DataFrame(confusions, columns=_CONFUSION_COLUMNS))


def read_csv(folder: Path) -> RunLog:
    """Read the tables that `RunLog.save` stored beside a report. Raises ReportError."""
    frames = []
    for name in FILES:
        try:
            frames.append(files.read_table(folder / name))
        except (OSError, ValueError) as error:
            raise ReportError(f"{folder / name}: cannot be read: {error}") from error
    return RunLog(*frames)


def batch_curves(trials: Sequence[Trial], folder: Path) -> pd.DataFrame:
    """Losses and accuracies of single training batches, for the trials that recorded them.

    One row per batch: trial, seed, batch (from 0), batch_loss (nats), batch_accuracy.
    """
    frames = [
        curve_metrics.batches(folder / trial.directory).assign(trial=trial.name, seed=trial.seed)
        for trial in trials
        if trial.record_batches and result_of(trial, folder)
    ]
    columns = ["trial", "seed", "batch", "batch_loss", "batch_accuracy"]
    return pd.concat(frames)[columns] if frames else pd.DataFrame(columns=columns)


def layer_table(trial: Trial, folder: Path) -> pd.DataFrame:
    """The layers of a trained network: name, type, output shape, parameters."""
    result = result_of(trial, folder)
    rows = [
        (row["name"], row["type"], " × ".join(map(str, row["output_shape"])), row["parameters"])
        for row in (result["layers"] if result else [])
    ]
    return pd.DataFrame(rows, columns=["name", "type", "output shape", "parameters"])


def candidates(trials: Sequence[Trial], folder: Path) -> pd.DataFrame:
    """The networks that searches for an architecture tried: a row each, with the search's trial."""
    rows = [
        {"search": trial.name, "seed": trial.seed} | candidate
        for trial in trials
        if (result := result_of(trial, folder))
        for candidate in result.get("candidates", [])
    ]
    columns = ["search", "seed", "number", "val_accuracy", "epochs", "seconds", "parameters"]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)


def provenance(trials: Sequence[Trial], folder: Path) -> pd.DataFrame:
    """Where the numbers came from: data, versions, hardware; all values that occur."""
    results = [result_of(trial, folder) for trial in trials]
    facts = pd.DataFrame([result_rows.origin(result) for result in results if result])
    rows = [(name, "; ".join(filter(None, facts[name].dropna().unique()))) for name in facts]
    return pd.DataFrame([row for row in rows if row[1]], columns=["fact", "value"])


def _replicates(seeds: Any) -> np.ndarray:
    """The seeds by which trials are paired: those of repetitions lie a step further."""
    return np.asarray(seeds).astype(int) % SEED_STEP


def _with_diverged(values: pd.Series, metric: str) -> pd.Series:
    return values.fillna(np.inf) if metric in ("train_loss", "val_loss") else values
