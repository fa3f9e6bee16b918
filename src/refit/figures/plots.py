"""Figures of the reports, laid out so that seven or twenty trials are compared at a glance.

The published reports draw six plots for every training; here trials share axes instead. Every
function takes tables (see `run_log`), returns a matplotlib figure, and draws outside pyplot,
so that nothing leaks between notebook cells and importing this module changes no global state.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from refit.data.arrays import Dataset
from refit.errors import ReportError
from refit.figures.old_picture import (
    COLOURS,
    Picture,
    checked,
    checked_matrix,
    count_trials,
    cut,
    legend_columns,
    line_style,
    mark_durations,
    nothing_finished,
    place_labels,
    save,
    shortened,
)

# Rows of samples; a picture of a thousand classes would be larger than any can be.
MOST_CLASSES = 40
MEASURES = ("train_loss", "val_loss", "train_accuracy", "val_accuracy")
PARTS = (("train", "train"), ("val", "validation"))

__all__ = [
    "accuracy_against_time",
    "confusion_matrix",
    "published_against_reproduced",
    "samples",
    "save",
    "six_plots",
    "small_multiples",
]


def six_plots(curves: pd.DataFrame, title: str, titles: Mapping[str, str] | None = None) -> Picture:
    """The reports' six plots for one family of trials.

    Loss and accuracy against epoch and loss against accuracy, training above validation with
    shared axes. Lines are means over seeds; bands reach from the lowest to the highest seed.

    `curves`: one row per trial, seed and epoch, with the four measures. `titles` names trials in
    the legend. Raises ReportError if a column is missing.
    """
    curves = checked(curves, {"trial", "seed", "epoch", *MEASURES})
    if curves.empty:
        return nothing_finished(title)
    picture = Picture(
        11, 6.4, f"{title}: loss and accuracy of {count_trials(curves)} against epoch"
    )
    axes = picture.panels(2, 3, sharex="col", sharey="col")
    handles = []
    for index, (trial, rows) in enumerate(curves.groupby("trial", sort=False)):
        style = line_style(index, rows["epoch"].nunique())
        _draw_six(axes, rows, style)
        name = (titles or {}).get(trial, trial)
        handles.append(Line2D([], [], **style | {"markevery": None}, label=name + _fate(rows)))
    loss = cut(_highest_losses(curves))
    for row, (_, part) in zip(axes, PARTS, strict=True):
        row[0].set(ylabel=f"{part} loss{loss.note}", ylim=loss.limits)
        row[1].set(ylabel=f"{part} accuracy", ylim=_accuracy_limits(curves))
        row[2].set(ylabel=f"{part} loss{loss.note}", ylim=loss.limits)
        row[2].set_xlabel(f"{part} accuracy")
        row[2].tick_params(labelbottom=True)
        for panel in row[:2]:
            panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for panel in axes[1, :2]:
        panel.set_xlabel("epoch")
    picture.suptitle(title, fontweight="bold")
    picture.legend(handles=handles, loc="outside lower center", ncols=legend_columns(handles))
    return picture


def _draw_six(axes: np.ndarray, rows: pd.DataFrame, style: dict) -> None:
    by_epoch = rows.groupby("epoch")[list(MEASURES)]
    mean, low, high = by_epoch.mean(), by_epoch.min(), by_epoch.max()
    several = rows["seed"].nunique() > 1
    for row, (part, _) in zip(axes, PARTS, strict=True):
        for panel, measure in zip(row, (f"{part}_loss", f"{part}_accuracy"), strict=False):
            panel.plot(mean.index, mean[measure], **style)
            if several:
                panel.fill_between(
                    mean.index, low[measure], high[measure], color=style["color"], alpha=0.15, lw=0
                )
        row[2].plot(mean[f"{part}_accuracy"], mean[f"{part}_loss"], **style)


def small_multiples(
    curves: pd.DataFrame, titles: Mapping[str, str], metric: str = "accuracy"
) -> Picture:
    """One small panel per trial: training dashed, validation solid, the same axes everywhere.

    `titles` maps trial to the panel's title; its order is the panels' order, and a trial without
    curves gets a panel that says so. `metric` is "accuracy" or "loss"; the number in a panel is
    validation's last mean over seeds. Raises ReportError on another metric or a missing column.
    """
    if metric not in ("accuracy", "loss"):
        raise ReportError(f"metric is {metric!r}; it can be 'accuracy' or 'loss'")
    curves = checked(curves, {"sweep", "trial", "seed", "epoch", *MEASURES})
    if curves.empty:
        return nothing_finished(f"{metric} of each trial")
    trials = list(dict.fromkeys([*titles, *curves["trial"]]))
    columns = min(5, math.ceil(math.sqrt(len(trials))))
    rows = math.ceil(len(trials) / columns)
    picture = Picture(11, 1.0 + 1.75 * rows, f"{metric} of {count_trials(curves)}, one panel each")
    axes = picture.panels(rows, columns, sharex=True, sharey=True).ravel()
    colours = dict(zip(curves["sweep"].unique(), cycle(COLOURS), strict=False))
    for panel, trial in zip(axes, trials, strict=False):
        panel.set_title(titles.get(trial, trial), fontsize=9)
        _draw_small(panel, curves[curves["trial"] == trial], metric, colours)
    for panel in axes[len(trials) :]:
        panel.set_visible(False)
    for panel in axes[max(0, len(trials) - columns) : len(trials)]:
        panel.tick_params(labelbottom=True)
    loss = cut(_highest_losses(curves))
    axes[0].set_ylim(loss.limits if metric == "loss" else _accuracy_limits(curves))
    axes[0].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    picture.supxlabel("epoch", fontsize=10)
    picture.supylabel(metric + (loss.note if metric == "loss" else ""), fontsize=10)
    lines = [
        Line2D([], [], color="#444444", ls="--", lw=1, label="training"),
        Line2D([], [], color="#444444", label="validation"),
    ]
    if len(colours) > 1:
        lines += [Line2D([], [], color=colour, label=name) for name, colour in colours.items()]
    picture.legend(handles=lines, loc="outside upper center", ncols=min(8, len(lines)))
    return picture


def _draw_small(panel: Axes, rows: pd.DataFrame, metric: str, colours: Mapping[str, str]) -> None:
    if rows.empty:
        panel.text(
            0.5, 0.5, "not finished", transform=panel.transAxes, ha="center", color="#777777"
        )
        return
    mean = rows.groupby("epoch")[[f"train_{metric}", f"val_{metric}"]].mean()
    marker = "o" if len(mean) == 1 else None
    colour = colours[rows["sweep"].iloc[0]]
    panel.plot(mean.index, mean[f"train_{metric}"], color=colour, ls="--", lw=1, marker=marker)
    panel.plot(mean.index, mean[f"val_{metric}"], color=colour, lw=1.8, marker=marker)
    # The corner that the curves of this measure usually leave free.
    high = 0.08 if metric == "accuracy" else 0.86
    text = _fate(rows).strip(" ()") or f"{mean[f'val_{metric}'].iloc[-1]:.4f}"
    panel.text(0.96, high, text, transform=panel.transAxes, ha="right", fontsize=8, color="#333333")


def published_against_reproduced(frame: pd.DataFrame, label: str = "accuracy") -> Picture:
    """One row per trial: the published value as a ring, the reproduced mean as a dot.

    `frame`: trial, title, published, reproduced (mean over seeds), lower and upper (lowest and
    highest seed); a value may be NaN. `label` names the horizontal axis.
    """
    values = ["published", "reproduced", "lower", "upper"]
    frame = checked(frame, {"trial", "title", *values})
    if frame.empty or frame["reproduced"].isna().all():
        return nothing_finished(f"published against reproduced {label}")
    picture = Picture(9, 1.3 + 0.3 * len(frame), f"published against reproduced {label}")
    panel = picture.panels(1, 1)[0, 0]
    rows = np.arange(len(frame))
    published, reproduced, blue = frame["published"], frame["reproduced"], COLOURS[0]
    panel.hlines(rows, published, reproduced, color="#999999", lw=1.2)
    panel.hlines(rows, frame["lower"], frame["upper"], color=blue, lw=5, alpha=0.35)
    panel.plot(published, rows, "o", mfc="white", mec=COLOURS[1], mew=1.8, ms=8, label="published")
    panel.plot(reproduced, rows, "o", color=blue, ms=4.5, label="reproduced")
    for row in rows[reproduced.isna()]:
        known = published.iloc[row]
        panel.annotate(
            "not run",
            (known, row) if np.isfinite(known) else (np.nanmin(frame[values]), row),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color="#777777",
        )
    panel.set_yticks(rows, frame["title"])
    panel.set(xlabel=label, ylim=(len(frame) - 0.4, -0.6))
    panel.grid(axis="y", visible=False)
    handles, _ = panel.get_legend_handles_labels()
    if (frame["upper"] > frame["lower"]).any():
        handles.append(Line2D([], [], color=blue, lw=5, alpha=0.35, label="lowest to highest seed"))
    picture.legend(handles=handles, loc="outside upper center", ncols=3)
    return picture


def accuracy_against_time(results: pd.DataFrame) -> Picture:
    """Last validation accuracy against training time, one labelled dot per trial.

    `results`: one row per trial and seed with sweep, trial, val_accuracy and seconds (whole fit);
    seeds are averaged. The time axis is logarithmic.
    """
    results = checked(results, {"sweep", "trial", "val_accuracy", "seconds"})
    if len(results):
        results = results[results["seconds"] > 0].dropna(subset="val_accuracy")
    if results.empty:
        return nothing_finished("accuracy against time")
    means = results.groupby(["sweep", "trial"], sort=False)[["seconds", "val_accuracy"]].mean()
    means = means.reset_index()
    picture = Picture(9, 5.2, f"validation accuracy of {count_trials(means)} against training time")
    panel = picture.panels(1, 1)[0, 0]
    for index, (sweep, rows) in enumerate(means.groupby("sweep", sort=False)):
        style = line_style(index, 1) | {"ls": "", "ms": 7}
        panel.plot(rows["seconds"], rows["val_accuracy"], **style, label=sweep)
    panel.set_xscale("log")
    panel.margins(0.12)
    mark_durations(panel)
    panel.set(xlabel="training time, whole fit", ylabel="validation accuracy, last epoch")
    picture.legend(loc="outside upper center", ncols=8)
    place_labels(panel, means[["seconds", "val_accuracy"]].to_numpy(), means["trial"].tolist())
    return picture


def confusion_matrix(matrix: np.ndarray, class_names: Sequence[str], title: str) -> Picture:
    """Counts of (true class, predicted class), coloured by the share of the true class.

    `matrix`: (classes, classes) integers, rows are true classes. Raises ReportError where the
    names do not fit the matrix.
    """
    counts, names = checked_matrix(matrix, class_names)
    if not counts.size:
        return nothing_finished(f"{title}: no confusion matrix, these images have no labels")
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = 2.8 + 0.55 * len(names)
    picture = Picture(size + 1, size, f"{title}: confusion matrix of {len(names)} classes")
    panel = picture.panels(1, 1)[0, 0]
    image = panel.imshow(shares, cmap="Blues", norm=Normalize(0, 1))
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > 0.55 else "#222222"
        panel.text(column, row, f"{count:,}", ha="center", va="center", fontsize=9, color=colour)
    slanted = {"rotation": 35, "ha": "right"} if max(map(len, names), default=0) > 7 else {}
    panel.set_xticks(range(len(names)), names, **slanted)
    panel.set_yticks(range(len(names)), names)
    panel.set(xlabel="predicted class", ylabel="true class")
    panel.set_title(title, fontweight="bold")
    panel.grid(visible=False)
    picture.colorbar(image, ax=panel, label="share of the true class", shrink=0.8)
    return picture


def samples(dataset: Dataset, per_class: int = 8) -> Picture:
    """The first training images of every class, a row per class, as the networks see them.

    Of many classes the first MOST_CLASSES are shown.
    """
    names = dataset.class_names[:MOST_CLASSES]
    picture = Picture(0.75 * per_class + 1.6, 0.75 * len(names), f"samples of {len(names)} classes")
    if len(names) < len(dataset.class_names):
        picture.note(f"the first {len(names)} of {len(dataset.class_names):,} classes")
    panels = picture.panels(len(names), per_class)
    labels = np.asarray(dataset.train.labels)
    for label, (row, name) in enumerate(zip(panels, names, strict=True)):
        chosen = np.flatnonzero(labels == label)[:per_class]
        for panel, index in zip(row, chosen, strict=False):
            panel.imshow(dataset.train.images[index].squeeze(), cmap="gray", vmin=0, vmax=255)
        for panel in row:
            panel.set(xticks=[], yticks=[])
            panel.grid(visible=False)
        row[0].set_ylabel(shortened(name), rotation=0, ha="right", va="center")
    return picture


def _highest_losses(curves: pd.DataFrame) -> pd.Series:
    return curves.groupby("trial")[["train_loss", "val_loss"]].max().max(axis=1)


def _accuracy_limits(curves: pd.DataFrame) -> tuple[float, float]:
    values = curves[["train_accuracy", "val_accuracy"]]
    lowest, highest = values.min().min(), values.max().max()
    return (lowest - 0.03, min(highest + 0.03, 1.01)) if np.isfinite(lowest) else (0.0, 1.0)


def _fate(rows: pd.DataFrame) -> str:
    """' (diverged)' for curves with losses that are not numbers, with seeds if only some are."""
    lost = rows[["train_loss", "val_loss"]].isna().any(axis=1).groupby(rows["seed"]).any()
    if not lost.any():
        return ""
    return " (diverged)" if lost.all() else f" (diverged in {lost.sum()} of {len(lost)} seeds)"
