"""What predicates ask of the measurements: numbers, and the interval in which a claim wants them.

Every predicate becomes one contrast with one number per replicate, that is per seed or, of grids
and other sets of trials, per matched pair or per trial; `interval_tests` doubts their mean.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import scipy

from refit.experiments import expand
from refit.experiments import predicates as p
from refit.experiments.declaration import Declaration
from refit.experiments.metrics import METRICS
from refit.experiments.trial import SEED_STEP
from refit.run_directory.log import RunLog
from refit.verdicts.interval_tests import IntervalTest

# Units of metrics that tell what a network has learned, not what it cost.
LEARNED = {"fraction", "nats", "epoch", "share"}


def evaluate(predicate: p.Predicate, log: RunLog) -> IntervalTest:
    """The contrast that a predicate stands for; its values are empty where nothing was measured."""
    found = _CONTRASTS[type(predicate)](predicate, log)
    return replace(found, metric=predicate.metric, trials=_names(predicate.subjects(), log))


def describe_trial(trial: p.Trials | p.Gap) -> str:
    """A trial's name, or a selection or a gap in words."""
    if isinstance(trial, str):
        return trial
    if isinstance(trial, p.Gap):
        return f"({describe_trial(trial.of)} − {describe_trial(trial.over)})"
    where = [f"{name} = {value}" for name, value in trial.where.items()]
    where += [f"without {' and '.join(trial.without)}"] * bool(trial.without)
    chosen = trial.sweep or " and ".join(trial.trials) or "all"
    take = "best" if trial.take == "of_best" else trial.take
    return f"{take} of {chosen}" + (f" ({', '.join(where)})" if where else "")


def names(declaration: Declaration) -> Callable[[str], str]:
    """What a reader is told of trials and selections, described as above or within a text: titles,
    where there are any, and "highest of Grid 1"."""
    known = {name: sweep.title for name, sweep in declaration.sweeps.items()}
    known |= expand.titles(declaration)

    def name(text: str) -> str:
        told = re.sub(r"\bmax of\b", "highest of", re.sub(r"\bmin of\b", "lowest of", text))
        return re.sub(r"\w[\w.=-]*", lambda found: known.get(found[0], found[0]), told)

    return name


def _names(subjects: Sequence[p.Trials], log: RunLog) -> tuple[str, ...]:
    """The names of some trials, those of selections among them."""
    groups = ([trial] if isinstance(trial, str) else log.select(trial) for trial in subjects)
    return tuple(dict.fromkeys(name for group in groups for name in group))


def _measure(trial: p.Trials | p.Gap, predicate: p.Predicate, log: RunLog) -> pd.Series:
    """One number per seed; of a gap, for the seeds that both its sides have."""
    if isinstance(trial, p.Gap):
        return _measure(trial.of, predicate, log) - _measure(trial.over, predicate, log)
    return log.measure(trial, predicate.metric, predicate.epochs, predicate.statistic)


def _bounds(predicate: p.Bounded) -> tuple[float, float]:
    low, high = predicate.low, predicate.high
    return (-math.inf if low is None else low), (math.inf if high is None else high)


def _value(claim: p.Value, log: RunLog) -> IntervalTest:
    label = f"{describe_trial(claim.trial)}, {claim.metric}"
    if claim.inside:
        low, high = claim.inside
        shares = log.curve_parts(
            claim.trial, claim.metric, claim.epochs, lambda curve: curve.between(low, high).mean()
        )
        label = f"share of epochs from {low} to {high}: {label}"
        return IntervalTest(label, shares, *_bounds(claim), kind="share")
    unit = METRICS[claim.metric]
    shape = "difference" if claim.statistic in ("change", "largest_rise") else "number"
    kind = "epoch" if unit in ("epoch", "epochs") else shape
    if shape == "difference":
        label = f"{claim.statistic.replace('_', ' ')} of {label}"
    return IntervalTest(label, _measure(claim.trial, claim, log), *_bounds(claim), kind=kind)


def _comparison(claim: p.Comparison, log: RunLog) -> IntervalTest:
    a, b = (_measure(side, claim, log) for side in (claim.a, claim.b))
    ratio = claim.kind == "ratio"
    sign = "/" if ratio else "−"
    label = f"{describe_trial(claim.a)} {sign} {describe_trial(claim.b)}, {claim.metric}"
    values = (a / b if ratio else a - b).dropna()
    # What is equal is not more.
    strict = None in (claim.low, claim.high)
    sides = describe_trial(claim.a), describe_trial(claim.b)
    return IntervalTest(label, values, *_bounds(claim), strict, kind=claim.kind, sides=sides)


