"""Claims of a report, judged by measurement.

Every claim becomes one or more tests: a number per seed, and the interval in which the claim wants
its mean. It is reproduced where all means lie inside beyond doubt and contradicted where one of
them lies outside beyond doubt. Holm's correction (1979) keeps the whole experiment's rate of wrong
decisions at five percent.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from refit.experiments import predicates as p
from refit.experiments.declaration import Declaration, Profile
from refit.experiments.metrics import METRICS
from refit.run_directory.log import RunLog
from refit.verdicts import ledger
from refit.verdicts.contrasts import evaluate
from refit.verdicts.interval_tests import FEWEST_SEEDS, LEVEL, IntervalTest

PACES = {"seconds_per_epoch", "train_seconds", "microseconds_per_sample"}
# Processor times are not among them: what else the machine does changes them little.
TIMES = {"seconds", "total_seconds", "minutes", "seconds_to_target"} | PACES
# Numbers that depend on labels and length of training; rankings and differences depend less.
LEVELS = {
    "train_accuracy", "train_loss", "val_accuracy", "val_loss", "best_val_accuracy",
    "evaluated_train_accuracy", "evaluated_train_loss", "min_train_loss", "learned",
    "train_cross_entropy", "val_cross_entropy", "train_loss_at_best_val_accuracy",
    "train_accuracy_at_best_val_accuracy", "val_loss_at_best_val_accuracy",
    "train_loss_at_min_val_loss", "best_val_accuracy_epoch",
    "min_val_loss", "min_val_loss_epoch", "test_accuracy", "mean_batch_test_accuracy",
    "val_accuracy_before_fine_tuning",
}  # fmt: skip
VERDICTS = (
    "reproduced", "contradicted", "inconclusive", "not comparable", "not run", "undecidable",
)  # fmt: skip
COLUMNS = ["id", "statement", "published", "verdict", "observed", "n", "p", "seeds needed", "note"]


def judge(declaration: Declaration, profile: Profile, log: RunLog) -> pd.DataFrame:
    """One row per claim, in the report's order, with its verdict and what was observed.

    `p` is the two-sided p-value before Holm's correction; `seeds needed` estimates, for an
    inconclusive claim, how many seeds would decide it.
    """
    opened = [_open(claim, profile, log) for claim in declaration.claims]
    candidates = {number: case.p for number, case in enumerate(opened) if case.p is not None}
    significant = _holm(candidates)
    # What Holm's procedure asks of the next claim.
    level = LEVEL / max(1, len(candidates) - len(significant))
    rows = []
    for number, (claim, case) in enumerate(zip(declaration.claims, opened, strict=True)):
        verdict = case.verdict
        if number in significant:
            verdict = "reproduced" if case.supported else "contradicted"
        undecided = verdict == "inconclusive" and not case.reason
        rows.append(
            {
                "id": claim.id,
                "statement": claim.statement,
                "published": claim.quote,
                "verdict": verdict,
                "observed": case.observed,
                "n": case.n,
                "p": case.p,
                "seeds needed": case.seeds_needed(level) if undecided else None,
                "note": _note(claim, case, verdict),
            }
        )
    return pd.DataFrame(rows, columns=COLUMNS).astype({"p": float, "seeds needed": float})


def counts(verdicts: pd.DataFrame) -> pd.DataFrame:
    """How many claims have each verdict."""
    found = verdicts["verdict"].value_counts().reindex(list(VERDICTS), fill_value=0)
    return found.rename_axis("verdict").reset_index(name="claims")


@dataclass(frozen=True)
class _Case:
    """A claim before Holm's correction: its verdict if nothing is significant, else its side.

    Without `p` nothing can be decided; `reason` says what keeps the whole claim from being so.
    """

    verdict: str
    tests: Sequence[IntervalTest] = ()
    n: int = 0
    p: float | None = None
    reason: str = ""

    @property
    def observed(self) -> str:
        return "; ".join(str(test) for test in self.tests if len(test.values))

    @property
    def replicates(self) -> str:
        """How many of what: seeds, or whatever else the part with the fewest has."""
        fewest = next(test for test in self.tests if len(test.values) == self.n)
        return f"{self.n} {fewest.unit}{'s' if self.n != 1 else ''}"

    @property
    def supported(self) -> bool:
        return all(test.holds for test in self.tests)

    def seeds_needed(self, level: float) -> int | None:
        """Every part must be decided for the claim, or the easiest one against it."""
        if self.supported:
            needed = [test.seeds_needed(level) for test in self.tests]
            return None if None in needed else max(needed)
        # Against a claim of k parts, each part is tested at a k-th of the level.
        level /= len(self.tests)
        needed = [test.seeds_needed(level) for test in self.tests if not test.holds]
        return min((count for count in needed if count), default=None)


def _open(claim: p.Claim, profile: Profile, log: RunLog) -> _Case:
    """Measure a claim. All its parts are needed to bear it out; any of them may refute it."""
    if claim.undecidable and not claim.holds:
        return _Case("undecidable", reason=claim.undecidable.why)
    tests: list[IntervalTest] = []
    deciding: list[IntervalTest] = []
    barred = shared = ""
    for predicate in claim.holds:
        rows = log.rows(_trials(predicate, log))
        if reason := _incomparable(predicate, profile, rows):
            barred = reason
            if reason in (ledger.alteration(rows), ledger.DEMONSTRATION):
                # Worth seeing, as what another training or other data do; it decides nothing.
                tests.append(evaluate(predicate, log))
            continue
        found = [evaluate(predicate, log)]
        if _never_differed(found, rows):
            barred = "in trainings cut this short, the two never came to differ"
            continue
        tests += found
        if reason := _timing(predicate, rows):
            shared = reason
        else:
            deciding += [test for test in found if len(test.values) >= FEWEST_SEEDS]
    n = min((len(test.values) for test in tests), default=0)
    p_value = None
    if not all(test.holds for test in deciding):
        n = min(len(test.values) for test in deciding)
        p_value = min(1.0, 2 * len(deciding) * min(test.p_values()[1] for test in deciding))
    elif deciding and len(deciding) == len(tests) and not barred:
        p_value = min(1.0, 2 * max(test.p_values()[0] for test in deciding))
    verdict = "not comparable" if barred else "inconclusive" if n else "not run"
    return _Case(verdict, tests, n, p_value, barred or shared)


def _incomparable(predicate: p.Predicate, profile: Profile, rows: pd.DataFrame) -> str:
    """Why a predicate cannot be held against the report; empty if it can."""
    leveled = isinstance(predicate, p.Value | p.Share | p.Confuses)
    absolute = leveled and predicate.metric in LEVELS
    if reason := ledger.incomparable(profile, rows, absolute):
        return reason
    if rows.empty:
        return ""
    if reason := ledger.alteration(rows):
        return reason
    for subject in predicate.subjects():
        thinned = isinstance(subject, p.Selection) and subject.take != "mean" and subject.sweep
        if thinned and profile.sweeps.get(subject.sweep, profile.cut).grid:
            return "the best of a grid takes the whole grid"
    planned, published = rows["planned_epochs"], rows["published_epochs"]
    shortened = (planned < published).any()
    less = shortened or any(ledger.flagged(rows, flag) for flag in ("cut", "altered"))
    if _sized(predicate) and less:
        return "how large an effect is takes the published training; a cut one shows its sign"
    # What happens at an epoch, or not before the end, takes the whole training to see; with fewer
    # images an epoch has fewer steps.
    timed = predicate.epochs is not None or METRICS[predicate.metric] == "epoch"
    if timed and shortened:
        return "fewer epochs than published"
    if timed and ledger.flagged(rows, "cut"):
        return "fewer images than published"
    if not shortened:
        return ""
    if predicate.metric in {*PACES, "processor_seconds"} or METRICS[predicate.metric] == "count":
        return ""
    # Cutting rounds up, so that every trial allows a range of shares; one must fit all.
    uneven = ((planned - 1) / published).max() >= (planned / published).min()
    summed = predicate.metric in ("seconds", "total_seconds")
    if uneven or (summed and (planned / published).round(2).nunique() > 1):
        return "epochs were cut by different shares"
    return ""


def _never_differed(tests: Sequence[IntervalTest], rows: pd.DataFrame) -> bool:
    """Whether a cut training ended before what is compared, such as a callback, could act.

    Then some trainings are one and the same; accuracies on few images may be equal by chance, and
    losses are not.
    """
    cut = (rows["planned_epochs"] < rows["published_epochs"]).any() if len(rows) else False
    losses = [name for name in ("train_loss", "val_loss") if name in rows]
    same = rows.duplicated(["seed", *losses]).any() if losses else True
    return (
        cut
        and same
        and any(
            test.strict and len(test.values) and (test.values == test.low).all() for test in tests
        )
    )


def _sized(predicate: p.Predicate) -> bool:
    """Whether a predicate asks how large something is, not only which way it goes."""
    if predicate.metric in TIMES or METRICS[predicate.metric] == "count":
        return False
    if isinstance(predicate, p.Comparison | p.Effect) and predicate.kind != "ratio":
        return {predicate.low, predicate.high} - {None, 0.0} != set()
    return isinstance(predicate, p.Value | p.Confuses | p.Repeats)


def _timing(predicate: p.Predicate, rows: pd.DataFrame) -> str:
    """Why the times at hand cannot decide a predicate about times; empty if they can."""
    if predicate.metric in TIMES and len(rows) and (most := rows["workers"].max()) > 1:
        return f"times were measured while {most:.0f} trainings shared the machine"
    timed = predicate.metric in TIMES or predicate.metric.startswith("processor_seconds")
    if timed and "machine" in rows and (machines := rows["machine"].nunique()) > 1:
        return f"times were measured on {machines} different machines"
    return ""


def _trials(predicate: p.Predicate, log: RunLog) -> list[str]:
    return [
        name
        for subject in predicate.subjects()
        for name in ([subject] if isinstance(subject, str) else log.select(subject))
    ]


def _note(claim: p.Claim, case: _Case, verdict: str) -> str:
    notes = [case.reason]
    if verdict == "contradicted" and case.reason:
        notes = [f"refuted by a part of it; of the rest: {case.reason}"]
    elif verdict == "inconclusive" and not case.reason:
        side = "for" if case.supported else "against"
        notes.append(f"{case.replicates}: observed {side} the claim, but not beyond doubt")
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
