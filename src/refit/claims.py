"""Claims of a report, judged by measurement.

Every predicate becomes one or more tests: a number per seed, and the interval in which the claim
wants its mean. A test supports the claim where the mean lies inside beyond doubt and contradicts it
where it lies outside beyond doubt; the doubt is Student's t over the seeds, and Holm's correction
(1979) keeps the whole experiment's rate of wrong decisions at five percent.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy import stats

from refit import ledger
from refit import predicates as p
from refit.declaration import Declaration, Profile
from refit.runlog import RunLog

LEVEL = 0.05
# Fewer replicates than this show a direction but decide nothing.
FEWEST_SEEDS = 3
MOST_SEEDS = 1000
TIMES = {"seconds", "seconds_per_epoch", "microseconds_per_sample"}
# Numbers that depend on labels and length of training; rankings and differences depend less.
LEVELS = {
    "train_accuracy", "train_loss", "val_accuracy", "val_loss", "best_val_accuracy",
    "min_val_loss", "min_val_loss_epoch", "test_accuracy",
}  # fmt: skip
VERDICTS = (
    "reproduced", "contradicted", "inconclusive", "not comparable", "not run", "undecidable",
)  # fmt: skip
COLUMNS = ["id", "statement", "published", "verdict", "observed", "n", "p", "seeds needed", "note"]


@dataclass(frozen=True)
class Test:
    """What one predicate asks of the measurements: the mean of `values` between `low` and `high`.

    `values` has one number per seed. `label` says in words what was measured.
    """

    label: str
    values: pd.Series
    low: float = -math.inf
    high: float = math.inf

    @property
    def holds(self) -> bool:
        """Whether the observed mean lies where the claim wants it."""
        return self.low <= self.values.mean() <= self.high

    def p_values(self) -> tuple[float, float]:
        """The one-sided p-values against "outside" and against "inside" the interval."""
        above_low = _p_above(self.values, self.low)
        below_high = 1.0 - _p_above(self.values, self.high) if self.high < math.inf else 0.0
        outside = min(1.0 - above_low if self.low > -math.inf else 1.0, 1.0 - below_high)
        return max(above_low, below_high), outside

    def seeds_needed(self) -> int | None:
        """How many seeds would decide, were mean and spread to stay as they are."""
        if len(self.values) < 2:
            return None
        ends = [end for end in (self.low, self.high) if math.isfinite(end)]
        distance = min(abs(self.values.mean() - end) for end in ends)
        spread = self.values.std()
        for count in range(FEWEST_SEEDS, MOST_SEEDS + 1):
            if stats.t.ppf(1 - LEVEL / 2, count - 1) * spread / math.sqrt(count) < distance:
                return count
        return None

    def __str__(self) -> str:
        mean = self.values.mean()
        interval = ""
        if len(self.values) >= FEWEST_SEEDS and self.values.std() > 0:
            half = stats.t.ppf(1 - LEVEL / 2, len(self.values) - 1) * stats.sem(self.values)
            interval = f" [{mean - half:.4g}, {mean + half:.4g}]"
        wanted = " and ".join(
            text
            for text, end in ((f"≥ {self.low:.4g}", self.low), (f"≤ {self.high:.4g}", self.high))
            if math.isfinite(end)
        )
        return f"{self.label}: {mean:.4g}{interval}, claimed {wanted}"


def judge(declaration: Declaration, profile: Profile, log: RunLog) -> pd.DataFrame:
    """One row per claim, in the report's order, with its verdict and what was observed.

    `p` is the two-sided p-value before Holm's correction; `seeds needed` estimates, for an
    inconclusive claim, how many seeds would decide it.
    """
    opened = [_open(claim, declaration, profile, log) for claim in declaration.claims]
    candidates = {
        number: case.p for number, case in enumerate(opened) if case.verdict == "inconclusive"
        and case.p is not None
    }  # fmt: skip
    significant = _holm(candidates)
    rows = []
    for number, (claim, case) in enumerate(zip(declaration.claims, opened, strict=True)):
        verdict = case.verdict
        if number in significant:
            verdict = "reproduced" if case.supported else "contradicted"
        undecided = verdict == "inconclusive"
        rows.append(
            {
                "id": claim.id,
                "statement": claim.statement,
                "published": claim.evidence,
                "verdict": verdict,
                "observed": case.observed,
                "n": case.n,
                "p": case.p,
                "seeds needed": case.seeds_needed if undecided else None,
                "note": _note(claim, case, undecided),
            }
        )
    return pd.DataFrame(rows, columns=COLUMNS).astype({"p": float, "seeds needed": float})


def counts(verdicts: pd.DataFrame) -> pd.DataFrame:
    """How many claims have each verdict."""
    found = verdicts["verdict"].value_counts().reindex(list(VERDICTS), fill_value=0)
    return found.rename_axis("verdict").reset_index(name="claims")


def evaluate(predicate: p.Predicate, log: RunLog, classes: int) -> list[Test]:
    """The tests that a predicate stands for; values are empty where nothing was measured."""
    return _TESTS[type(predicate)](predicate, log, classes)


@dataclass(frozen=True)
class _Case:
    """A claim before Holm's correction: `inconclusive` ones with a `p` may still be decided."""

    verdict: str
    observed: str = ""
    n: int = 0
    p: float | None = None
    supported: bool = False
    seeds_needed: int | None = None
    reason: str = ""