def _effect(claim: p.Effect, log: RunLog) -> IntervalTest:
    """One number per matched pair: the metric at `a` minus that at `b`, mean over seeds.

    Trials that are declared repetitions of each other make a pair each. Pairs in which a training
    was cut before its network had begun to learn are left out, where the metric is about learning.
    """
    rows = log.settings(claim.sweep)
    seeds = log.results.drop_duplicates("trial").set_index("trial")["seed"]
    rows = rows.assign(repetition=seeds.reindex(rows.index) // SEED_STEP)
    done = log.done[log.done["trial"].isin(rows.index)]
    idle = _still_guessing(done) if METRICS[claim.metric] in LEARNED else set()
    levels = (claim.a, claim.b) if claim.axis in rows else ()
    sides = [_matched(claim, rows, level, idle, log) for level in levels]
    found = len(sides) == 2 and all(map(len, sides))
    pairs = (sides[0] - sides[1]).mean(axis=1).dropna() if found else pd.Series()
    label = f"effect of {claim.axis} {claim.a} over {claim.b} in {claim.sweep}, {claim.metric}"
    if idle:
        networks = "network" if len(idle) == 1 else "networks"
        label += f" (without {len(idle)} {networks} cut before learning began)"
    strict = None in (claim.low, claim.high)
    axis = re.sub(r"(?<=[a-z])(?=\d)|_", " ", claim.axis.rpartition(".")[2])
    given = (side if isinstance(side, list) else [side] for side in (claim.a, claim.b))
    spoken = tuple(f"{axis} of {' or '.join(map(str, each))}" for each in given)
    facts = {"unit": "matched pair", "kind": "difference", "sides": spoken}
    return IntervalTest(label, pairs.astype(float), *_bounds(claim), strict, **facts)


def _matched(
    claim: p.Effect, rows: pd.DataFrame, level: object, idle: set[str], log: RunLog
) -> pd.DataFrame:
    """A row per setting of all other axes, a column per seed, at one level or the mean of some."""
    chosen = rows[rows[claim.axis].isin(level if isinstance(level, list) else [level])]
    measured = {trial: _measure(trial, claim, log) for trial in chosen.index}
    for trial in idle & set(measured):
        measured[trial] = measured[trial] * math.nan
    if not measured:
        return pd.DataFrame()
    keys = [", ".join(row) for row in chosen.drop(columns=claim.axis).astype(str).to_numpy()]
    # Of a list of levels all must be measured, or the pair would rest on other ones.
    groups = pd.concat(measured, axis=1).T.groupby(keys)
    return groups.agg(lambda part: part.mean(skipna=False))


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


def _separates(claim: p.Separates, log: RunLog) -> IntervalTest:
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
    leads = pd.Series(leads, dtype=float)
    step = 1 / max(1, len(rows))
    return IntervalTest(label, leads, 0.0, strict=True, kind="lead", resolution=step)


def _between_groups(values: pd.Series, groups: pd.Series) -> float:
    """The share of the variance that lies between groups, adjusted for their number (at most 1)."""
    total = ((values - values.mean()) ** 2).sum()
    within = ((values - values.groupby(groups).transform("mean")) ** 2).sum()
    freedom = (len(values) - 1) / max(1, len(values) - groups.nunique())
    return float(1 - within / total * freedom) if total else 0.0


def _order(claim: p.Order, log: RunLog) -> IntervalTest:
    measured = pd.concat([_measure(trial, claim, log) for trial in claim.trials], axis=1).dropna()
    places = range(len(claim.trials))
    sign = 1 if claim.direction == "ascending" else -1
    found = {
        seed: sign * scipy.stats.kendalltau(places, row)[0] for seed, row in measured.iterrows()
    }
    names = " → ".join(describe_trial(trial) for trial in claim.trials)
    label = f"rank correlation with {names} ({claim.direction}), {claim.metric}"
    # Where all are equal they have no order, which is as far from the claim as chance.
    values = pd.Series(found, dtype=float).fillna(0.0)
    step = 2 / math.comb(len(places), 2)
    return IntervalTest(label, values, claim.at_least, kind="correlation", resolution=step)


def _share(claim: p.Share, log: RunLog) -> IntervalTest:
    low, high = _bounds(claim)
    range_ = " and ".join(f"{s} {end:g}" for s, end in (("≥", low), ("≤", high)) if abs(end) < 1e9)
    label = f"share of {describe_trial(claim.trial)} with {claim.metric} {range_}"
    if isinstance(claim.trial, str):
        values, unit = _measure(claim.trial, claim, log), "seed"
    else:
        names = log.select(claim.trial)
        medians = {name: _measure(name, claim, log).median() for name in names}
        values, unit = pd.Series(medians, dtype=float).dropna(), "network"
    flags = values.between(*_bounds(claim)).astype(float)
    return IntervalTest(label, flags, claim.at_least, strict=True, unit=unit, kind="flag")


def _repeats(claim: p.Repeats, log: RunLog) -> IntervalTest:
    moved = {}
    for name in _names([claim.trial], log):
        values = _measure(name, claim, log).to_numpy(float)
        if len(values) > 1 and np.isfinite(values).all():
            scale = abs(values.mean()) if claim.relative else 1.0
            moved[name] = scipy.spatial.distance.pdist(values[:, None], "cityblock").mean() / scale
    change = "relative change" if claim.relative else "change"
    label = f"{change} with another seed of {describe_trial(claim.trial)}, {claim.metric}"
    kind = "ratio" if claim.relative else "difference"
    values = pd.Series(moved, dtype=float)
    return IntervalTest(label, values, *_bounds(claim), unit="repeated trial", kind=kind)


def _confuses(claim: p.Confuses, log: RunLog) -> IntervalTest:
    rows = log.confusions[log.confusions["trial"] == claim.trial]
    rows = rows[rows["true"] == claim.actual]
    taken = rows["count"].where(rows["predicted"] == claim.predicted, 0).groupby(rows["seed"]).sum()
    images = rows.groupby("seed")["count"].sum()
    shares = (taken / images).astype(float)
    step = 1 / images.min() if len(images) else 0.0
    label = f"share of {claim.actual} that {claim.trial} takes for {claim.predicted}"
    return IntervalTest(label, shares, *_bounds(claim), kind="share", resolution=step)


_CONTRASTS: dict[type[p.Predicate], Callable[..., IntervalTest]] = {
    p.Value: _value,
    p.Comparison: _comparison,
    p.Effect: _effect,
    p.Separates: _separates,
    p.Order: _order,
    p.Share: _share,
    p.Repeats: _repeats,
    p.Confuses: _confuses,
}
