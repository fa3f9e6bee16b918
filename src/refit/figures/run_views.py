"""The views in which a report tracked with MLflow shows its runs: the overview, the newest first,
and the best run against the worst. Means are over seeds; a diverged loss is infinite.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from refit.errors import ReportError
from refit.figures.old_picture import COLOURS, Picture, amount, nothing_finished
from refit.figures.sweep_plots import GREY
from refit.figures.transfer_plots import HEADING
from refit.run_directory.log import RunLog

LEAST_SPAN = 4  # of a logarithmic axis: a few per cent shall not look like a world
QUANTITIES = {
    "trial": "trial",
    "optimizer": "optimizer",
    "optimizer.learning_rate": "initial learning rate",
    "published_epochs": "published epochs",
    "planned_epochs": "planned epochs",
    "reduce_lr_on_plateau.factor": "learning-rate factor",
    "layers": "layers",
    "train_accuracy": "train accuracy",
    "train_loss": "train loss",
    "train_cross_entropy": "train cross-entropy",
    "val_accuracy": "validation accuracy",
    "val_loss": "validation loss",
    "learning_rate": "final learning rate",
    "minutes": "minutes",
}
PARTS = {"train": ("training", "--", 1.3), "val": ("validation", "-", 1.9)}
MEASURED = {
    "minutes": "minutes",
    "train_accuracy": "accuracy",
    "train_loss": "loss",
    "learning_rate": "final learning rate",
}
FORMATS = {
    **dict.fromkeys(("number", "epochs", "published epochs"), ".0f"),
    **dict.fromkeys(("minutes", "loss", "deviation", "published minutes", "published loss"), ".4g"),
    **dict.fromkeys(("learning rate", "final learning rate", "published final learning rate"), "g"),
    "rank correlation": ".2f",
    "same direction": ".0%",
}


def extremes(log: RunLog, sweep: str, metric: str, smallest: bool) -> pd.DataFrame:
    """The best beside the worst run of a sweep by a metric, a row per setting or metric.

    With `smallest` the smallest value is the best, and a diverged run, whose losses are infinite,
    the worst. Columns: quantity, best, worst (both as text, for the units differ), and differs.
    Quantities that neither has are left out; without a finished run there is no row. Raises
    ReportError where finished runs lack the metric.
    """
    ranked = _ranked(log, sweep, metric, smallest)
    rows = []
    for name, quantity in QUANTITIES.items() if len(ranked) else ():
        if name in ranked and ranked[name].iloc[[0, -1]].notna().any():
            best, worst = (_text(ranked[name].iloc[place], name) for place in (0, -1))
            rows.append((quantity, best, worst, best != worst))
    return pd.DataFrame(rows, columns=["quantity", "best", "worst", "differs"])


def _ranked(log: RunLog, sweep: str, metric: str, smallest: bool) -> pd.DataFrame:
    """Settings and means of a sweep's finished runs, from the best to the worst by a metric."""
    means = _means(log, sweep)
    if means.empty:
        return means
    if metric not in means or means[metric].isna().all():
        raise ReportError(f"no finished run of {sweep} has a {metric}")
    return means.dropna(subset=metric).sort_values(metric, ascending=smallest, kind="stable")


def _means(log: RunLog, sweep: str) -> pd.DataFrame:
    """Those of the log, with an infinite loss wherever a run of any seed diverged."""
    means = log.means(sweep)
    if means.empty:
        return means
    for name in ("train_loss", "val_loss"):
        means[name] = [log.measure(trial, name).mean() for trial in means["trial"]]
    if "train_cross_entropy" in means:
        means.loc[np.isinf(means["train_loss"]), "train_cross_entropy"] = math.inf
    return means


def _text(value: Any, name: str) -> str:
    if isinstance(value, str):
        return value
    if pd.isna(value):
        return "–"
    return amount(value, name) if math.isfinite(value) else "infinite"


