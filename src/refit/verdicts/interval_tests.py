"""The doubt about a measured number: does its mean lie where a claim wants it?"""

import math
from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd
from scipy import special

LEVEL = 0.05
# Fewer replicates than this show a direction but decide nothing.
FEWEST_SEEDS = 3
MOST_SEEDS = 1000


@dataclass(frozen=True)
class IntervalTest:
    """What one predicate asks of the measurements: the mean of `values` between `low` and `high`.

    `values` has one number per replicate: per seed, or per `unit` of another name. `label` says in
    words what was measured. Where `strict`, the ends lie outside: what is equal is not greater.
    `kind` is what each value is: a measured number, a `difference` of such, their `ratio`, the
    number of an `epoch`, a `flag` (yes 1, no 0), or a `share`. `trials` names those it speaks of.
    """

    label: str
    values: pd.Series
    low: float = -math.inf
    high: float = math.inf
    strict: bool = False
    unit: str = "seed"
    kind: Literal["number", "difference", "ratio", "epoch", "flag", "share"] = "number"
    metric: str = ""
    trials: tuple[str, ...] = ()

    @cached_property
    def mean(self) -> float:
        return float(self.values.mean())

    @property
    def holds(self) -> bool:
        """Whether the observed mean lies where the claim wants it."""
        at_end = self.strict and math.isfinite(self.mean) and self.mean in (self.low, self.high)
        return self.low <= self.mean <= self.high and not at_end

    def p_values(self) -> tuple[float, float]:
        """The one-sided p-values against "outside" and against "inside" the interval.

        Inside needs both ends to be passed (Schuirmann's two one-sided tests), outside one of
        them. Values without any spread are taken at their word.
        """
        values = self.values.to_numpy(float)
        if (values == values[0]).all():
            return (0.0, 1.0) if self.holds else (1.0, 0.0)
        inside = max(_p_above(values, self.low), _p_above(-values, -self.high))
        outside = min(_p_above(-values, -self.low), _p_above(values, self.high))
        return inside, outside

    def seeds_needed(self, level: float = LEVEL) -> int | None:
        """How many seeds would decide, were mean and spread to stay as they are."""
        values = self.values.to_numpy(float)
        if self.unit != "seed" or len(values) < 2 or not np.isfinite(values).all():
            return None
        distance = min(abs(self.mean - end) for end in (self.low, self.high))
        counts = range(FEWEST_SEEDS, MOST_SEEDS + 1)
        first = bisect_left(counts, True, key=lambda n: half_width(values, n, level) < distance)
        return counts[first] if first < len(counts) else None

    def __str__(self) -> str:
        values = self.values.to_numpy(float)
        interval = ""
        if len(values) >= FEWEST_SEEDS and np.isfinite(values).all() and np.ptp(values) > 0:
            half = half_width(values, len(values), LEVEL)
            interval = f" [{self.mean - half:.4g}, {self.mean + half:.4g}]"
        signs = (">", "<") if self.strict else ("≥", "≤")
        ends = zip(signs, (self.low, self.high), strict=True)
        wanted = " and ".join(f"{sign} {end:.4g}" for sign, end in ends if math.isfinite(end))
        count = "" if self.unit == "seed" else f" over {len(values)} {self.unit}s"
        return f"{self.label}: {self.mean:.4g}{interval}{count}, claimed {wanted}"


def half_width(values: np.ndarray, count: int, level: float = LEVEL) -> float:
    """Half of a confidence interval of the mean, were there `count` values with this spread.

    Student's t; `level` is the share of such intervals that miss the mean.
    """
    quantile = float(special.stdtrit(count - 1, 1 - level / 2))
    return quantile * values.std(ddof=1) / math.sqrt(count)


def _p_above(values: np.ndarray, bound: float) -> float:
    """The p-value against a mean at or below `bound`, by Student's t.

    Where a training diverged its loss is infinite and there is no mean; the sign test remains.
    """
    if math.isinf(bound):
        return 0.0 if bound < 0 else 1.0
    if not np.isfinite(values).all():
        return float(special.bdtrc((values > bound).sum() - 1, len(values), 0.5))
    distance = (values.mean() - bound) * math.sqrt(len(values)) / values.std(ddof=1)
    return float(special.stdtr(len(values) - 1, -distance))
