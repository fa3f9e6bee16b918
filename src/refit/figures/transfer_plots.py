"""Figures of transfer learning: a head trained on a frozen base, then both tuned together.

The reports draw the two phases of a training apart and compare networks by their accuracies before
and after; here the phases stand on one axis, and what a pretrained base is worth is shown against
the number of images. Every function takes tables (see `run_log`) and returns a picture.
"""

import math
from collections.abc import Hashable, Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from refit.figures.old_picture import (
    COLOURS,
    MARKERS,
    Picture,
    checked,
    count_trials,
    cut,
    finite,
    nothing_finished,
)
from refit.verdicts import published_figures

PARTS = {"train": "training", "val": "validation"}
LOSSES = ["train_loss", "val_loss"]
GREY = "#555555"
HEADING = {"weight": "bold", "size": 11}  # of a legend that stands above the panels
APART = 0.06  # least distance of two ticks, as a share of the axis
PAIR = ("before", "after")
MOMENTS = ["val_accuracy_before_fine_tuning", "val_accuracy"]


def phases(
    curves: pd.DataFrame,
    switches: Mapping[str, int],
    title: str,
    titles: Mapping[str, str] | None = None,
) -> Picture:
    """Accuracy and loss of each trial against epoch, with the switch from head to fine-tuning.

    `curves`: one row per trial, seed and epoch, with accuracy and loss on training and validation
    images; lines are means over seeds, bands reach from the lowest to the highest. `switches` maps
    the trials to draw, in the order of their rows, to the epochs of their first phase. `titles`
    names trials. A trial without curves has panels that say so. Raises ReportError if a column is
    missing.
    """
    measures = [f"{part}_{kind}" for part in PARTS for kind in ("accuracy", "loss")]
    curves = checked(curves, {"trial", "seed", "epoch", *measures})
    if len(curves):
        curves = curves[curves["trial"].isin(switches)]
    if curves.empty:
        return nothing_finished(title)
    described = f"{title}: accuracy and loss of {count_trials(curves)} before and after fine-tuning"
    picture = Picture(11, 1.0 + 2.6 * len(switches), described)
    panels = picture.panels(len(switches), 2, sharex="row", sharey="col")
    loss = cut(curves.groupby("trial")[LOSSES].max().max(axis=1))
    panels[0, 1].set_ylim(loss.limits)
    for (accuracies, losses), (trial, switch) in zip(panels, switches.items(), strict=True):
        rows = curves[curves["trial"] == trial]
        _draw_phases(accuracies, rows, "accuracy", switch)
        _draw_phases(losses, rows, "loss", switch)
        accuracies.set_ylabel(f"{(titles or {}).get(trial, trial)}\n\naccuracy")
        losses.set_ylabel(f"loss{loss.note}")
        losses.tick_params(labelleft=True)
    for panel in panels[-1]:
        panel.set_xlabel("epoch")
    handles = [
        Line2D([], [], color=colour, lw=1.8, label=name)
        for colour, name in zip(COLOURS, PARTS.values(), strict=False)
    ]
    handles.append(Line2D([], [], color=GREY, ls="--", lw=1.2, label="fine-tuning begins"))
    heading = {"title": title, "title_fontproperties": HEADING}
    picture.legend(handles=handles, loc="outside upper center", ncols=3, **heading)
    lost = curves[LOSSES].isna().to_numpy().sum()
    picture.note(f"Not drawn: {lost:,} of {2 * len(curves):,} losses, not finite" if lost else "")
    return picture


def _draw_phases(panel: Axes, rows: pd.DataFrame, kind: str, switch: int) -> None:
    if rows.empty:
        words = {"ha": "center", "va": "center", "color": GREY}
        panel.text(0.5, 0.5, "no finished trials", **words, transform=panel.transAxes)
        panel.set_xticks([])
        return
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for part, colour in zip(PARTS, COLOURS, strict=False):
        values = rows.groupby("epoch")[f"{part}_{kind}"]
        mean = values.mean()
        marker = "o" if len(mean) == 1 else None
        panel.plot(mean.index, mean, color=colour, lw=1.8, marker=marker)
        panel.fill_between(mean.index, values.min(), values.max(), color=colour, alpha=0.15, lw=0)
    begins = 0 < switch < rows["epoch"].max()
    words = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "fontsize": 8.5}
    words |= {"color": GREY, "va": "bottom"}
    if begins:
        panel.axvline(switch + 0.5, color=GREY, ls="--", lw=1.2, zorder=1)
        panel.annotate("head ", (switch + 0.5, 1), (-3, 3), ha="right", **words)
    text = "fine-tuning" if begins or switch < 1 else "head"
    start = switch + 0.5 if begins else rows["epoch"].min()
    panel.annotate(text, (start, 1), (3, 3), ha="left", **words)


