"""What measurements can be held against: the report, only their own small scale, or nothing.

Only trainings as published earn a verdict. What a measurement lacks is said in one phrase of
`words`.
"""

import math

import pandas as pd

from refit.experiments.declaration import FULL, Declaration
from refit.experiments.metrics import METRICS
from refit.verdicts import words
from refit.verdicts.interval_tests import IntervalTest

# By data set: what is trained on it lacks something, whatever else is right.
STAND_INS = {
    "digits": words.EMBEDDED,
    "digits_colour": words.EMBEDDED,
    "digits_pairs": words.EMBEDDED,
    "digit_clips": words.VIDEOS,
    "fashion_mnist_pairs": words.LABELS,
    "photographs": words.PHOTOGRAPHS,
}
# A report's own data that are not public: where nothing is trained on them, they are what lacks.
NOT_PUBLIC = {"gesture": words.VIDEOS}
TIME_UNITS = {"s", "min", "µs"}


def scope_of(profile: str, rows: pd.DataFrame) -> str:
    """Whether trials, rows of a log's results, were trained as published or at a small scale."""
    less = (rows["planned_epochs"] < rows["published_epochs"]).any()
    altered = less or any(flagged(rows, flag) for flag in ("cut", "altered"))
    return words.AS_PUBLISHED if profile == FULL and not altered else words.AT_SMALL_SCALE


def barrier(test: IntervalTest, declaration: Declaration, rows: pd.DataFrame) -> str:
    """Why what is measured says nothing about the report, whatever it is; empty where it may."""
    if test.is_exact:
        return ""
    if METRICS[test.metric] in TIME_UNITS and (reason := _timing(test, declaration, rows)):
        return reason
    for reason in _lacks(rows):
        relative = test.kind in ("difference", "ratio", "correlation", "lead")
        between_networks = relative and len(test.trials) > 1
        if reason != words.LABELS or not (between_networks or METRICS[test.metric] in TIME_UNITS):
            return reason
    return ""


def resolution(test: IntervalTest, rows: pd.DataFrame) -> float:
    """The smallest step of a measured number: one image, or one epoch; 0 where it has none.

    A difference of two such numbers is left to `interval_tests`.
    """
    if test.resolution:
        return test.resolution
    if test.kind == "epoch" or METRICS[test.metric] in ("epoch", "epochs"):
        return 1.0
    if test.kind == "share":
        return 1 / rows["planned_epochs"].min() if len(rows) else 0.0
    if test.kind in ("number", "difference") and METRICS[test.metric] == "fraction":
        part = next((name for name in ("train", "test") if name in test.metric), "validation")
        images = rows.get(f"{part}_images", pd.Series(dtype=float)).min()
        return 1 / images if images and math.isfinite(images) else 0.0
    return 0.0


def _lacks(rows: pd.DataFrame) -> list[str]:
    nothing = (rows["status"] != "done").all() if "status" in rows else False
    missing = STAND_INS | NOT_PUBLIC if nothing else STAND_INS
    reasons = {missing.get(name, "") for name in rows.get("data", pd.Series(dtype=object))}
    if flagged(rows, "demonstration") and not reasons & set(STAND_INS.values()):
        reasons.add(words.EMBEDDED)
    if "pretrained" in rows and (rows["pretrained"] == "imagenet").any():
        reasons.add(words.WEIGHTS if nothing else words.PHOTOGRAPHS)
    return sorted(reasons - {""})


def _timing(test: IntervalTest, declaration: Declaration, rows: pd.DataFrame) -> str:
    """Why times cannot be held against the report's; empty where they can."""
    done = rows[rows["status"] == "done"]
    machines = done["machine"].nunique() if "machine" in done else 1
    if machines > 1:
        return words.SEVERAL
    if not test.metric.startswith("processor_") and len(done) and done["workers"].max() > 1:
        return words.SHARED
    absolute = test.kind == "number"
    here = "GPU" if "gpus" in done and (done["gpus"] > 0).any() else "CPU"
    other = declaration.source.processor != here
    return words.HARDWARE if absolute or (other and test.is_sized) else ""


def flagged(rows: pd.DataFrame, flag: str) -> bool:
    """Whether any of some results has a flag; of what is not done it is not known."""
    return bool((rows[flag].fillna(False).astype(bool)).any()) if flag in rows else False