def two_runs(log: RunLog, sweep: str, metric: str, smallest: bool) -> Picture:
    """Accuracy and loss of a sweep's best and worst run by a metric, over each other.

    The runs are those of `extremes`. Lines are means over seeds, bands reach from the lowest to the
    highest; the axis of losses is logarithmic. Raises ReportError as `extremes` does.
    """
    ranked = _ranked(log, sweep, metric, smallest)
    label = QUANTITIES.get(metric, metric.replace("_", " "))
    if ranked.empty:
        return nothing_finished(f"{sweep}: best and worst run by {label}")
    chosen = dict(zip(("best", "worst"), ranked.iloc[[0, -1]].to_dict("records"), strict=True))
    if len(ranked) == 1:
        chosen = {"the only finished": chosen["best"]}
    names = {
        f"{rank}: {run['title']} ({label} {_text(run[metric], metric)})": run["trial"]
        for rank, run in chosen.items()
    }
    picture = Picture(11, 4.8, f"{sweep}: accuracy and loss against epoch. {'; '.join(names)}")
    panels = picture.panels(1, 2)[0]
    for panel, kind in zip(panels, ("accuracy", "loss"), strict=True):
        for colour, trial in zip(COLOURS, names.values(), strict=False):
            for part, (_, line, width) in PARTS.items():
                curve = log.curve(trial, f"{part}_{kind}")
                _draw_curve(panel, curve, {"color": colour, "ls": line, "lw": width})
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        panel.set(xlabel="epoch", ylabel=kind)
    logarithmic(panels[1])
    handles = [
        Line2D([], [], color=colour, lw=3, label=name)
        for colour, name in zip(COLOURS, names, strict=False)
    ]
    handles += [
        Line2D([], [], color=GREY, ls=line, lw=width, label=name)
        for name, line, width in PARTS.values()
    ]
    heading = {"title": f"{sweep}: best and worst run by {label}", "title_fontproperties": HEADING}
    picture.legend(handles=handles, loc="outside upper center", ncols=2, **heading)
    return picture


def _draw_curve(panel: Axes, curve: pd.DataFrame, style: dict[str, Any]) -> None:
    if curve.empty:
        return
    curve = curve.replace(math.inf, math.nan)
    panel.plot(
        curve.index,
        curve.mean(axis=1, skipna=False),
        **style,
        marker="o" if len(curve) == 1 else None,
    )
    ends = curve.min(axis=1), curve.max(axis=1)
    panel.fill_between(curve.index, *ends, color=style["color"], alpha=0.12, lw=0)


def run_table(
    log: RunLog, sweep: str, published: pd.DataFrame, numbers: Mapping[str, int] | None = None
) -> pd.DataFrame:
    """A sweep's runs as the report lists them, the newest first, published values beside measured.

    `published` are the published numbers (see `ledger.figures`); `numbers` maps trials to
    their numbers in the report, of which the profile may have left out some, else they count from 1
    as declared. Columns: number, trial, minutes, accuracy, loss (of the last epoch, on the training
    images), final learning rate, each with its published value where the report has any of them,
    epochs, and learning rate. A run that is not finished has its settings only.
    """
    declared = log.results[log.results["sweep"] == sweep].drop_duplicates("trial")
    trials = declared["trial"]
    if numbers is None:
        numbers = {trial: number for number, trial in enumerate(trials, 1)}
    frame = pd.DataFrame({"number": trials.map(dict(numbers)), "trial": trials})
    means = _means(log, sweep).set_index("trial")
    for metric, name in MEASURED.items():
        if metric in means:
            frame[name] = trials.map(means[metric]).astype(float)
        if not trials.map(known := printed(published, metric)).isna().all():
            frame[f"published {name}"] = trials.map(known).astype(float)
    frame["epochs"] = declared["planned_epochs"]
    if (declared["published_epochs"] != declared["planned_epochs"]).any():
        frame["published epochs"] = declared["published_epochs"]
    frame["learning rate"] = declared.get("optimizer.learning_rate")
    return frame[::-1].reset_index(drop=True)


def printed(numbers: pd.DataFrame, metric: str) -> pd.Series:
    """The published values of a metric at the last epoch, by trial; of several the first."""
    if numbers.empty:
        return pd.Series(dtype=float)
    rows = numbers[numbers["metric"] == metric]
    rows = rows[rows["epochs"] == ""] if "epochs" in rows else rows
    return rows.drop_duplicates("trial").set_index("trial")["published"].astype(float)


def formats(table: pd.DataFrame) -> dict[str, str]:
    """How `refit.pages.tables.table` writes the numbers of `fit` and `run_table`, by column."""
    return {name: form for name, form in FORMATS.items() if name in table}


def logarithmic(panel: Axes) -> None:
    """Make the upward axis logarithmic, with plain numbers and over a factor of four or more."""
    panel.set_yscale("log")
    low, high = panel.get_ylim()
    widening = max(1.0, math.sqrt(LEAST_SPAN * low / high))
    panel.set_ylim(low / widening, high * widening)
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 2000 * low else (1,)))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.yaxis.set_minor_locator(NullLocator())
