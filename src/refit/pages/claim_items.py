"""Claims as a reader meets them: a verdict in plain words, one sentence of evidence, a picture.

The colours of verdicts and their verbs are here and nowhere else, and their names in
`refit.verdicts.words`, so that index, summary, claims and conclusion say and show the same.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from refit.verdicts import words

# Verdict -> tone, which names the colour; what one claim does, and several.
WORDS = {
    words.REPRODUCED: ("yes", "holds", "hold"),
    words.CONTRADICTED: ("no", "does not hold", "do not hold"),
    words.INCONCLUSIVE: ("open", "stays open", "stay open"),
    words.LIKE: ("yes", "looks like the report", "look like the report"),
    words.UNLIKE: ("no", "looks unlike it", "look unlike it"),
    words.UNCLEAR: ("open", "is unclear", "are unclear"),
    words.NOT_JUDGED: ("none", "is not judged here", "are not judged here"),
}
# More comparisons than this bury the claim that they are about.
MOST_COMPARISONS = 6


@dataclass(frozen=True)
class Interval:
    """Where a picture of an estimate puts what: shares of its width in percent, and labels.

    `band` (start, width) is what was claimed, `bar` the same of our interval, `dot` our estimate.
    """

    band: tuple[float, float]
    bar: tuple[float, float] | None
    dot: float
    claimed: str
    measured: str


@dataclass(frozen=True)
class ClaimItem:
    """One claim of a report. `verdict` is a key of WORDS; texts are plain, not yet escaped."""

    id: str
    weight: str
    quote: str
    place: str
    statement: str
    verdict: str
    evidence: str
    comparisons: Sequence[str]
    comparison_count: int
    replicates: str
    statistics: Sequence[tuple[str, str]]
    reason: str
    note: str
    trials: Sequence[str]
    interval: Interval | None
    certainty: float

    @property
    def tone(self) -> str:
        return WORDS[self.verdict][0]

    @property
    def word(self) -> str:
        return (words.CLAIMS | words.SMALL_SCALE)[self.verdict]

    @property
    def at_small_scale(self) -> bool:
        return self.verdict in words.SMALL_SCALE


@dataclass(frozen=True)
class Share:
    """How many claims have one verdict, as a part of the stacked bar."""

    tone: str
    word: str
    count: int


def items(verdicts: pd.DataFrame) -> list[ClaimItem]:
    """The claims of a table of verdicts: headlines first, else in the report's order."""
    rows = verdicts.astype(object).where(verdicts.notna(), None).to_dict("records")
    found = [_item(row) for row in rows]
    return sorted(found, key=lambda item: item.weight != "headline")


def shares(verdicts: Iterable[str]) -> list[Share]:
    """How many claims have each verdict, in the order of WORDS, without those that none has."""
    counts = pd.Series(list(verdicts), dtype=object).value_counts()
    return [
        Share(tone, one if counts[name] == 1 else many, int(counts[name]))
        for name, (tone, one, many) in WORDS.items()
        if name in counts
    ]


def sentence(verdicts: Sequence[str]) -> str:
    """The verdicts in one sentence: "Of 51 claims 12 hold and 3 do not hold; 36 stay open"."""
    if set(verdicts) == {words.NOT_JUDGED}:
        return f"None of {len(verdicts)} claims is judged here."
    decided, rest = [], []
    for share in shares(verdicts):
        (decided if share.tone in ("yes", "no") else rest).append(f"{share.count} {share.word}")
    parts = [part for part in (" and ".join(decided), ", ".join(rest)) if part]
    start = "At small scale, of" if set(verdicts) & set(words.SMALL_SCALE) else "Of"
    return f"{start} {len(verdicts)} claims {'; '.join(parts)}."


