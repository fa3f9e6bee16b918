"""The winner of a grid and its default trained again: how much of a best score was luck?

Among many trainings that differ in nothing, the best one still looks better than the rest. Seeds
that had no part in choosing the winner tell what it is worth.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from refit.experiments.declaration import Retrain
from refit.experiments.trial import LOCAL, SEED_STEP, Trial
from refit.run_directory import directory
from refit.run_directory import log as run_log
from refit.running import runner

# Beside a page: what this begins, the sweep's name ends.
FILE = "retrained_"
COLUMNS = ["role", "trial", "repetition", "seed", "digest", "value"]
# Declared repetitions take the seeds below.
FIRST = 100


def run(
    trials: Sequence[Trial],
    sweep: str,
    spec: Retrain,
    folder: Path,
    workers: int | None = None,
    data_dir: Path | None = None,
    train: bool = True,
    executor: str = LOCAL,
) -> pd.DataFrame:
    """Retrain what is missing in `folder`, the experiment's runs; see `Study.retrain`.

    The winner is the trial of the sweep's first seed with the highest metric; where it is the
    default itself, the second best is retrained. Without results of the sweep, nothing is.
    """
    of_sweep = [trial for trial in trials if trial.sweep == sweep]
    seed = min((trial.seed for trial in of_sweep), default=0)
    first = [trial for trial in of_sweep if trial.seed == seed]
    found = run_log.read(first, folder).done
    scores = found.set_index("trial")[spec.metric] if len(found) else pd.Series(dtype=float)
    others = scores.drop(spec.default, errors="ignore").dropna()
    if spec.default not in scores or others.empty:
        return pd.DataFrame(columns=COLUMNS)
    by_name = {trial.name: trial for trial in first}
    roles = {"default": by_name[spec.default], "winner": by_name[str(others.idxmax())]}
    again = {
        (role, number): trial.with_seed(trial.seed + SEED_STEP * (FIRST + number))
        for role, trial in roles.items()
        for number in range(1, spec.repetitions + 1)
    }
    if train:
        summary = runner.run(
            list(again.values()),
            folder,
            workers,
            data_dir=data_dir,
            describe=False,
            executor=executor,
        )
        runner.check(summary)
    everything = {(role, 0): trial for role, trial in roles.items()} | again
    rows = []
    for (role, number), trial in everything.items():
        result = directory.result_of(trial, folder) or {"metrics": {}}
        value = result["metrics"].get(spec.metric)
        rows.append((role, trial.name, number, trial.seed, trial.digest, value))
    return pd.DataFrame(rows, columns=COLUMNS)


def scores(rows: pd.DataFrame) -> dict[str, pd.Series]:
    """The values of the new trainings by trial, indexed by repetition, which pairs them."""
    again = rows[rows["repetition"] > 0]
    return {
        str(trial): part.set_index("repetition")["value"].astype(float)
        for trial, part in again.groupby("trial", sort=False)
    }
