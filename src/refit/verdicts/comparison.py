"""Somebody else's trainings beside the results of record: is each where a repetition would lie?

The reference points of MLPerf do so for speed; here it is done for what a report's networks reach.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
from pydantic import ValidationError

from refit import files
from refit.errors import ReportError
from refit.experiments.metrics import METRICS
from refit.experiments.trial import LABELS, Trial
from refit.experiments.yaml_file import explain
from refit.run_directory import directory
from refit.run_directory.log import RunLog
from refit.verdicts import scope, words
from refit.verdicts.interval_tests import LEVEL, IntervalTest, spreads
from refit.verdicts.published_figures import prediction

COLUMNS = ["trial", "seed", "metric", "value"]
# What is compared of a folder of runs: what does not depend on the machine, and every network has.
COMPARED = ("train_accuracy", "val_accuracy", "best_val_accuracy", "test_accuracy")

# What settings follow from the seed and the files of data, beside what no training depends on.
_NOT_COMPARED = dict.fromkeys([*LABELS, "seed"], True) | {
    "data": {"fingerprint", "draw_seed"},
    "pretrained": {"run"},
    "carried_over": {"run"},
}


def compare(theirs: pd.DataFrame, record: RunLog) -> pd.DataFrame:
    """One row per number of `theirs`, which has the columns trial, seed, metric and value.

    Beside them `low` and `high`, between which it should lie, `n` trainings of record, and verdict:
    `inside`, `differs`, or `too_few_seeds`. All numbers of a faithful repetition lie inside
    with a probability of 95 %, because the prediction intervals share what is left to chance.
    """
    asked = theirs[["trial", "metric"]].drop_duplicates().itertuples(index=False)
    keys = [(row.trial, row.metric) for row in asked]
    tests = [_test(trial, metric, record) for trial, metric in keys]
    known = dict(zip(keys, zip(tests, spreads(tests), strict=True), strict=True))
    level = LEVEL / max(len(theirs), 1)
    rows = []
    for row in theirs.itertuples(index=False):
        test, spread = known[row.trial, row.metric]
        low, high = prediction(test, spread, level)
        verdict = words.INSIDE if low <= row.value <= high else words.DIFFERS
        rows.append((low, high, test.n, words.TOO_FEW_SEEDS if math.isnan(low) else verdict))
    return theirs.reset_index(drop=True).join(
        pd.DataFrame(rows, columns=["low", "high", "n", "verdict"])
    )


def lines(compared: pd.DataFrame) -> list[str]:
    """One line per training: whether all its numbers lie inside, and which do not."""
    found = []
    for (trial, seed), rows in compared.groupby(["trial", "seed"], sort=False):
        count = rows["verdict"].value_counts()
        told = [f"{count[words.INSIDE]} numbers inside"] if words.INSIDE in count else []
        told += [
            f"{row.metric} is {words.number(row.value)}, and a repetition would lie in "
            f"{words.number(row.low)} to {words.number(row.high)} ({row.n} seeds)"
            for row in rows[rows["verdict"] == words.DIFFERS].itertuples()
        ]
        if words.TOO_FEW_SEEDS in count:
            told.append(f"{count[words.TOO_FEW_SEEDS]} with too few seeds of record")
        found.append(f"{trial}, seed {seed}: {'; '.join(told)}")
    return found


def _test(trial: str, metric: str, record: RunLog) -> IntervalTest:
    values = record.measure(trial, metric)
    test = IntervalTest(trial, values, metric=metric, trials=(trial,))
    return replace(test, resolution=scope.resolution(test, record.declared([trial])))


def read_table(path: Path, trials: Sequence[Trial]) -> pd.DataFrame:
    """Numbers of a CSV file: trial, seed, metric and value, accuracies as fractions.

    Raises ReportError naming the file, and what in it is unknown or lacks.
    """
    try:
        table = pd.read_csv(path, dtype={"trial": str, "metric": str})
    except (OSError, ValueError) as error:
        raise ReportError(f"{path}: cannot be read as CSV: {error}") from error
    if lacking := [name for name in COLUMNS if name not in table]:
        raise ReportError(f"{path}: has no column {lacking[0]}; it needs {', '.join(COLUMNS)}")
    for name, known in (("trial", {trial.name for trial in trials}), ("metric", METRICS)):
        if unknown := sorted(set(table[name].astype(str)) - set(known)):
            listed = ", ".join(sorted(known))
            raise ReportError(f"{path}: {name} {unknown[0]!r} is unknown; known: {listed}")
    values = pd.to_numeric(table["value"], errors="coerce")
    if values.isna().any():
        line = int(values.isna().argmax()) + 2
        raise ReportError(f"{path}: line {line}: value {table['value'][line - 2]!r} is no number")
    return table[COLUMNS].assign(value=values)


def read_runs(folder: Path, trials: Sequence[Trial]) -> tuple[pd.DataFrame, list[str], list[str]]:
    """Numbers of all results below a folder that belong to trials of these names.

    Also returns a sentence about each result that is left out, because it is damaged or its
    settings are not those of record, and one about each that was made from other files of data.
    Raises ReportError where none is left.
    """
    ours = {trial.name: trial for trial in trials}
    rows, left_out, others = [], [], []
    for path in sorted(folder.rglob(directory.RESULT)):
        content = files.read_object(path)
        try:
            trial = Trial.model_validate(content.get("trial"))
        except ValidationError as error:
            left_out.append(f"{path}: left out: {explain(error)}")
            continue
        if trial.name not in ours:
            continue
        if reason := directory.flaw(content) or _other_settings(trial, ours[trial.name]):
            left_out.append(f"{path}: left out: {reason}")
            continue
        if trial.data.fingerprint != ours[trial.name].data.fingerprint:
            others.append(f"{path}: made from other files of {trial.data.name}")
        metrics = content["metrics"]
        rows += [(trial.name, trial.seed, m, metrics[m]) for m in COMPARED if m in metrics]
    if not rows:
        raise ReportError("\n".join([f"{folder}: has no result to compare", *left_out]))
    return pd.DataFrame(rows, columns=COLUMNS), left_out, others


def _other_settings(theirs: Trial, ours: Trial) -> str:
    """In what two trials differ beside seed and files of data, as a sentence; empty where not."""
    there, here = (trial.model_dump(exclude=_NOT_COMPARED) for trial in (theirs, ours))
    name = next((name for name in here if there[name] != here[name]), "")
    return f"{name}: is {there[name]}, and of record {here[name]}" if name else ""