def gain(
    rows: pd.DataFrame,
    images: str,
    metric: str,
    groups: Mapping[Hashable, str],
    title: str,
    start: str = "start",
    chance: float | None = None,
    label: str = "",
) -> Picture:
    """A metric against the number of training images, a line per way of starting.

    `rows`: one row per training, with the columns `images`, `metric`, seed, and `start`, whose
    values `groups` maps to names, as transferred and from scratch. Dots are trainings, lines go
    through their means. `chance` is what guessing gives. The axis of images is logarithmic. Raises
    ReportError if a column is missing.
    """
    label = label or metric.replace("_", " ")
    rows = checked(rows, {images, metric, start, "seed"})
    if len(rows):
        rows = rows[rows[start].isin(groups)]
    points, lost = finite(rows, {images: "number of images", metric: label}, "trainings")
    if points.empty:
        return nothing_finished(title)
    described = f"{title}: {label} against training images, {', '.join(groups.values())}"
    picture = Picture(9, 5.0, described)
    panel = picture.panels(1, 1)[0, 0]
    panel.set_xscale("log")
    for index, (value, name) in enumerate(groups.items()):
        chosen = points[points[start] == value]
        style = {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}
        panel.plot(chosen[images], chosen[metric], **style, ls="", ms=4.5, mew=0, alpha=0.45)
        means = chosen.groupby(images)[metric].mean()
        seeds = chosen.groupby(images)["seed"].nunique()
        number = f" ({_span(seeds)})" if len(seeds) else " (none yet)"
        panel.plot(means.index, means, **style, ms=6, mfc="white", lw=1.6, label=name + number)
    if chance is not None:
        panel.axhline(chance, color=GREY, ls="--", lw=1.2, label=f"guessing: {chance:.3g}")
    _mark_images(panel, points[images])
    panel.set(xlabel="training images", ylabel=label)
    heading = {"title": title, "title_fontproperties": HEADING}
    picture.legend(loc="outside upper center", ncols=3, **heading)
    several = "Lines go through means, small marks are single trainings"
    picture.note(". ".join(filter(None, [several, lost])))
    return picture


def _span(seeds: pd.Series) -> str:
    low, high = seeds.min(), seeds.max()
    return f"{low if low == high else f'{low} to {high}'} seed{'' if high == 1 else 's'}"


def _mark_images(panel: Axes, images: pd.Series) -> None:
    """Ticks at the numbers of images that occur, as far as their texts have room."""
    counts = np.array(sorted(images.unique()), dtype=float)
    if len(counts) == 1:
        panel.set_xlim(counts[0] / 2, counts[0] * 2)
    width = np.ptp(np.log(panel.get_xlim()))
    kept = counts[:1].tolist()
    for count in counts[1:]:
        if np.log(count / kept[-1]) >= APART * width:
            kept.append(count)
    panel.set_xticks(kept)
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    panel.xaxis.set_minor_locator(NullLocator())


def moments(means: pd.DataFrame, numbers: pd.DataFrame) -> pd.DataFrame:
    """The table for `before_after`: validation accuracies, here and published, a row per trial.

    `means`: one row per finished trial (see `RunLog.means`); `numbers`: the published numbers (see
    `published_figures.figures`). Trials are there that were tuned in two phases or have a published
    accuracy before the second; those without a result are named as declared.
    """
    measured = means.reindex(columns=["trial", "title", *MOMENTS]).dropna(subset=MOMENTS[0])
    named = numbers.loc[numbers["metric"] == MOMENTS[0], "trial"]
    trials = list(dict.fromkeys([*named, *measured["trial"]]))
    found = measured.set_index("trial").reindex(trials).reset_index()
    printed = published_figures.side_by_side(numbers, trials, MOMENTS)
    frame = found[["trial"]].assign(title=found["title"].fillna(found["trial"]))
    for moment, metric in zip(PAIR, MOMENTS, strict=True):
        frame[moment] = found[metric].astype(float)
        frame[f"published_{moment}"] = printed.get(f"{metric} published", math.nan)
    return frame


def before_after(rows: pd.DataFrame, label: str = "validation accuracy") -> Picture:
    """A dumbbell per trial: the metric before and after fine-tuning, above the published pair.

    `rows`: one row per trial with trial, title, before, after, published_before and
    published_after; a value may be NaN. The published pair is hollow. Raises ReportError if a
    column is missing.
    """
    pairs = {"reproduced": PAIR, "published": tuple(f"published_{moment}" for moment in PAIR)}
    rows = checked(rows, {"trial", "title", *PAIR, *pairs["published"]})
    if rows.empty or rows[list(PAIR)].isna().all(axis=None):
        return nothing_finished(f"{label} before and after fine-tuning")
    described = f"{label} of {count_trials(rows)} before and after fine-tuning"
    picture = Picture(9, 1.5 + 0.62 * len(rows), described)
    panel = picture.panels(1, 1)[0, 0]
    handles = []
    for (name, columns), shift, colour in zip(pairs.items(), (-0.17, 0.17), COLOURS, strict=False):
        hollow = {"mfc": "white", "mew": 1.6} if name == "published" else {}
        values = rows[list(columns)].to_numpy(float)
        places = np.arange(len(rows)) + shift
        panel.hlines(places, *values.T, color=colour, lw=1.6, alpha=0.6)
        for moment, marker, column in zip(PAIR, "os", values.T, strict=True):
            style = {"marker": marker, "ms": 7, "color": colour, **hollow}
            panel.plot(column, places, ls="", **style)
            handles.append(Line2D([], [], ls="", **style, label=f"{moment}, {name}"))
        for place, pair in zip(places, values, strict=True):
            _write_ends(panel, pair, place, name)
    panel.margins(x=0.16)
    panel.set_yticks(range(len(rows)), rows["title"])
    panel.set(xlabel=label, ylim=(len(rows) - 0.5, -0.5))
    panel.grid(axis="y", visible=False)
    picture.legend(handles=handles, loc="outside upper center", ncols=4)
    return picture


def _write_ends(panel: Axes, pair: np.ndarray, place: float, name: str) -> None:
    """The two values beside their marks, outside the line between them."""
    style = {"textcoords": "offset points", "va": "center", "fontsize": 8.5}
    known = np.sort(pair[np.isfinite(pair)])
    if len(known) > 1:
        panel.annotate(f"{known[0]:.4f}", (known[0], place), (-8, 0), ha="right", **style)
    if len(known):
        text = f"{known[-1]:.4f}"
        panel.annotate(text, (known[-1], place), (8, 0), ha="left", **style)
    elif name == "reproduced":
        inside = {"xycoords": ("axes fraction", "data"), "color": GREY}
        panel.annotate("not run", (0, place), (6, 0), ha="left", **style, **inside)
