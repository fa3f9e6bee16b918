"""Trainings side by side: the settings in which they differ, what they reached, and how."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from refit.experiments.metrics import METRICS
from refit.experiments.trial import LABELS, Trial
from refit.run_directory.log import RunLog


def settings(trials: Sequence[Trial]) -> pd.DataFrame:
    """The settings in which trials differ: one row each, one column per trial."""
    first = {trial.name: trial for trial in reversed(trials)}
    plain = [first[name].model_dump(mode="json", exclude=LABELS) for name in reversed(first)]
    table = pd.json_normalize(plain).T.set_axis(list(reversed(first)), axis=1)
    differs = table.astype(str).nunique(axis=1) > 1
    return table[differs].astype(object).fillna("-").rename_axis("setting").reset_index()


def metrics(log: RunLog) -> pd.DataFrame:
    """What finished trials reached, means over their seeds: one row per metric."""
    measured = [name for name in METRICS if name in log.done]
    means = log.done.groupby("trial", sort=False)[measured].mean()
    return means.T.dropna(how="all").rename_axis("metric").rename_axis(None, axis=1).reset_index()


def curves(log: RunLog) -> pd.DataFrame:
    """Every trial's validation accuracy, the mean over seeds, at up to ten of its epochs."""
    table = log.curves.groupby(["epoch", "trial"], sort=False)["val_accuracy"].mean().unstack()
    chosen = np.unique(np.linspace(0, len(table) - 1, min(10, len(table))).round().astype(int))
    return table.sort_index().iloc[chosen].rename_axis(None, axis=1).reset_index()
