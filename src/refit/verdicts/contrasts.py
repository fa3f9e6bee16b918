"""What predicates ask of the measurements: numbers, and the interval in which a claim wants them.

Every predicate becomes one or more contrasts. Each has one number per replicate, that is per seed
or, in a grid, per matched pair of trials; `interval_tests` doubts their mean.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd

from refit.experiments import predicates as p
from refit.experiments.metrics import METRICS
from refit.experiments.trial import SEED_STEP
from refit.run_directory.run_log import RunLog
from refit.verdicts.interval_tests import IntervalTest

# Units of metrics that tell what a network has learned, not what it cost.
LEARNED = {"fraction", "nats", "epoch", "share"}


def evaluate(predicate: p.Predicate, log: RunLog, classes: int) -> list[IntervalTest]:
    """The contrasts that a predicate stands for; values are empty where nothing was measured."""
    found = _CONTRASTS[type(predicate)](predicate, log, classes)
    every = _names(predicate.subjects(), log)
    return [replace(t, metric=predicate.metric, trials=t.trials or every) for t in found]


def describe_trial(trial: p.Trials) -> str:
    """A trial's name, or a selection in words."""
    if isinstance(trial, str):
        return trial
    where = ", ".join(f"{name} = {value}" for name, value in trial.where.items())
    take = "best" if trial.take == "of_best" else trial.take
    return f"{take} of {trial.sweep or 'all'}{f' ({where})' if where else ''}"


def _names(subjects: Sequence[p.Trials], log: RunLog) -> tuple[str, ...]:
    """The names of some trials, those of selections among them."""
    groups = ([trial] if isinstance(trial, str) else log.select(trial) for trial in subjects)
    return tuple(dict.fromkeys(name for group in groups for name in group))


def _measure(trial: p.Trials, predicate: p.Predicate, log: RunLog) -> pd.Series:
    return log.measure(trial, predicate.metric, predicate.epochs, predicate.statistic)


def _between(a: p.Trials, b: p.Trials, predicate: p.Predicate, log: RunLog) -> pd.Series:
    """`a` minus `b`, for the seeds that both have."""
    return (_measure(a, predicate, log) - _measure(b, predicate, log)).dropna()


def _lead(
    a: p.Trials, b: p.Trials, predicate: p.Predicate, log: RunLog, by: float = 0.0
) -> IntervalTest:
    """`a` above `b` by more than `by`."""
    label = f"{_minus(a, b)}, {predicate.metric}"
    values = _between(a, b, predicate, log)
    trials = _names([a, b], log)
    return IntervalTest(label, values, by, strict=True, kind="difference", trials=trials)


def _minus(a: p.Trials, b: p.Trials) -> str:
    return f"{describe_trial(a)} − {describe_trial(b)}"


def _bounds(predicate: p.Bounded) -> tuple[float, float]:
    low, high = predicate.low, predicate.high
    return (-math.inf if low is None else low), (math.inf if high is None else high)


def _greater(claim: p.Greater, log: RunLog, classes: int) -> list[IntervalTest]:
    return [_lead(claim.a, claim.b, claim, log, claim.by)]


def _difference(claim: p.Difference, log: RunLog, classes: int) -> list[IntervalTest]:
    label = f"{_minus(claim.a, claim.b)}, {claim.metric}"
    values = _between(claim.a, claim.b, claim, log)
    return [IntervalTest(label, values, *_bounds(claim), kind="difference")]


def _ratio(claim: p.Ratio, log: RunLog, classes: int) -> list[IntervalTest]:
    names = f"{describe_trial(claim.a)} / {describe_trial(claim.b)}"
    ratio = (_measure(claim.a, claim, log) / _measure(claim.b, claim, log)).dropna()
    return [IntervalTest(f"{names}, {claim.metric}", ratio, *_bounds(claim), kind="ratio")]


def _value(claim: p.Value, log: RunLog, classes: int) -> list[IntervalTest]:
    label = f"{describe_trial(claim.trial)}, {claim.metric}"
    return [IntervalTest(label, _measure(claim.trial, claim, log), *_bounds(claim))]


def _order(claim: p.Order, log: RunLog, classes: int) -> list[IntervalTest]:
    trials = claim.trials if claim.direction == "descending" else claim.trials[::-1]
    return [_lead(upper, lower, claim, log) for upper, lower in pairwise(trials)]


def _best(claim: p.Best, log: RunLog, classes: int) -> list[IntervalTest]:
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


def _growing(claim: p.Growing, log: RunLog, classes: int) -> list[IntervalTest]:
    tests = []
    for first, second in pairwise(claim.pairs):
        growth = (_between(*second, claim, log) - _between(*first, claim, log)).dropna()
        label = f"({_minus(*second)}) − ({_minus(*first)}), {claim.metric}"
        tests.append(IntervalTest(label, growth, 0.0, strict=True, kind="difference"))
    return tests


def _effect(claim: p.Effect, log: RunLog, classes: int) -> list[IntervalTest]:
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
    values = pairs.astype(float)
    return [
        IntervalTest(label, values, claim.by, strict=True, unit="matched pair", kind="difference")
    ]


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


