"""Published figures beside reproduced ones.

A published number is one draw: it agrees where another training of ours would lie, in the 95 %
prediction interval mean ± t s sqrt(1 + 1/n) of our seeds. Numbers that the report chose, such as
the best of a grid, are held against what we would have chosen, and speeds of other hardware
against nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from refit.experiments.declaration import Declaration, Figure
from refit.experiments.predicates import Selection
from refit.run_directory.log import RunLog
from refit.verdicts import scope, words
from refit.verdicts.contrasts import describe_trial
from refit.verdicts.interval_tests import FEWEST_SEEDS, LEVEL, IntervalTest, Spread, spreads

COLUMNS = [
    "place", "trial", "metric", "epochs", "published", "reproduced", "spread", "lower", "upper",
    "interval_low", "interval_high", "n", "difference", "verdict", "reason", "repeats",
]  # fmt: skip
# What printing may have cut off, in units of the last digit.
CUT_OFF = {"rounded": 0.5, "truncated": 1.0, "approximate": 1.0}


def figures(declaration: Declaration, profile: str, log: RunLog) -> pd.DataFrame:
    """One row per published number.

    `published` and `reproduced` (mean over seeds) are in the metric's own unit, accuracies as
    fractions; `spread` is the standard deviation over the `n` seeds, `lower` and `upper` are the
    extremes, `interval_` ends where a repetition would lie. `repeats` marks numbers that stood
    before in another place; they count once.
    """
    published = declaration.published.figures
    tests = [_measured(figure, log) for figure in published]
    rows = []
    for figure, test, spread in zip(published, tests, spreads(tests), strict=True):
        interval, trials = prediction(test, spread), log.declared(test.trials)
        verdict, reason = _judge(figure, test, interval, declaration, profile, trials)
        rows.append(_row(figure, test, interval) | {"verdict": verdict, "reason": reason})
    frame = pd.DataFrame(rows, columns=COLUMNS[:-1])
    return frame.assign(repeats=_repeats(published))


def _measured(figure: Figure, log: RunLog) -> IntervalTest:
    names = [figure.trial] if isinstance(figure.trial, str) else log.select(figure.trial)
    if figure.best_of:
        names = log.select(Selection(sweep=figure.best_of))
        values = _ranked(names, figure, log)
    else:
        values = log.measure(figure.trial, figure.metric, figure.epochs, figure.statistic)
    test = IntervalTest(figure.place, values, metric=figure.metric, trials=tuple(names))
    return replace(test, resolution=scope.resolution(test, log.declared(names)))


def _ranked(names: Sequence[str], figure: Figure, log: RunLog) -> pd.Series:
    """Per seed the number in the figure's rank among all trials, which need not be the same one."""
    measured = [log.measure(name, figure.metric) for name in names]
    whole = pd.concat(measured, axis=1).dropna() if measured else pd.DataFrame()
    return whole.apply(lambda row: row.nlargest(figure.rank).iloc[-1], axis=1).astype(float)


def _row(figure: Figure, test: IntervalTest, interval: tuple[float, float]) -> dict[str, object]:
    values, mean = test.values, test.values.mean() if test.n else math.nan
    epochs = "" if figure.epochs is None else "–".join(map(str, dict.fromkeys(figure.epochs)))
    return {
        "place": figure.place,
        "trial": describe_trial(figure.trial),
        "metric": figure.metric,
        "epochs": f"{epochs} ({figure.statistic})" if figure.statistic != "last" else epochs,
        "published": figure.value,
        "reproduced": mean,
        "spread": values.std() if test.n > 1 and math.isfinite(mean) else math.nan,
        "lower": values.min() if test.n else math.nan,
        "upper": values.max() if test.n else math.nan,
        "interval_low": interval[0],
        "interval_high": interval[1],
        "n": test.n,
        "difference": mean - figure.value,
    }


def prediction(
    test: IntervalTest, spread: Spread | None, level: float = LEVEL
) -> tuple[float, float]:
    """Where another training would lie; from diverged ones only the extremes are known."""
    if test.n < FEWEST_SEEDS:
        return math.nan, math.nan
    if not math.isfinite(test.values.mean()):
        return float(test.values.min()), float(test.values.max())
    half = spread.half_width(math.sqrt(1 + 1 / test.n), level) if spread else 0.0
    ends = np.clip([test.estimate - half, test.estimate + half], *test.possible)
    return float(ends[0]), float(ends[1])


def _judge(
    figure: Figure,
    test: IntervalTest,
    interval: tuple[float, float],
    declaration: Declaration,
    profile: str,
    rows: pd.DataFrame,
) -> tuple[str, str]:
    if test.is_exact and test.n and not scope.flagged(rows, "altered"):
        same = (test.values == figure.value).all()
        return words.EXACT if same else words.DIFFERS, ""
    if not declaration.profiles[profile].comparable:
        return words.NOT_JUDGED, words.EMBEDDED
    if reason := scope.barrier(test, declaration, rows):
        return words.NOT_JUDGED, reason
    if scope.scope_of(profile, rows) != words.AS_PUBLISHED or not test.n:
        return words.NOT_JUDGED, words.COMPUTING
    if test.n < FEWEST_SEEDS:
        return words.TOO_FEW_SEEDS, f"{test.n} of {FEWEST_SEEDS}"
    allowed = CUT_OFF[figure.rounding] * figure.precision
    inside = interval[0] - allowed <= figure.value <= interval[1] + allowed
    chosen = f"number {figure.rank} of each of our grids" if figure.best_of else ""
    return words.INSIDE if inside else words.DIFFERS, chosen


def _repeats(published: Sequence[Figure]) -> list[bool]:
    """Which numbers stood before, as exactly as they are printed."""
    return [any(_same(one, other) for other in published[:n]) for n, one in enumerate(published)]


def _same(figure: Figure, other: Figure) -> bool:
    alike = ("metric", "trial", "epochs", "statistic")
    allowed = sum(CUT_OFF[each.rounding] * each.precision for each in (figure, other))
    return abs(figure.value - other.value) <= allowed and all(
        getattr(figure, name) == getattr(other, name) for name in alike
    )
