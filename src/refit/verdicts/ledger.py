"""Published figures beside reproduced ones.

Every number of a report gets one row and one verdict. The tolerance is the declaration's, fixed in
advance; what was made from other data or by a shortened training is never called a difference.
"""

import math
from collections.abc import Iterable, Mapping

import pandas as pd

from refit.experiments.declaration import Declaration, Figure, Profile, Tolerance
from refit.experiments.metrics import METRICS
from refit.experiments.predicates import Selection
from refit.run_directory.log import RunLog
from refit.verdicts.contrasts import describe_trial

DEMONSTRATION = "demonstration data"
VERDICTS = ("exact", "reproduced", "differs", "not comparable", "not run")
COLUMNS = [
    "place", "trial", "metric", "epochs", "published", "reproduced", "spread", "lower", "upper",
    "n", "difference", "verdict", "reason",
]  # fmt: skip


def figures(declaration: Declaration, profile: Profile, log: RunLog) -> pd.DataFrame:
    """One row per published number.

    `published` and `reproduced` (mean over seeds) are in the metric's own unit, accuracies as
    fractions; `spread` is the standard deviation over the `n` seeds, `reason` says why a number is
    not comparable or which tolerance applied.
    """
    rows = [_row(figure, declaration, profile, log) for figure in declaration.published.figures]
    return pd.DataFrame(rows, columns=COLUMNS)


def counts(numbers: pd.DataFrame) -> pd.DataFrame:
    """How many published numbers have each verdict, by metric."""
    table = pd.crosstab(numbers["metric"], numbers["verdict"], margins=True, margins_name="all")
    columns = [verdict for verdict in VERDICTS if verdict in table]
    return table[[*columns, "all"]].reset_index().rename_axis(columns=None)


def shown(numbers: pd.DataFrame) -> pd.DataFrame:
    """The ledger as a page shows it: numbers with four significant digits."""
    frame = numbers.drop(columns=["lower", "upper"])
    for name in ("published", "reproduced", "spread", "difference"):
        frame[name] = [f"{value:.4g}" if math.isfinite(value) else "–" for value in frame[name]]
    return frame


def side_by_side(numbers: pd.DataFrame, trials: Iterable[str], metrics: list[str]) -> pd.DataFrame:
    """Published and reproduced values of some trials, the first figure of each metric."""
    rows = []
    for trial in trials:
        row: dict[str, object] = {"trial": trial}
        for metric in metrics:
            found = numbers[(numbers["trial"] == trial) & (numbers["metric"] == metric)]
            found = found[found["epochs"] == ""]
            for side in ("published", "reproduced"):
                row[f"{metric} {side}"] = found[side].iloc[0] if len(found) else math.nan
        rows.append(row)
    return pd.DataFrame(rows)


def for_plot(numbers: pd.DataFrame, metric: str, titles: Mapping[str, str]) -> pd.DataFrame:
    """One row per trial for `plots.published_against_reproduced`: a metric at the last epoch."""
    rows = numbers[(numbers["metric"] == metric) & (numbers["epochs"] == "")]
    rows = rows[rows["trial"].isin(list(titles))].drop_duplicates("trial")
    frame = rows[["trial", "published", "reproduced", "lower", "upper"]].copy()
    frame.insert(1, "title", frame["trial"].map(titles))
    order = {name: number for number, name in enumerate(titles)}
    return frame.sort_values("trial", key=lambda names: names.map(order))


def incomparable(profile: Profile, rows: pd.DataFrame, absolute: bool = True) -> str:
    """Why measurements of finished trials cannot be held against the report; empty if they can.

    `rows` are the trials' rows in a log's `done`. `absolute` asks whether the numbers themselves
    can; rankings and differences also can where labels or length are other than published, as long
    as all trials share them.
    """
    if not profile.comparable or flagged(rows, "demonstration"):
        return DEMONSTRATION
    if rows.empty:
        return ""
    if absolute and flagged(rows, "stand_in"):
        return "stand-in labels"
    if absolute and (reason := alteration(rows)):
        return reason
    if absolute and (rows["planned_epochs"] < rows["published_epochs"]).any():
        return "fewer epochs than published"
    if absolute and flagged(rows, "cut"):
        return "fewer images than published"
    return ""


def alteration(rows: pd.DataFrame) -> str:
    """What was trained otherwise than published in some results; empty if nothing was."""
    return "another network than published" if flagged(rows, "altered") else ""


def flagged(rows: pd.DataFrame, flag: str) -> bool:
    """Whether any of some results has a flag: `stand_in`, `demonstration`, `cut` or `altered`."""
    return bool(rows[flag].astype(bool).any()) if flag in rows else False


def _row(
    figure: Figure, declaration: Declaration, profile: Profile, log: RunLog
) -> dict[str, object]:
    values = log.measure(figure.trial, figure.metric, figure.epochs, figure.statistic)
    mean = values.mean() if len(values) else math.nan
    tolerance = declaration.published.tolerances[figure.metric]
    verdict, reason = _judge(figure, values, tolerance, profile, log)
    epochs = "" if figure.epochs is None else "–".join(map(str, dict.fromkeys(figure.epochs)))
    return {
        "place": figure.place,
        "trial": describe_trial(figure.trial),
        "metric": figure.metric,
        "epochs": f"{epochs} ({figure.statistic})" if figure.statistic != "last" else epochs,
        "published": figure.value,
        "reproduced": mean,
        "spread": values.std() if len(values) > 1 and math.isfinite(mean) else math.nan,
        "lower": values.min() if len(values) else math.nan,
        "upper": values.max() if len(values) else math.nan,
        "n": len(values),
        "difference": mean - figure.value,
        "verdict": verdict,
        "reason": reason,
    }


def _judge(
    figure: Figure, values: pd.Series, tolerance: Tolerance, profile: Profile, log: RunLog
) -> tuple[str, str]:
    trials = [figure.trial] if isinstance(figure.trial, str) else log.select(figure.trial)
    if METRICS[figure.metric] == "count" and not alteration(log.rows(trials)):
        if values.empty:
            return "not run", ""
        return ("exact", "") if (values == figure.value).all() else ("differs", "not the same")
    if reason := incomparable(profile, log.rows(trials)):
        return "not comparable", reason
    if values.empty:
        return "not run", ""
    allowed = _allowance(figure, tolerance)
    reason = f"within ± {allowed:.3g}: {tolerance.reason}"
    if isinstance(figure.trial, Selection) and figure.trial.take != "mean" and len(values) > 1:
        # A published extreme is one draw from the distribution of extremes, not its mean.
        low, high = values.min() - allowed, values.max() + allowed
        inside = low <= figure.value <= high
        return ("reproduced" if inside else "differs"), f"{reason}, of our extremes over seeds"
    inside = abs(values.mean() - figure.value) <= allowed
    return ("reproduced" if inside else "differs"), reason


def _allowance(figure: Figure, tolerance: Tolerance) -> float:
    """The tolerance, and what printing may have cut off: half a digit rounded, one truncated."""
    digit = {"rounded": 0.5, "truncated": 1.0, "approximate": 1.0}[figure.rounding]
    return tolerance.absolute + tolerance.relative * abs(figure.value) + digit * figure.precision