def _separates(claim: p.Separates, log: RunLog, classes: int) -> list[IntervalTest]:
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
    return [IntervalTest(label, pd.Series(leads, dtype=float), 0.0, strict=True, kind="share")]


def _between_groups(values: pd.Series, groups: pd.Series) -> float:
    """The share of the variance that lies between groups (correlation ratio, 0 to 1)."""
    total = ((values - values.mean()) ** 2).sum()
    means = values.groupby(groups).transform("mean")
    return float(((means - values.mean()) ** 2).sum() / total) if total else 0.0


def _repeats(claim: p.Repeats, log: RunLog, classes: int) -> list[IntervalTest]:
    names = [claim.trial] if isinstance(claim.trial, str) else log.select(claim.trial)
    moved = {}
    for name in names:
        values = _measure(name, claim, log).sort_index().iloc[:2]
        if len(values) == 2 and np.isfinite(values).all():
            scale = abs(values.mean()) if claim.relative else 1.0
            moved[name] = abs(values.iloc[0] - values.iloc[1]) / scale
    kind = "relative change" if claim.relative else "change"
    label = f"{kind} with another seed of {describe_trial(claim.trial)}, {claim.metric}"
    return [
        IntervalTest(
            label,
            pd.Series(moved, dtype=float),
            *_bounds(claim),
            unit="repeated trial",
            kind="ratio" if claim.relative else "difference",
        )
    ]


def _confuses(claim: p.Confuses, log: RunLog, classes: int) -> list[IntervalTest]:
    rows = log.confusions[log.confusions["trial"] == claim.trial]
    rows = rows[rows["true"] == claim.actual]
    taken = rows["count"].where(rows["predicted"] == claim.predicted, 0).groupby(rows["seed"]).sum()
    shares = (taken / rows.groupby("seed")["count"].sum()).astype(float)
    label = f"share of {claim.actual} that {claim.trial} takes for {claim.predicted}"
    return [IntervalTest(label, shares, *_bounds(claim), kind="share")]


def _curves(claim: p.OnCurve, log: RunLog) -> pd.DataFrame:
    """The predicate's part of a trial's curve, one column per seed that has all of it."""
    curve = log.curve(claim.trial, claim.metric)
    if claim.epochs:
        first, last = claim.epochs
        curve = curve.loc[first:last]
        if len(curve) < last - first + 1:
            return curve.iloc[:0]
    return curve.dropna(axis=1)


def _trend(claim: p.Trend, log: RunLog, classes: int) -> list[IntervalTest]:
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
    label = f"change of {claim.trial}, {claim.metric}"
    return [IntervalTest(label, change, low, high, strict, kind="difference")]


def _minimum(claim: p.Minimum, log: RunLog, classes: int) -> list[IntervalTest]:
    curve = _curves(claim, log)
    nothing = pd.Series(dtype=float)
    lowest = curve.idxmin().astype(float) if len(curve) else nothing
    label = f"epoch of the minimum of {claim.trial}, {claim.metric}"
    tests = [IntervalTest(label, lowest, *claim.between, kind="epoch")]
    if claim.rise:
        rise = (curve.iloc[-1] - curve.min()).dropna() if len(curve) else nothing
        label = f"rise of {claim.trial} from its minimum, {claim.metric}"
        tests.append(IntervalTest(label, rise, claim.rise, kind="difference"))
    return tests


def _share(claim: p.Share, log: RunLog, classes: int) -> list[IntervalTest]:
    curve = _curves(claim, log)
    low, high = _bounds(claim)
    shares = ((curve >= low) & (curve <= high)).mean()
    label = f"share of {claim.trial}'s epochs with {claim.metric} in range"
    return [IntervalTest(label, shares.dropna(), claim.at_least, kind="share")]


def _largest_rise(claim: p.LargestRise, log: RunLog, classes: int) -> list[IntervalTest]:
    rises = _curves(claim, log).diff().max().dropna()
    low = -math.inf if claim.at_least is None else claim.at_least
    high = math.inf if claim.at_most is None else claim.at_most
    label = f"largest rise of {claim.trial}, {claim.metric}"
    return [IntervalTest(label, rises, low, high, kind="difference")]


def _chance(claim: p.Chance, log: RunLog, classes: int) -> list[IntervalTest]:
    guess = 1 / classes
    values = _measure(claim.trial, claim, log)
    label = f"{claim.trial}, {claim.metric}"
    return [IntervalTest(label, values, guess - claim.tolerance, guess + claim.tolerance)]


def _diverges(claim: p.Diverges, log: RunLog, classes: int) -> list[IntervalTest]:
    flags = log.measure(claim.trial, "diverged")
    label = f"share of {claim.trial}'s seeds that diverge"
    return [IntervalTest(label, flags, 0.5, kind="flag")]


_CONTRASTS: dict[type[p.Predicate], Callable[..., Sequence[IntervalTest]]] = {
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
