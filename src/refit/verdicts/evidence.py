"""What predicates ask of the measurements: numbers, and the interval in which a claim wants them.

Every predicate becomes one or more tests. A test has one number per replicate, that is per seed or,
in a grid, per matched pair of trials; the doubt about their mean is Student's t.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy import special

from refit.experiments import predicates as p
from refit.experiments.metrics import METRICS
from refit.experiments.trial import SEED_STEP
from refit.run_directory.run_log import RunLog
from refit.verdicts import ledger

LEVEL = 0.05
# Fewer replicates than this show a direction but decide nothing.
FEWEST_SEEDS = 3
MOST_SEEDS = 1000
# Units of metrics that tell what a network has learned, not what it cost.
LEARNED = {"fraction", "nats", "epoch", "share"}


@dataclass(frozen=True)
class Test:
    """What one predicate asks of the measurements: the mean of `values` between `low` and `high`.

    `values` has one number per replicate: per seed, or per `unit` of another name. `label` says in
    words what was measured. Where `strict`, the ends lie outside: what is equal is not greater.
    """

    label: str
    values: pd.Series
    low: float = -math.inf
    high: float = math.inf
    strict: bool = False
    unit: str = "seed"

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


def evaluate(predicate: p.Predicate, log: RunLog, classes: int) -> list[Test]:
    """The tests that a predicate stands for; values are empty where nothing was measured."""
    return _TESTS[type(predicate)](predicate, log, classes)


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


def _measure(trial: p.Trials, predicate: p.Predicate, log: RunLog) -> pd.Series:
    return log.measure(trial, predicate.metric, predicate.epochs, predicate.statistic)


def _between(a: p.Trials, b: p.Trials, predicate: p.Predicate, log: RunLog) -> pd.Series:
    """`a` minus `b`, for the seeds that both have."""
    return (_measure(a, predicate, log) - _measure(b, predicate, log)).dropna()


def _lead(a: p.Trials, b: p.Trials, predicate: p.Predicate, log: RunLog, by: float = 0.0) -> Test:
    """`a` above `b` by more than `by`."""
    label = f"{_minus(a, b)}, {predicate.metric}"
    return Test(label, _between(a, b, predicate, log), by, strict=True)


def _minus(a: p.Trials, b: p.Trials) -> str:
    return f"{ledger.describe_trial(a)} − {ledger.describe_trial(b)}"


def _bounds(predicate: p.Bounded) -> tuple[float, float]:
    low, high = predicate.low, predicate.high
    return (-math.inf if low is None else low), (math.inf if high is None else high)


def _greater(claim: p.Greater, log: RunLog, classes: int) -> list[Test]:
    return [_lead(claim.a, claim.b, claim, log, claim.by)]


def _difference(claim: p.Difference, log: RunLog, classes: int) -> list[Test]:
    label = f"{_minus(claim.a, claim.b)}, {claim.metric}"
    return [Test(label, _between(claim.a, claim.b, claim, log), *_bounds(claim))]


def _ratio(claim: p.Ratio, log: RunLog, classes: int) -> list[Test]:
    names = f"{ledger.describe_trial(claim.a)} / {ledger.describe_trial(claim.b)}"
    ratio = (_measure(claim.a, claim, log) / _measure(claim.b, claim, log)).dropna()
    return [Test(f"{names}, {claim.metric}", ratio, *_bounds(claim))]


def _value(claim: p.Value, log: RunLog, classes: int) -> list[Test]:
    label = f"{ledger.describe_trial(claim.trial)}, {claim.metric}"
    return [Test(label, _measure(claim.trial, claim, log), *_bounds(claim))]


def _order(claim: p.Order, log: RunLog, classes: int) -> list[Test]:
    trials = claim.trials if claim.direction == "descending" else claim.trials[::-1]
    return [_lead(upper, lower, claim, log) for upper, lower in pairwise(trials)]


def _best(claim: p.Best, log: RunLog, classes: int) -> list[Test]:
    """The winner against each other trial.

    Not against the best of the others seed by seed, for a maximum of many noisy numbers lies above
    the mean of each. Of several winners the one that did best speaks for all.
    """
    sign = -1 if claim.smallest else 1
    scores = pd.Series({name: sign * _measure(name, claim, log).mean() for name in claim.winners})
    winner = scores.fillna(-math.inf).idxmax()
    among = claim.among or log.select(p.Selection(sweep=claim.sweep, take="max"))
    others = [trial for trial in among if trial not in claim.winners]
    pairs = [(other, winner) if claim.smallest else (winner, other) for other in others]
    return [_lead(upper, lower, claim, log) for upper, lower in pairs]


def _growing(claim: p.Growing, log: RunLog, classes: int) -> list[Test]:
    tests = []
    for first, second in pairwise(claim.pairs):
        growth = (_between(*second, claim, log) - _between(*first, claim, log)).dropna()
        label = f"({_minus(*second)}) − ({_minus(*first)}), {claim.metric}"
        tests.append(Test(label, growth, 0.0, strict=True))
    return tests


def _effect(claim: p.Effect, log: RunLog, classes: int) -> list[Test]:
    """One number per matched pair: the metric at `a` minus that at `b`, mean over seeds.

    Trials that are declared repetitions of each other make a pair each. Pairs in which a training
    was cut before its network had begun to learn are left out, where the metric is about learning.
    """
    rows = log.settings(claim.sweep)
    seeds = log.results.drop_duplicates("trial").set_index("trial")["seed"]
    rows = rows.assign(repetition=seeds.reindex(rows.index) // SEED_STEP)
    others = [name for name in rows if name != claim.axis]
    idle = _still_guessing(log.rows(rows.index)) if METRICS[claim.metric] in LEARNED else set()
    sides = []
    for level in (claim.a, claim.b) if claim.axis in rows else ():
        wanted = level if isinstance(level, list) else [level]
        chosen = rows[rows[claim.axis].isin(wanted)]
        measured = {trial: _measure(trial, claim, log) for trial in chosen.index}
        for trial in idle & set(measured):
            measured[trial] = measured[trial] * math.nan
        values = pd.concat(measured, axis=1) if measured else pd.DataFrame()
        keys = [", ".join(row) for row in chosen[others].astype(str).to_numpy()]
        # Of a list of levels all must be measured, or the pair would rest on other ones.
        groups = values.T.groupby(keys)
        sides.append(groups.agg(lambda part: part.mean(skipna=False)) if len(values) else values)
    found = len(sides) == 2 and all(map(len, sides))
    pairs = (sides[0] - sides[1]).mean(axis=1).dropna() if found else pd.Series()
    label = f"effect of {claim.axis} {claim.a} over {claim.b} in {claim.sweep}, {claim.metric}"
    if idle:
        networks = "network" if len(idle) == 1 else "networks"
        label += f" (without {len(idle)} {networks} cut before learning began)"
    return [Test(label, pairs.astype(float), claim.by, strict=True, unit="matched pair")]


def _still_guessing(rows: pd.DataFrame) -> set[str]:
    """The trials whose training was cut and ended no better than guessing, of any seed.

    Deep networks stay on a plateau for thousands of steps; one that is cut before its end looks
    like one that never learns. A diverged training is known by its loss.
    """
    if "learned" not in rows or "cut" not in rows:
        return set()
    cut = (rows["planned_epochs"] < rows["published_epochs"]) | rows["cut"].astype(bool)
    idle = cut & (rows["learned"] == 0) & ~rows["diverged"].astype(bool)
    return set(rows.loc[idle, "trial"])


def _separates(claim: p.Separates, log: RunLog, classes: int) -> list[Test]:
    """Per seed: the weakest of the strong settings minus the strongest of the weak ones."""
    rows = log.settings(claim.sweep)
    measured = pd.DataFrame({trial: _measure(trial, claim, log) for trial in rows.index}).dropna()
    if not set(claim.axes()) <= set(rows):
        measured = measured.iloc[:0]
    leads = {}
    for seed, values in measured.iterrows():
        ranks = values.rank()
        share = {axis: _between_groups(ranks, rows[axis]) for axis in claim.axes()}
        strong, weak = ([share[axis] for axis in axes] for axes in (claim.strong, claim.weak))
        leads[seed] = min(strong) - max(weak)
    names = f"{', '.join(claim.strong)} over {', '.join(claim.weak)}"
    label = f"lead of {names} in {claim.sweep}, share of the ranks of {claim.metric}"
    return [Test(label, pd.Series(leads, dtype=float), 0.0, strict=True)]


def _between_groups(values: pd.Series, groups: pd.Series) -> float:
    """The share of the variance that lies between groups (correlation ratio, 0 to 1)."""
    total = ((values - values.mean()) ** 2).sum()
    means = values.groupby(groups).transform("mean")
    return float(((means - values.mean()) ** 2).sum() / total) if total else 0.0


def _repeats(claim: p.Repeats, log: RunLog, classes: int) -> list[Test]:
    names = [claim.trial] if isinstance(claim.trial, str) else log.select(claim.trial)
    moved = {}
    for name in names:
        values = _measure(name, claim, log).sort_index().iloc[:2]
        if len(values) == 2 and np.isfinite(values).all():
            scale = abs(values.mean()) if claim.relative else 1.0
            moved[name] = abs(values.iloc[0] - values.iloc[1]) / scale
    kind = "relative change" if claim.relative else "change"
    label = f"{kind} with another seed of {ledger.describe_trial(claim.trial)}, {claim.metric}"
    return [Test(label, pd.Series(moved, dtype=float), *_bounds(claim), unit="repeated trial")]


def _confuses(claim: p.Confuses, log: RunLog, classes: int) -> list[Test]:
    rows = log.confusions[log.confusions["trial"] == claim.trial]
    rows = rows[rows["true"] == claim.actual]
    taken = rows["count"].where(rows["predicted"] == claim.predicted, 0).groupby(rows["seed"]).sum()
    shares = (taken / rows.groupby("seed")["count"].sum()).astype(float)
    label = f"share of {claim.actual} that {claim.trial} takes for {claim.predicted}"
    return [Test(label, shares, *_bounds(claim))]


def _curves(claim: p.OnCurve, log: RunLog) -> pd.DataFrame:
    """The predicate's part of a trial's curve, one column per seed that has all of it."""
    curve = log.curve(claim.trial, claim.metric)
    if claim.epochs:
        first, last = claim.epochs
        curve = curve.loc[first:last]
        if len(curve) < last - first + 1:
            return curve.iloc[:0]
    return curve.dropna(axis=1)


def _trend(claim: p.Trend, log: RunLog, classes: int) -> list[Test]:
    curve = _curves(claim, log)
    change = pd.Series(dtype=float)
    if len(curve) > 1:
        epochs = curve.index.to_numpy(float)
        finite = np.isfinite(curve).all().to_numpy()
        # Counted from the first epoch, so that a constant curve has no slope, not even by rounding.
        slopes = np.polyfit(epochs, np.where(finite, curve - curve.iloc[0], 0.0), 1)[0]
        # A loss that diverges rises beyond every line.
        change = pd.Series(np.where(finite, slopes * np.ptp(epochs), math.inf), curve.columns)
    low, high = {
        "rising": (claim.by, math.inf),
        "falling": (-math.inf, -claim.by),
        "flat": (-claim.by, claim.by),
        "not rising": (-math.inf, claim.by),
    }[claim.direction]
    strict = claim.direction in ("rising", "falling")
    return [Test(f"change of {claim.trial}, {claim.metric}", change, low, high, strict)]


def _minimum(claim: p.Minimum, log: RunLog, classes: int) -> list[Test]:
    curve = _curves(claim, log)
    nothing = pd.Series(dtype=float)
    lowest = curve.idxmin().astype(float) if len(curve) else nothing
    label = f"epoch of the minimum of {claim.trial}, {claim.metric}"
    tests = [Test(label, lowest, *claim.between)]
    if claim.rise:
        rise = (curve.iloc[-1] - curve.min()).dropna() if len(curve) else nothing
        label = f"rise of {claim.trial} from its minimum, {claim.metric}"
        tests.append(Test(label, rise, claim.rise))
    return tests


def _share(claim: p.Share, log: RunLog, classes: int) -> list[Test]:
    curve = _curves(claim, log)
    low, high = _bounds(claim)
    shares = ((curve >= low) & (curve <= high)).mean()
    label = f"share of {claim.trial}'s epochs with {claim.metric} in range"
    return [Test(label, shares.dropna(), claim.at_least)]


def _largest_rise(claim: p.LargestRise, log: RunLog, classes: int) -> list[Test]:
    rises = _curves(claim, log).diff().max().dropna()
    low = -math.inf if claim.at_least is None else claim.at_least
    high = math.inf if claim.at_most is None else claim.at_most
    return [Test(f"largest rise of {claim.trial}, {claim.metric}", rises, low, high)]


def _chance(claim: p.Chance, log: RunLog, classes: int) -> list[Test]:
    guess = 1 / classes
    values = _measure(claim.trial, claim, log)
    label = f"{claim.trial}, {claim.metric}"
    return [Test(label, values, guess - claim.tolerance, guess + claim.tolerance)]


def _diverges(claim: p.Diverges, log: RunLog, classes: int) -> list[Test]:
    flags = log.measure(claim.trial, "diverged")
    return [Test(f"share of {claim.trial}'s seeds that diverge", flags, 0.5)]


_TESTS: dict[type[p.Predicate], Callable[..., Sequence[Test]]] = {
    p.Greater: _greater,
    p.Difference: _difference,
    p.Ratio: _ratio,
    p.Value: _value,
    p.Order: _order,
    p.Best: _best,
    p.Growing: _growing,
    p.Effect: _effect,
    p.Separates: _separates,
    p.Repeats: _repeats,
    p.Confuses: _confuses,
    p.Trend: _trend,
    p.Minimum: _minimum,
    p.Share: _share,
    p.LargestRise: _largest_rise,
    p.Chance: _chance,
    p.Diverges: _diverges,
}
