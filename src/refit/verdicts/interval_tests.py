"""The doubt about a measured number: does its mean lie where a claim wants it?

Two one-sided tests (Schuirmann 1987) by a moderated t; the exact binomial test for flags, and the
sign test where a training diverged, so that there is no mean.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd
import scipy

from refit.experiments.metrics import METRICS
from refit.verdicts.moderated import prior_of
from refit.verdicts.words import number

Kind = Literal["number", "difference", "ratio", "epoch", "flag", "share", "correlation", "lead"]
# Percent or points for what is kept as a fraction, by whether it is a difference.
PERCENT = {False: "%", True: "points"}
LEVEL = 0.05
# Fewer replicates than this show a direction but decide nothing.
FEWEST_SEEDS = 3


@dataclass(frozen=True)
class IntervalTest:
    """What one predicate asks of the measurements: the mean of `values` between `low` and `high`.

    `values` has one number per replicate: per seed, or per `unit` of another name. `label` says in
    words what was measured. Where `strict`, the ends lie outside: what is equal is not greater.
    `kind` is what each value is: a measured number, a `difference` of such, their `ratio`, the
    number of an `epoch`, a `flag` (yes 1, no 0), a `share`, a rank `correlation`, the `lead` of one
    correlation over another. `trials` names those it speaks of, `sides` in words what a difference
    is between; `resolution` is the smallest step of a value, the least spread believed.
    """

    label: str
    values: pd.Series
    low: float = -math.inf
    high: float = math.inf
    strict: bool = False
    unit: str = "seed"
    kind: Kind = "number"
    metric: str = ""
    trials: tuple[str, ...] = ()
    sides: tuple[str, str] = ("", "")
    resolution: float = 0.0

    @property
    def n(self) -> int:
        return len(self.values)

    @cached_property
    def estimate(self) -> float:
        """The mean; the median where a value is infinite, as of a diverged training."""
        finite = np.isfinite(self.values.to_numpy(float)).all()
        return float(self.values.mean() if finite else self.values.median())

    @property
    def holds(self) -> bool:
        """Whether the estimate lies where the claim wants it."""
        ends = (self.low, self.high)
        at_end = self.strict and math.isfinite(self.estimate) and self.estimate in ends
        return self.low <= self.estimate <= self.high and not at_end

    @property
    def is_flag(self) -> bool:
        return self.kind == "flag" or (self.kind == "number" and self.metric == "learned")

    @property
    def is_exact(self) -> bool:
        """Whether the number is the same in every training, such as a count of parameters."""
        return METRICS.get(self.metric) == "count"

    @property
    def is_sized(self) -> bool:
        """Whether it asks how large something is, not only which way it goes."""
        ends = {end for end in (self.low, self.high) if math.isfinite(end)}
        return self.kind not in ("difference", "lead") or ends != {0.0}

    @property
    def is_fraction(self) -> bool:
        if self.kind in ("number", "difference"):
            return METRICS.get(self.metric) == "fraction"
        return self.kind in ("flag", "share")

    @property
    def scale(self) -> str:
        """The unit in which a reader meets the number."""
        if self.is_fraction:
            return PERCENT[self.kind == "difference"]
        plain = self.kind in ("number", "difference", "epoch")
        unit = METRICS.get(self.metric, "") if plain else ""
        return {"count": "", "share": "", "rate": "", "epoch": "epochs"}.get(unit, unit)

    @property
    def possible(self) -> tuple[float, float]:
        """The range that the number cannot leave."""
        if not self.is_fraction and self.kind != "correlation":
            return -math.inf, math.inf
        share = self.kind in ("flag", "share")
        share |= self.kind == "number" and self.metric.endswith("accuracy")
        return (0.0 if share else -1.0), 1.0

    def __str__(self) -> str:
        signs = (">", "<") if self.strict else ("≥", "≤")
        ends = zip(signs, (self.low, self.high), strict=True)
        wanted = [f"{sign} {number(end)}" for sign, end in ends if math.isfinite(end)]
        return f"{self.label}: {number(self.estimate)}, claimed {' and '.join(wanted)}"


@dataclass(frozen=True)
class Spread:
    """The standard deviation of single values, and the degrees of freedom of its estimate."""

    deviation: float
    freedom: float

    def half_width(self, scale: float, level: float = LEVEL) -> float:
        """Half of a 95 % interval of what scatters `scale` times as much as a single value."""
        return float(scipy.special.stdtrit(self.freedom, 1 - level / 2)) * self.deviation * scale


@dataclass(frozen=True)
class Outcome:
    """One-sided p-values, of the claim's interval (`inside`) and against it, and a 95 % interval
    of the estimate, which is NaN where there is none."""

    inside: float = 1.0
    outside: float = 1.0
    low: float = math.nan
    high: float = math.nan


def spreads(tests: Sequence[IntervalTest]) -> list[Spread | None]:
    """The moderated spread of each test's values; None where there is none, or none to believe.

    Each is drawn towards what all tests of its metric and unit say. A difference of two places
    scatters by the square root of 2 more than each, and is scaled so.
    """
    found: list[Spread | None] = [None] * len(tests)
    groups: dict[tuple[str, ...], list[int]] = {}
    for place, test in enumerate(tests):
        # Values that are all the same, where no smallest step is known, tell nothing of a spread.
        if _has_spread(test) and _variance(test) > 0:
            groups.setdefault(_group(test), []).append(place)
    for places in groups.values():
        # What several claims ask counts once.
        distinct = list({tuple(tests[each].values): tests[each] for each in places}.values())
        variances, counts = zip(*((_variance(test), test.n) for test in distinct), strict=True)
        prior = prior_of(np.array(variances), np.array(counts))
        for place in places:
            test = tests[place]
            variance, freedom = prior.moderate(_variance(test), test.n - 1)
            terms = 2 if test.kind == "difference" else 1
            deviation = math.sqrt(terms * max(variance, test.resolution**2))
            found[place] = Spread(deviation, freedom)
    return found


def outcomes(tests: Sequence[IntervalTest]) -> list[Outcome]:
    """What all tests of an experiment say, moderated by each other."""
    return [_outcome(test, spread) for test, spread in zip(tests, spreads(tests), strict=True)]


def _outcome(test: IntervalTest, spread: Spread | None) -> Outcome:
    if test.n < FEWEST_SEEDS:
        return Outcome()
    if test.is_flag:
        return _binomial(test)
    if not np.isfinite(test.values.to_numpy(float)).all():
        return _sign_test(test)
    if spread is None:
        return Outcome()
    scale = 1 / math.sqrt(test.n)
    distances = (test.estimate - np.array([test.low, test.high])) / (spread.deviation * scale)
    above, below = (scipy.special.stdtr(spread.freedom, sign * distances) for sign in (-1, 1))
    half = spread.half_width(scale)
    ends = np.clip([test.estimate - half, test.estimate + half], *test.possible).tolist()
    return Outcome(*_two_one_sided(test, above, below), *ends)


def _binomial(test: IntervalTest) -> Outcome:
    """Of flags: the exact test of their share, and the interval of Clopper and Pearson (1934)."""
    count, ends = int(test.values.sum()), np.clip([test.low, test.high], 0, 1)
    above = scipy.special.bdtrc(count - 1, test.n, ends)
    below = scipy.special.bdtr(count, test.n, ends)
    interval = scipy.stats.binomtest(count, test.n).proportion_ci(1 - LEVEL)
    return Outcome(*_two_one_sided(test, above, below), interval.low, interval.high)


def _sign_test(test: IntervalTest) -> Outcome:
    """Where there is no mean: how many values lie above an end, and below."""
    values = test.values.to_numpy(float)
    beyond = [
        [scipy.special.bdtrc((sign * values > sign * end).sum() - 1, test.n, 0.5) for end in ends]
        for sign, ends in ((1, (test.low, test.high)), (-1, (test.low, test.high)))
    ]
    return Outcome(*_two_one_sided(test, *beyond))


def _two_one_sided(
    test: IntervalTest, above: Sequence[float], below: Sequence[float]
) -> tuple[float, float]:
    """The p-values of inside, which needs both ends, and outside, which needs one of them.

    `above` and `below` are those of lying above, and below, each end of the interval.
    """
    inside, outside = [], []
    if math.isfinite(test.low):
        inside.append(above[0])
        outside.append(below[0])
    if math.isfinite(test.high):
        inside.append(below[1])
        outside.append(above[1])
    return float(max(inside)), float(min(outside))


def _has_spread(test: IntervalTest) -> bool:
    values = test.values.to_numpy(float)
    return len(values) > 1 and bool(np.isfinite(values).all()) and not test.is_flag


def _group(test: IntervalTest) -> tuple[str, ...]:
    """What a test's spread is like: numbers and their differences differ by a known factor."""
    plain = test.kind in ("number", "difference")
    return test.metric, test.unit, "number" if plain else test.kind


def _variance(test: IntervalTest) -> float:
    """Of a single number, at least that of its smallest step."""
    terms = 2 if test.kind == "difference" else 1
    return max(test.values.var(ddof=1), terms * test.resolution**2) / terms