def _open(claim: p.Claim, declaration: Declaration, profile: Profile, log: RunLog) -> _Case:
    if claim.undecidable:
        return _Case("undecidable", reason=claim.undecidable)
    tests: list[Test] = []
    barred = ""
    for predicate in claim.holds:
        reason = _incomparable(predicate, profile, log)
        if reason:
            barred = reason
        else:
            tests += evaluate(predicate, log, declaration.classes)
    n = min((len(test.values) for test in tests), default=0)
    if tests and n == 0:
        return _Case("not run")
    observed = "; ".join(map(str, tests))
    timing = _timing(claim, log)
    supported = all(test.holds for test in tests)
    needed = [test.seeds_needed() for test in tests]
    decided_by = None if None in needed or not needed else max(needed)
    p_value = None
    if tests and n >= FEWEST_SEEDS and not timing:
        pairs = [test.p_values() for test in tests]
        for_claim = max(support for support, _ in pairs)
        against = min(1.0, len(pairs) * min(contradiction for _, contradiction in pairs))
        p_value = min(1.0, 2 * min(for_claim, against))
        supported = for_claim < against
    if barred and (p_value is None or supported):
        # The comparable part may refute a claim, but cannot bear out the whole of it.
        return _Case("not comparable", observed, n, reason=barred)
    return _Case("inconclusive", observed, n, p_value, supported, decided_by, timing)


def _incomparable(predicate: p.Predicate, profile: Profile, log: RunLog) -> str:
    """Why a predicate cannot be held against the report; empty if it can."""
    trials = _trials(predicate, log)
    absolute = isinstance(predicate, p.Value | p.Share) and predicate.metric in LEVELS
    if reason := ledger.incomparable(profile, log, trials, absolute):
        return reason
    rows = log.done[log.done["trial"].isin(trials)]
    shares = (rows["planned_epochs"] / rows["published_epochs"]).round(2)
    timed = isinstance(predicate, p.Minimum) or predicate.epochs is not None
    if timed and (shares < 1).any():
        return "fewer epochs than published"
    if predicate.metric == "seconds" and shares.nunique() > 1:
        return "epochs were cut by different shares"
    return ""


def _timing(claim: p.Claim, log: RunLog) -> str:
    """Why the times at hand cannot decide a claim about times; empty if they can."""
    for predicate in claim.holds:
        if predicate.metric in TIMES:
            rows = log.done[log.done["trial"].isin(_trials(predicate, log))]
            if (most := rows["workers"].max()) > 1:
                return f"times were measured while {most:.0f} trainings shared the machine"
    return ""


def _trials(predicate: p.Predicate, log: RunLog) -> list[str]:
    selected = [
        name
        for field in ("a", "b", "trial")
        if isinstance(selection := getattr(predicate, field, None), p.Selection)
        for name in log.select(selection)
    ]
    return [*predicate.trial_names(), *selected]


def _note(claim: p.Claim, case: _Case, undecided: bool) -> str:
    notes = [case.reason]
    if undecided and not case.reason:
        side = "for" if case.supported else "against"
        seeds = f"{case.n} seed{'s' if case.n != 1 else ''}"
        notes.append(f"{seeds}: observed {side} the claim, but not beyond doubt")
    if claim.contradicted_by_report:
        notes.append("the report's own numbers speak against it")
    notes.append(claim.note)
    return ". ".join(note.rstrip(".") for note in notes if note)


def _holm(candidates: dict[int, float]) -> set[int]:
    """The keys whose p-values are significant together, by Holm's step-down procedure."""
    significant = set()
    ordered = sorted(candidates.items(), key=lambda item: item[1])
    for rank, (key, value) in enumerate(ordered):
        if value > LEVEL / (len(ordered) - rank):
            break
        significant.add(key)
    return significant


def _p_above(values: pd.Series, bound: float) -> float:
    """The p-value against a mean at or below `bound`; without spread, 0 or 1 by where it lies."""
    if bound == -math.inf:
        return 0.0
    if bound == math.inf:
        return 1.0
    if not np.isfinite(values).all() or values.std() == 0:
        return 0.0 if values.mean() >= bound else 1.0
    return float(stats.ttest_1samp(values, bound, alternative="greater").pvalue)


# --- from predicates to tests ------------------------------------------------------------------


def _measure(trial: p.Trials, predicate: p.Predicate, log: RunLog) -> pd.Series:
    return log.measure(trial, predicate.metric, predicate.epochs, predicate.statistic)


def _pair(a: p.Trials, b: p.Trials, predicate: p.Predicate, log: RunLog) -> pd.DataFrame:
    """The values of two trials side by side, for the seeds that both have."""
    sides = {"a": _measure(a, predicate, log), "b": _measure(b, predicate, log)}
    return pd.DataFrame(sides, dtype=float).dropna()


