"""Claims of a report, judged by measurement.

Every part of a claim becomes an interval test. A claim is reproduced where all of its parts lie
where it wants them, contradicted where one of them lies outside, each beyond doubt. Of the
verdicts on one experiment about one in twenty may be wrong: Benjamini, Y. & Hochberg, Y. (1995).
Controlling the false discovery rate. Journal of the Royal Statistical Society B 57(1), 289-300.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd
import scipy  # whose parts are imported where they are used, which most commands never do

from refit.experiments import predicates as p
from refit.experiments.declaration import Declaration
from refit.run_directory.log import RunLog
from refit.verdicts import scope, words
from refit.verdicts.contrasts import evaluate, names
from refit.verdicts.interval_tests import FEWEST_SEEDS, LEVEL, IntervalTest, Outcome, outcomes

# `low` and `high` are what the claim wants, `interval_` a 95 % interval of the estimate; all of
# these, `n`, `unit`, the `kind` of number and whether the ends are `strict` are of the part that
# decides, and so is what a difference is between, `a` and `b`; numbers on the `scale` % or points
# are kept as fractions. `p` is two-sided.
COLUMNS = [
    "id", "weight", "quote", "place", "statement", "scope", "verdict", "small_scale", "estimate",
    "low", "high", "strict", "interval_low", "interval_high", "metric", "kind", "scale", "a", "b",
    "n", "unit", "seeds_declared", "p", "q", "reason", "note", "trials", "observed",
]  # fmt: skip
SIZED = "how large it is takes the published training"
NUMBERS = ("estimate", "low", "high", "interval_low", "interval_high", "n", "p", "q")


def judge(declaration: Declaration, profile: str, log: RunLog) -> pd.DataFrame:
    """One row per claim, in the report's order, with its verdict and what was observed.

    `verdict` is about the report, which only trainings as published can earn; `small_scale` is
    what others look like. `q` is p corrected for the number of claims.
    """
    cases = [_open(claim, declaration, profile, log) for claim in declaration.claims]
    ready = [part for case in cases for part in case.doubtful]
    # Tested together, so that each learns of the others' spread.
    for part, outcome in zip(ready, outcomes([part.test for part in ready]), strict=True):
        part.outcome = outcome
    candidates = [number for number, case in enumerate(cases) if case.p is not None]
    p_values = [cases[number].p for number in candidates]
    corrected = scipy.stats.false_discovery_control(p_values) if candidates else []
    q_values = dict(zip(candidates, map(float, corrected), strict=True))
    rows = [_row(case, q_values.get(number)) for number, case in enumerate(cases)]
    name = names(declaration)
    frame = pd.DataFrame(rows, columns=COLUMNS).astype(dict.fromkeys(NUMBERS, float))
    told = ("a", "b", "observed")
    return frame.assign(**{text: frame[text].map(name, na_action="ignore") for text in told})


def waiting(verdicts: pd.DataFrame, log: RunLog) -> dict[str, int]:
    """How many claims wait for trainings of each sweep, be it for these alone or for others too."""
    undecided = verdicts["verdict"].eq(words.INCONCLUSIVE) | verdicts["reason"].eq(words.COMPUTING)
    told = [set(names.split(", ")) for names in verdicts.loc[undecided, "trials"]]
    missing = log.results[log.results["status"] != "done"].groupby("sweep")["trial"].agg(set)
    return {
        sweep: sum(not names.isdisjoint(lacking) for names in told)
        for sweep, lacking in missing.items()
    }


@dataclass
class _Part:
    """One test of a claim. `barrier` says why it tells nothing about the report, `open` what is
    missing until it may decide, else `outcome` what it says; `seeds` were declared for its trials.
    """

    test: IntervalTest
    scope: str
    seeds: int | None = None
    barrier: str = ""
    open: str = ""
    outcome: Outcome = Outcome()  # noqa: RUF009 - it is frozen

    @property
    def ready(self) -> bool:
        return not self.barrier and not self.open


@dataclass(frozen=True)
class _Case:
    claim: p.Claim
    parts: Sequence[_Part] = ()

    @property
    def ready(self) -> list[_Part]:
        return [part for part in self.parts if part.ready]

    @property
    def against(self) -> list[_Part]:
        """The parts that may decide and lie outside what the claim wants."""
        return [part for part in self.ready if not part.test.holds]

    @property
    def is_measured(self) -> bool:
        return any(part.test.n and not part.barrier for part in self.parts)

    @property
    def complete(self) -> bool:
        return bool(self.parts) and len(self.ready) == len(self.parts)

    @property
    def doubtful(self) -> list[_Part]:
        """The parts that are decided by a test, not by a single count."""
        return [part for part in self.ready if not part.test.is_exact]

    @property
    def p(self) -> float | None:
        """The two-sided p-value; None where nothing can be decided, or a count decides.

        All parts must bear a claim out, so the weakest counts; against it the strongest does, which
        of k parts is so by chance k times as often.
        """
        if any(part.test.is_exact for part in self.against):
            return None
        if self.against:
            strongest = min(part.outcome.outside for part in self.doubtful)
            return min(1.0, 2 * len(self.doubtful) * strongest)
        if not self.complete or not self.doubtful:
            return None
        return min(1.0, 2 * max(part.outcome.inside for part in self.doubtful))

    @property
    def shown(self) -> _Part | None:
        """The part that decides, or would; else one that was measured."""
        if self.against:
            return min(
                self.against, key=lambda part: (not part.test.is_exact, part.outcome.outside)
            )
        order = sorted(self.parts, key=lambda part: (not part.ready, not part.test.n))
        among = [part for part in order if part.ready] or order[:1]
        return max(among, key=lambda part: part.outcome.inside, default=None)


def _open(claim: p.Claim, declaration: Declaration, profile: str, log: RunLog) -> _Case:
    """Measure a claim; every part says what keeps it from deciding."""
    parts = [_part(evaluate(each, log), declaration, profile, log) for each in claim.holds]
    if claim.undecidable and claim.undecidable.needs not in p.OBTAINABLE:
        barrier = words.NEEDS[claim.undecidable.needs]
        parts = [replace(part, barrier=barrier) for part in parts]
    return _Case(claim, parts)


def _part(test: IntervalTest, declaration: Declaration, profile: str, log: RunLog) -> _Part:
    rows = log.declared(test.trials)
    where = scope.scope_of(profile, rows)
    if not declaration.profiles[profile].comparable:
        return _Part(test, "", barrier=words.EMBEDDED)
    sweeps = [declaration.sweeps[name] for name in set(rows["sweep"])]
    seeds = min((sweep.replicates(profile) for sweep in sweeps), default=None)
    if where == words.AS_PUBLISHED and test.unit == "seed" and not test.is_exact:
        # As many as were declared, so that nobody goes on until a claim is decided.
        test = replace(test, values=test.values.sort_index().iloc[:seeds])
    test = replace(test, resolution=scope.resolution(test, rows))
    barrier = scope.barrier(test, declaration, rows)
    return _Part(test, where, seeds, barrier, _missing(test, where, seeds, rows))


def _missing(test: IntervalTest, where: str, seeds: int | None, rows: pd.DataFrame) -> str:
    """What a part lacks before it may decide; empty where it may."""
    if test.n == 0:
        return words.COMPUTING
    if test.is_exact:
        return ""
    if where == words.AT_SMALL_SCALE:
        if test.is_sized:
            return SIZED
    elif test.unit == "seed":
        return f"{test.n} of {seeds} seeds" if test.n < max(seeds or 0, FEWEST_SEEDS) else ""
    else:
        done, declared = rows[rows["status"] == "done"]["trial"].nunique(), rows["trial"].nunique()
        if done < declared:
            return f"{done} of {declared} trainings"
    return f"only {test.n} {test.unit}{'s' * (test.n > 1)}" if test.n < FEWEST_SEEDS else ""


def _row(case: _Case, q_value: float | None) -> dict[str, object]:
    claim, part = case.claim, case.shown
    scopes = {each.scope for each in case.parts} - {""}
    where = next(iter(scopes)) if len(scopes) == 1 else words.AT_SMALL_SCALE if scopes else ""
    decided = _decided(case, q_value)
    verdict, reason = _verdict(case, where, decided, q_value)
    small = {True: words.LIKE, False: words.UNLIKE, None: words.UNCLEAR}[decided]
    facts = {
        "id": claim.id, "weight": claim.weight, "quote": claim.quote, "place": claim.place,
        "statement": claim.statement, "scope": where, "verdict": verdict,
        "small_scale": small if where == words.AT_SMALL_SCALE and case.is_measured else "",
        "p": case.p, "q": q_value, "reason": reason, "note": _note(case),
        "trials": ", ".join(dict.fromkeys(sum((each.test.trials for each in case.parts), ()))),
        "observed": "; ".join(str(each.test) for each in case.parts if each.test.n),
    }  # fmt: skip
    if part is None or not part.test.n:
        return facts | {"seeds_declared": part.seeds if part else None}
    test, outcome = part.test, part.outcome
    names = ("estimate", "low", "high", "strict", "metric", "kind", "scale", "n", "unit")
    facts |= {name: getattr(test, name) for name in names} | dict(
        zip("ab", test.sides, strict=True)
    )
    ends = {"interval_low": outcome.low, "interval_high": outcome.high}
    return facts | ends | {"seeds_declared": part.seeds}


def _decided(case: _Case, q_value: float | None) -> bool | None:
    """Whether a claim holds, or not, beyond doubt; None where that is open."""
    if q_value is None:
        exact = any(part.test.is_exact for part in case.against)
        return False if exact else True if case.complete and not case.against else None
    return not case.against if q_value <= LEVEL else None


def _verdict(
    case: _Case, where: str, decided: bool | None, q_value: float | None
) -> tuple[str, str]:
    """The verdict about the report, and why there is none."""
    if where == words.AS_PUBLISHED and decided is not None:
        return (words.REPRODUCED if decided else words.CONTRADICTED), ""
    needs = case.claim.undecidable.needs if case.claim.undecidable else ""
    barriers = [part.barrier for part in case.parts if part.barrier]
    if barriers or not case.parts:
        return words.NOT_JUDGED, barriers[0] if barriers else words.NEEDS[needs]
    if where == words.AT_SMALL_SCALE or not all(part.test.n for part in case.parts):
        return words.NOT_JUDGED, words.NEEDS[needs] if needs else words.COMPUTING
    uncertain = f"not certain enough: q is {q_value:.2g}, {LEVEL} is needed" if q_value else ""
    return words.INCONCLUSIVE, next((part.open for part in case.parts if part.open), uncertain)


def _note(case: _Case) -> str:
    claim, notes = case.claim, []
    if claim.undecidable:
        notes.append(claim.undecidable.why)
    if len(case.parts) > 1:
        weakest = "the one that lies farthest outside" if case.against else "the weakest"
        notes.append(f"{len(case.parts)} parts, of which {weakest} is shown")
    if claim.contradicted_by_report:
        notes.append("the report's own numbers speak against it")
    notes += [SIZED] * any(part.open == SIZED for part in case.parts) + [claim.note]
    notes += [f"Changed on {change.date}: {change.why}" for change in claim.changed]
    return ". ".join(note.rstrip(".") for note in notes if note)
