"""Keras Tuner over the space of a grid whose trials are done: what does it find, for how much?

A tuner suggests a point of the grid; what the trial there has measured is its score. So after an
exhaustive grid a search costs no training and can be repeated many times, and nothing depends on
the tuner's own files, which are kept for its own tools. What counts as its cost are the epochs that
a tuner alone would have trained.
"""

import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
from threadpoolctl import threadpool_limits

from refit import files, paths
from refit.experiments.declaration import Search
from refit.experiments.trial import Trial
from refit.run_directory import log as run_log
from refit.run_directory.directory import SEARCH, SearchRecord
from refit.running.pool import TRAINING_LOG

# Beside a page: what this begins, the sweep's name ends.
FILE = "search_"
TUNERS = {"random": "RandomSearch", "bayesian": "BayesianOptimization", "hyperband": "Hyperband"}
COLUMNS = ["sweep", "tuner", "repeat", "step", "trial", "digest", "reached", "epochs", "score"]


@dataclass(frozen=True)
class Grid:
    """The space of a search: the axes of a sweep, and the trial at each of its points."""

    sweep: str
    axes: Mapping[str, list[Any]]
    trials: Mapping[tuple[Any, ...], Trial]


def run(grid: Grid, spec: Search, folder: Path) -> pd.DataFrame:
    """Search a grid with every declared tuner, each as often as declared, or read what is there.

    `folder` is the experiment's folder of runs, where all trials of the grid are done. Returns one
    row per suggestion: sweep, tuner, repeat (from 1, the tuner's seed), step, trial and its digest,
    reached (epochs at which it was scored), epochs (that the suggestion added to the cost) and
    score (the declared metric then).
    """
    curves = dict(iter(run_log.read(list(grid.trials.values()), folder).curves.groupby("trial")))
    tables = [
        _search(grid, spec, tuner, repeat, folder, curves)
        for tuner in spec.tuners
        for repeat in range(1, spec.repeats + 1)
    ]
    return pd.DataFrame([row for rows in tables for row in rows], columns=COLUMNS)


def summary(trace: pd.DataFrame, exhaustive: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One row per tuner: what it found, for how many epochs, means over its repeats.

    `exhaustive` has the grid's finished trials, with `metric` and `epochs`; the first row is the
    exhaustive search itself. `short of best` is in the metric's unit, `found the best` the share of
    repeats that did, `epochs, share` a fraction of the exhaustive search's.
    """
    best, cost = exhaustive[metric].max(), int(exhaustive["epochs"].sum())
    repeats = trace.groupby(["tuner", "repeat"], sort=False)
    each = repeats.agg(
        trials=("trial", "nunique"), epochs=("epochs", "sum"), score=("score", "max")
    )
    each["found"] = each["score"] >= best
    tuners = each.groupby("tuner", sort=False)
    rows = [("exhaustive grid", 1, len(exhaustive), cost, 1.0, best, 0.0, 1.0)]
    for tuner, part in tuners:
        mean = part.mean()
        shares = (mean["epochs"], mean["epochs"] / cost, mean["score"], best - mean["score"])
        rows.append((tuner, len(part), mean["trials"], *shares, mean["found"]))
    columns = ["search", "repeats", "trials", "epochs", "epochs, share", "best found"]
    return pd.DataFrame(rows, columns=[*columns, "short of best", "found the best"])


def progress(trace: pd.DataFrame) -> pd.DataFrame:
    """The best score so far against epochs spent: tuner, seed, epochs, found, per suggestion."""
    groups = trace.groupby(["tuner", "repeat"], sort=False)
    return pd.DataFrame(
        {
            "tuner": trace["tuner"],
            "seed": trace["repeat"],
            "epochs": groups["epochs"].cumsum(),
            "found": groups["score"].cummax(),
        }
    )


def _search(
    grid: Grid, spec: Search, tuner: str, repeat: int, folder: Path, curves: dict[str, pd.DataFrame]
) -> list[list[Any]]:
    """The rows of one search, from its record if there is one of this very search."""
    path = folder / SEARCH / f"{grid.sweep}-{tuner}-{repeat}.json"
    searched = spec.model_dump(mode="json", exclude={"tuners", "repeats"})
    digests = [trial.digest for trial in grid.trials.values()]
    record = files.read_model(path, SearchRecord)
    if not (
        record
        and (record.search, record.digests) == (searched, digests)
        and all(row[-1] == _score(curves, row[1], row[3], spec) for row in record.rows)
    ):
        record = SearchRecord(
            search=searched,
            digests=digests,
            keras_tuner=version("keras-tuner"),
            rows=_ask(grid, spec, tuner, repeat, path, curves),
        )
        files.write_json(path, record.model_dump())
    return [[grid.sweep, tuner, repeat, *row] for row in record.rows]


def _score(curves: dict[str, pd.DataFrame], trial: str, reached: int, spec: Search) -> float | None:
    """What a trial had measured after so many epochs; None of a trial or an epoch that is not."""
    curve = curves.get(trial, pd.DataFrame({spec.metric: []}))[spec.metric]
    return float(curve.iloc[reached - 1]) if reached <= len(curve) else None


def _ask(
    grid: Grid,
    spec: Search,
    tuner: str,
    repeat: int,
    record: Path,
    curves: dict[str, pd.DataFrame],
) -> list[tuple[Any, ...]]:
    """Let Keras Tuner search, and return what it asked for: step, trial, digest, ... , score.

    Its own project stays in a folder beside the record, for its `reload` and `results_summary`.
    """
    with files.stderr_in(paths.runs() / TRAINING_LOG):
        import keras_tuner

    rows: list[tuple[Any, ...]] = []
    paid: Counter[str] = Counter()

    def run_trial(self: Any, suggestion: Any, **_: Any) -> dict[str, float | None]:
        values = suggestion.hyperparameters.values
        trial = grid.trials[tuple(values[axis] for axis in grid.axes)]
        reached = len(curves[trial.name].iloc[: values.get("tuner/epochs")])
        # A network seen before goes on from where it was, or is not trained again at all.
        added = max(0, reached - paid[trial.name])
        paid[trial.name] += added
        score = _score(curves, trial.name, reached, spec)
        rows.append((len(rows) + 1, trial.name, trial.digest, reached, added, score))
        return {"score": score}

    space = keras_tuner.HyperParameters()
    for axis, values in grid.axes.items():
        space.Choice(axis, values)
    kind = type("Searcher", (getattr(keras_tuner, TUNERS[tuner]),), {"run_trial": run_trial})
    # On few points several threads make its Gaussian process many times slower.
    with warnings.catch_warnings(), threadpool_limits(1):
        # Keras Tuner's own deprecated calls, and its Gaussian process on few points.
        warnings.simplefilter("ignore")
        searcher = kind(
            objective=keras_tuner.Objective("score", "max"),
            hyperparameters=space,
            seed=repeat,
            directory=record.parent,
            project_name=record.stem,
            overwrite=True,  # what an interrupted search has left
            **_budget(tuner, spec),
        )
        searcher.search(verbose=0)
    return rows


def _budget(tuner: str, spec: Search) -> dict[str, int]:
    """How much a tuner may try."""
    if tuner == "hyperband":
        return {"max_epochs": spec.hyperband_epochs}
    first = {"num_initial_points": spec.initial_points} if tuner == "bayesian" else {}
    return {"max_trials": spec.trials} | first