def _minus(a: p.Trials, b: p.Trials) -> str:
    return f"{ledger.describe_trial(a)} − {ledger.describe_trial(b)}"


def _bounds(predicate: p.Bounded) -> tuple[float, float]:
    low, high = predicate.low, predicate.high
    return (-math.inf if low is None else low), (math.inf if high is None else high)


def _greater(claim: p.Greater, log: RunLog, classes: int) -> list[Test]:
    pair = _pair(claim.a, claim.b, claim, log)
    return [Test(f"{_minus(claim.a, claim.b)}, {claim.metric}", pair["a"] - pair["b"], claim.by)]


def _difference(claim: p.Difference, log: RunLog, classes: int) -> list[Test]:
    pair = _pair(claim.a, claim.b, claim, log)
    label = f"{_minus(claim.a, claim.b)}, {claim.metric}"
    return [Test(label, pair["a"] - pair["b"], *_bounds(claim))]


def _ratio(claim: p.Ratio, log: RunLog, classes: int) -> list[Test]:
    pair = _pair(claim.a, claim.b, claim, log)
    names = f"{ledger.describe_trial(claim.a)} / {ledger.describe_trial(claim.b)}"
    return [Test(f"{names}, {claim.metric}", pair["a"] / pair["b"], *_bounds(claim))]


def _value(claim: p.Value, log: RunLog, classes: int) -> list[Test]:
    label = f"{ledger.describe_trial(claim.trial)}, {claim.metric}"
    return [Test(label, _measure(claim.trial, claim, log), *_bounds(claim))]


def _order(claim: p.Order, log: RunLog, classes: int) -> list[Test]:
    trials = claim.trials if claim.direction == "descending" else claim.trials[::-1]
    tests = []
    for upper, lower in pairwise(trials):
        pair = _pair(upper, lower, claim, log)
        tests.append(Test(f"{_minus(upper, lower)}, {claim.metric}", pair["a"] - pair["b"], 0.0))
    return tests


def _best(claim: p.Best, log: RunLog, classes: int) -> list[Test]:
    frame = pd.DataFrame(
        {trial: _measure(trial, claim, log) for trial in claim.among}, dtype=float
    ).dropna()
    frame = -frame if claim.smallest else frame
    others = [trial for trial in claim.among if trial not in claim.winners]
    lead = frame[claim.winners].max(axis=1) - frame[others].max(axis=1)
    return [Test(f"lead of {' or '.join(claim.winners)}, {claim.metric}", lead, 0.0)]


def _growing(claim: p.Growing, log: RunLog, classes: int) -> list[Test]:
    tests = []
    for first, second in pairwise(claim.pairs):
        before, after = (_pair(*pair, claim, log) for pair in (first, second))
        growth = ((after["a"] - after["b"]) - (before["a"] - before["b"])).dropna()
        label = f"({_minus(*second)}) − ({_minus(*first)}), {claim.metric}"
        tests.append(Test(label, growth, 0.0))
    return tests


def _curves(claim: p.Predicate, log: RunLog) -> pd.DataFrame:
    """The predicate's part of a trial's curve, one column per seed that has all of it."""
    curve = log.curve(claim.trial, claim.metric)  # type: ignore[attr-defined]
    if claim.epochs:
        curve = curve[(curve.index >= claim.epochs[0]) & (curve.index <= claim.epochs[1])]
    return curve.dropna(axis=1)


def _trend(claim: p.Trend, log: RunLog, classes: int) -> list[Test]:
    curve = _curves(claim, log)
    epochs = curve.index.to_numpy(float)
    enough = len(epochs) > 1 and len(curve.columns)
    slopes = np.polyfit(epochs, curve.to_numpy(), 1)[0] if enough else []
    change = pd.Series(slopes, index=curve.columns if enough else [], dtype=float)
    change = change * (np.ptp(epochs) if enough else 0)
    low, high = {
        "rising": (claim.by, math.inf),
        "falling": (-math.inf, -claim.by),
        "flat": (-claim.by, claim.by),
        "not rising": (-math.inf, claim.by),
    }[claim.direction]
    return [Test(f"change of {claim.trial}, {claim.metric}", change, low, high)]


def _minimum(claim: p.Minimum, log: RunLog, classes: int) -> list[Test]:
    curve = _curves(claim, log)
    lowest = curve.idxmin().astype(float) if len(curve) else pd.Series(dtype=float)
    rise = curve.iloc[-1] - curve.min() if len(curve) else pd.Series(dtype=float)
    first, last = claim.between
    return [
        Test(f"epoch of the minimum of {claim.trial}, {claim.metric}", lowest, first, last),
        Test(f"rise of {claim.trial} from its minimum, {claim.metric}", rise, claim.rise),
    ]


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
    p.Trend: _trend,
    p.Minimum: _minimum,
    p.Share: _share,
    p.LargestRise: _largest_rise,
    p.Chance: _chance,
    p.Diverges: _diverges,
}
