"""Claims as a reader meets them: a verdict in plain words, one sentence of evidence, a picture.

The colours of verdicts and their verbs are here and nowhere else, and their names in
`refit.verdicts.words`, so that index, summary, claims and conclusion say and show the same.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from refit.experiments.metrics import METRICS
from refit.figures.labels import amount, label
from refit.verdicts import words
from refit.verdicts.interval_tests import PERCENT

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


# What is more of a scale, and what less.
COMPARED = dict.fromkeys(("s", "min", "µs"), ("slower", "faster"))
COMPARED |= dict.fromkeys(("points", "nats"), ("higher", "lower"))
COMPARED["epochs"] = ("later", "earlier")
# What a number is that is not the metric itself, by the kind of its test.
QUANTITIES = {
    "difference": "difference in {}",
    "ratio": "ratio of {}",
    "correlation": "rank correlation",
    "lead": "lead in the share of ranks that is explained",
    "share": "share",
    "flag": "share",
}


@dataclass(frozen=True)
class ClaimItem:
    """One claim of a report: its row among the judged ones, None for what is missing there.

    `page` is the file that shows it and `report` its title, empty on that page itself. Texts are
    not yet escaped.
    """

    row: Mapping[str, Any]
    page: str = ""
    report: str = ""

    @property
    def verdict(self) -> str:
        """A key of WORDS."""
        small = self.row["small_scale"]
        judged = self.row["verdict"] != words.NOT_JUDGED or small not in words.SMALL_SCALE
        return self.row["verdict"] if judged else small

    @property
    def tone(self) -> str:
        return WORDS[self.verdict][0]

    @property
    def word(self) -> str:
        return (words.CLAIMS | words.SMALL_SCALE)[self.verdict]

    @property
    def at_small_scale(self) -> bool:
        return self.verdict in words.SMALL_SCALE

    @property
    def is_headline(self) -> bool:
        return self.row["weight"] == "headline"

    @property
    def replicates(self) -> str:
        if METRICS.get(self.row["metric"]) == "count":
            return "the same in every training"
        count, unit = int(self.row["n"] or 0), self.row["unit"] or "seed"
        if unit == "seed" and count < (self.row["seeds_declared"] or 0):
            return f"{count} of {int(self.row['seeds_declared'])} seeds"
        return f"{count} {unit}{'s' * (count != 1 and not unit.endswith('s'))}"

    @property
    def trials(self) -> list[str]:
        """The names of the trials that it speaks of."""
        return self.row["trials"].split(", ") if self.row["trials"] else []

    @property
    def quantity(self) -> str:
        """What the numbers are, such as "test accuracy" or "rank correlation"."""
        return QUANTITIES.get(self.row["kind"], "{}").format(self._metric)

    @property
    def _metric(self) -> str:
        return label(self.row["metric"]).split(" (")[0]

    @property
    def _compared(self) -> tuple[str, str] | None:
        """The words for more and less of a difference of two sides, None of other numbers."""
        if not (self.row["a"] and self.row["scale"] and self.row["kind"] == "difference"):
            return None
        return COMPARED.get(self.row["scale"], ("more", "less"))

    @property
    def claimed(self) -> str:
        """The claim's interval in words: "slower", "at least 0.8", "less than 1 point higher"."""
        ends = [self.row[end] for end in ("low", "high")]
        finite = [end for end in ends if end is not None and math.isfinite(end)]
        sign, said, beyond = 1, "", ("above", "below")
        if self._compared and finite == [0.0]:
            return self._compared[ends[0] != 0.0]
        if self._compared and finite and (min(finite) >= 0 or max(finite) <= 0):
            sign = 1 if min(finite) >= 0 else -1
            said, beyond = f" {self._compared[sign < 0]}", ("more than", "less than")
        low, high = (self._amount(sign * end) if end in finite else "" for end in ends[::sign])
        if low and high:
            return self._with_scale(f"{low}{f' to {high}' if high != low else ''}") + said
        beyond = beyond if self.row["strict"] else ("at least", "at most")
        told = f"{beyond[not low]} {self._with_scale(low or high)}{said}"
        return told if low or high else "any"

    def _with_scale(self, told: str) -> str:
        scale = self.row["scale"] or ""
        one = told == "1" and scale in ("points", "nats", "epochs")
        return f"{told} {scale.removesuffix('s') if one else scale}".rstrip()

    def _amount(self, value: float) -> str:
        """A number on the claim's scale, with as many digits as a reader compares."""
        return amount((100 if self.row["scale"] in PERCENT.values() else 1) * value + 0.0)

    @property
    def measured(self) -> str:
        """The estimate with its interval; empty where nothing was measured."""
        estimate = self.row["estimate"]
        if estimate is None:
            return ""
        sign, said = 1, ""
        if self._is_directed:
            sign, said = (-1 if estimate < 0 else 1), f" {self._compared[estimate < 0]}"
        ends = [self.row["interval_low"], self.row["interval_high"]][::sign]
        numbers = [] if None in ends else [self._amount(sign * end) for end in ends]
        shown = f" [{', '.join(numbers)}]" if numbers else ""
        return f"{self._with_scale(self._amount(sign * estimate))}{said}{shown}"

    @property
    def _is_directed(self) -> bool:
        """Whether a word such as "faster" says which way the estimate goes."""
        estimate = self.row["estimate"]
        return bool(self._compared and estimate and math.isfinite(estimate))

    @property
    def between(self) -> str:
        """What a word such as "faster" compares: " with kernel 5 than with kernel 3"; of a number
        without one, what was taken from what."""
        a, b = self.row["a"], self.row["b"]
        if self._is_directed:
            return f" with {a} than with {b}"
        return f" ({a} less {b})" if a and self.row["kind"] == "difference" else ""

    @property
    def evidence(self) -> str:
        """What was measured, in a sentence without its full stop; of a difference for example
        "Time: 32 s faster [19, 45] with kernel 5 than with kernel 3, claimed slower (16 pairs)"."""
        if self.row["estimate"] is None:
            return ""
        what = self._metric if self._is_directed else self.quantity
        told = f"{what}: {self.measured}{self.between}, claimed {self.claimed} ({self.replicates})"
        return told[0].upper() + told[1:]

    @property
    def interval(self) -> dict[str, float] | None:
        """Where a picture puts the numbers, in percent of its width; None without two of them.

        What was claimed reaches from `low` to `high`, our interval from `interval_low` to
        `interval_high`; one that ends nowhere reaches to the picture's edge.
        """
        names = ("low", "high", "interval_low", "interval_high", "estimate")
        numbers = pd.Series({name: self.row[name] for name in names}, dtype=float)
        finite = numbers[np.isfinite(numbers)]
        if "estimate" not in finite or len(finite) < 2:
            return None
        span = finite.max() - finite.min() or abs(finite.iloc[0]) or 1.0
        places = 100 * (numbers - finite.min() + span / 4) / (1.5 * span)
        return places.fillna({"low": 0, "high": 100}).clip(0, 100).round(2).to_dict()