def _item(row: dict[str, Any]) -> ClaimItem:
    small = row["verdict"] == words.NOT_JUDGED and row["small_scale"] in words.SMALL_SCALE
    comparisons, count = _comparisons(row)
    return ClaimItem(
        id=str(row["id"]),
        weight=row["weight"] or "detail",
        quote=row["quote"] or "",
        place=row["place"] or "",
        statement=row["statement"] or "",
        verdict=row["small_scale"] if small else row["verdict"],
        evidence=_evidence(row),
        comparisons=comparisons,
        comparison_count=count,
        replicates=_replicates(row),
        statistics=_statistics(row),
        reason=row["reason"] or "",
        note=row["note"] or "",
        trials=[name.strip() for name in (row["trials"] or "").split(",") if name.strip()],
        interval=_interval(row),
        certainty=row["q"] if row["q"] is not None else 1.0,
    )


def _evidence(row: dict[str, Any]) -> str:
    """What was measured, in a sentence; empty where nothing was."""
    if row["estimate"] is None:
        return ""
    text = f"Measured {amount(row['estimate'])}"
    if row["interval_low"] is not None:
        text += f" [{amount(row['interval_low'])}, {amount(row['interval_high'])}]"
    return f"{text}, claimed {_wanted(row)} ({_replicates(row)})"


def _comparisons(row: dict[str, Any]) -> tuple[Sequence[str], int]:
    """The first of all comparisons of a claim, and how many there are."""
    parts = (row["observed"] or "").split("; ")
    return parts[:MOST_COMPARISONS], len(parts)


def _statistics(row: dict[str, Any]) -> list[tuple[str, str]]:
    """What a statistician asks for, by name, without what was not computed."""
    facts = {"estimate": row["estimate"], "q": row["q"], "p": row["p"]}
    found = [(name, amount(value)) for name, value in facts.items() if value is not None]
    if row["interval_low"] is not None:
        ends = f"{amount(row['interval_low'])} to {amount(row['interval_high'])}"
        found.insert(1, ("95 % interval", ends))
    return [*found, ("n", _replicates(row))] if row["n"] else found


def _replicates(row: dict[str, Any]) -> str:
    count, unit = int(row["n"] or 0), row["unit"] or "seed"
    if unit == "seed" and row["seeds_declared"] and count < row["seeds_declared"]:
        return f"{count} of {int(row['seeds_declared'])} seeds"
    return f"{count} {unit}{'s' * (count != 1 and not unit.endswith('s'))}"


def _wanted(row: dict[str, Any]) -> str:
    low, high = row["low"], row["high"]
    if low is None or not math.isfinite(low):
        return "any" if high is None or not math.isfinite(high) else f"below {amount(high)}"
    if high is None or not math.isfinite(high):
        return f"above {amount(low)}"
    return f"{amount(low)} to {amount(high)}"


def _interval(row: dict[str, Any]) -> Interval | None:
    """The picture of an estimate; None where nothing finite was measured."""
    numbers = [row[name] for name in ("estimate", "interval_low", "interval_high", "low", "high")]
    finite = [n for n in numbers if n is not None and math.isfinite(n)]
    if row["estimate"] is None or not math.isfinite(row["estimate"]) or len(finite) < 2:
        return None
    estimate, low, high, wanted_low, wanted_high = numbers
    span = (max(finite) - min(finite)) or abs(finite[0]) or 1.0
    first, width = min(finite) - 0.25 * span, 1.5 * span

    def place(value: float | None, otherwise: float) -> float:
        inside = value is not None and math.isfinite(value)
        return round(100 * (value - first) / width, 2) if inside else otherwise  # type: ignore[operator]

    start, end = place(wanted_low, 0.0), place(wanted_high, 100.0)
    bar = None
    if low is not None and high is not None:
        left, right = place(low, 0.0), place(high, 100.0)
        bar = (left, round(right - left, 2))
    measured = amount(estimate)
    if bar:
        measured += f" [{amount(low)}, {amount(high)}]"
    band = (start, round(end - start, 2))
    return Interval(band, bar, place(estimate, 50.0), _wanted(row), measured)


def amount(value: float) -> str:
    """A number as a reader wants it: three digits, whole ones in full, small ones as 1e-06."""
    if isinstance(value, int) or (math.isfinite(value) and value == int(value)):
        return f"{int(value):,d}"
    return f"{value:,.0f}" if 1000 <= abs(value) < math.inf else f"{value:.3g}"
