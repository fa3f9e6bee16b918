"""The words of verdicts: the name that tables store, and what a page says.

They stand in one place, so that a page cannot call a thing otherwise than the scoreboard counts it.
"""

import math

AS_PUBLISHED = "as published"
AT_SMALL_SCALE = "at small scale"

REPRODUCED, CONTRADICTED = "reproduced", "contradicted"
INCONCLUSIVE, NOT_JUDGED = "inconclusive", "not_judged"
CLAIMS = {
    REPRODUCED: "holds",
    CONTRADICTED: "does not hold",
    INCONCLUSIVE: "open",
    NOT_JUDGED: "not judged here",
}
LIKE, UNLIKE, UNCLEAR = "like", "unlike", "unclear"
SMALL_SCALE = {word: word for word in (LIKE, UNLIKE, UNCLEAR)}
EXACT, INSIDE, DIFFERS, TOO_FEW_SEEDS = "exact", "inside", "differs", "too_few_seeds"
FIGURES = {
    EXACT: "the same",
    INSIDE: "where a repetition would lie",
    DIFFERS: "differs",
    TOO_FEW_SEEDS: "too few seeds",
    NOT_JUDGED: "not judged here",
}

# Why something is not judged.
EMBEDDED = "made from embedded data, which say nothing about the report"
LABELS = "needs the course's labels"
VIDEOS = "needs the gesture videos"
PHOTOGRAPHS = "needs the report's photographs"
WEIGHTS = "needs ImageNet weights"
COMPUTING = "needs more computing than was spent"
SIZE = "the report gives no size"
HARDWARE = "measured on other hardware"
SHARED = "measured while several trainings shared the machine"
SEVERAL = "measured on several kinds of processors"
# What a declaration calls these needs, see `predicates.Undecidable`.
NEEDS = {
    "labels": LABELS,
    "videos": VIDEOS,
    "weights": WEIGHTS,
    "computing": COMPUTING,
    "size": SIZE,
    "hardware": HARDWARE,
    "data": PHOTOGRAPHS,
}


def number(value: float) -> str:
    """A published or measured number: four digits, or in full where it is large."""
    return f"{value:,.0f}" if 1000 <= abs(value) < math.inf else f"{value:.4g}"