class Share(NamedTuple):
    """How many claims have one verdict, as a part of the stacked bar."""

    tone: str
    word: str
    count: int


def items(verdicts: pd.DataFrame, page: str = "", report: str = "") -> list[ClaimItem]:
    """The claims of a table of verdicts: headlines first, else in the report's order."""
    rows = verdicts.astype(object).where(verdicts.notna(), None).to_dict("records")
    found = [ClaimItem(row, page, report) for row in rows]
    return sorted(found, key=lambda item: not item.is_headline)


def strongest(found: Sequence[ClaimItem], tone: str) -> list[ClaimItem]:
    """The claims of one colour, the most certain first, headlines before details.

    A count that is as it must be is no finding, unless there is no other.
    """

    def rank(item: ClaimItem) -> tuple[bool, float]:
        return not item.is_headline, 1.0 if item.row["q"] is None else item.row["q"]

    ranked = sorted((item for item in found if item.tone == tone), key=rank)
    tested = [item for item in ranked if item.row["q"] is not None]
    return tested if tested and tone == "yes" else ranked


def shares(found: Sequence[ClaimItem]) -> list[Share]:
    """How many claims have each verdict, in the order of WORDS, without those that none has."""
    verdicts = [item.verdict for item in found]
    return [
        Share(tone, one if verdicts.count(name) == 1 else many, verdicts.count(name))
        for name, (tone, one, many) in WORDS.items()
        if name in verdicts
    ]


def sentence(found: Sequence[ClaimItem]) -> str:
    """The verdicts in one sentence: "Of 51 claims 12 hold and 3 do not hold; 36 stay open"."""
    if {item.verdict for item in found} == {words.NOT_JUDGED}:
        return f"None of {len(found)} claims is judged here."
    decided, rest = [], []
    for share in shares(found):
        (decided if share.tone in ("yes", "no") else rest).append(f"{share.count} {share.word}")
    parts = [part for part in (" and ".join(decided), ", ".join(rest)) if part]
    start = "At small scale, of" if any(item.at_small_scale for item in found) else "Of"
    return f"{start} {len(found)} claims {'; '.join(parts)}."
