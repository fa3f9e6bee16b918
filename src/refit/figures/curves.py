"""How trainings go: curves over epochs, trial by trial or by a setting.

Lines are means over seeds, and bands reach from the lowest to the highest seed. A diverged
training is a result: its line ends where its loss is no number any more, and legend and caption
say so. Tables are those of a log: one row per trial, seed and epoch.
"""

import math
import textwrap
from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from refit.figures import picture as pictures
from refit.figures.labels import label
from refit.figures.picture import GREY, Picture, listed, nothing_finished, theme

LOSSES = ["train_loss", "val_loss"]
ACCURACIES = ["train_accuracy", "val_accuracy"]
PARTS = ("training", "validation")
EARLY = 5  # epochs after which a caption says who learns slowest
_line = partial(sns.lineplot, errorbar=("pi", 100), err_kws={"lw": 0, "alpha": 0.2}, legend=False)


@theme()
def learning_curves(
    curves: pd.DataFrame, title: str, titles: Mapping[str, str] | None = None
) -> Picture:
    """The reports' six plots for one family of trials: loss, accuracy, and one against the other.

    Training images stand on the left, validation images on the right. `titles` names the trials.
    """
    rows = _named(curves, titles)
    if rows.empty:
        return nothing_finished(title)
    if rows["epoch"].max() == 1:
        return nothing_finished(title, "One epoch is no curve yet.")
    picture = Picture(title, 6.6)
    panels = picture.panels(3, 2, sharey="row")
    names = list(dict.fromkeys(rows["name"]))
    style = {"hue": "name", "style": "name", "dashes": False, "palette": pictures.palette(names)}
    style |= {"markers": pictures.markers(names), "markevery": max(1, rows["epoch"].max() // 6)}
    common, ended = _of_all_seeds(rows)
    means = common.groupby(["name", "epoch"], sort=False)[LOSSES + ACCURACIES].mean().reset_index()
    for column, part, images in zip(panels.T, ("train", "val"), PARTS, strict=True):
        loss, accuracy = f"{part}_loss", f"{part}_accuracy"
        _line(common, x="epoch", y=loss, ax=column[0], **style, legend=part == "train" and "full")
        _line(common, x="epoch", y=accuracy, ax=column[1], **style)
        _line(means, x=accuracy, y=loss, sort=False, estimator=None, ax=column[2], **style)
        column[0].set(title=f"{images} images", ylabel="loss (nats)")
        column[1].set_ylabel("accuracy")
        column[2].set(xlabel="accuracy", ylabel="loss (nats)")
        for panel in column[:2]:
            _whole_epochs(panel)
    picture.explain(*pictures.keys(panels[0, 0]))
    return picture.say(*_course(rows), _cut(panels[[0, 2]].flat, rows, LOSSES), ended)


@theme()
def small_multiples(
    curves: pd.DataFrame, title: str, titles: Mapping[str, str], metric: str = "accuracy"
) -> Picture:
    """A small panel for each trial, training dashed, validation solid, the same axes everywhere.

    `titles` maps the trials to the panels' titles, in their order; one without curves says so.
    `metric` is "accuracy" or "loss". Colours tell sweeps apart, where the table has several.
    """
    rows = _named(curves[curves["trial"].isin(list(titles))], titles)
    if rows.empty:
        return nothing_finished(title)
    columns = 2 if len(titles) in (2, 4) else min(3, len(titles))
    lines = math.ceil(len(titles) / columns)
    picture = Picture(title, 0.7 + min(2.6, 4.5 / columns) * lines)
    panels = picture.panels(lines, columns, sharex=True, sharey=True)
    colours = pictures.palette(rows["sweep"])
    common, ended = _of_all_seeds(rows)
    for place, (panel, (trial, name)) in enumerate(zip(panels.flat, titles.items(), strict=False)):
        part = common[common["trial"] == trial]
        for kind, dashes, images in zip(("train", "val"), ("--", "-"), PARTS, strict=True):
            style = {"color": colours.get(part["sweep"].max()), "ls": dashes, "label": images}
            style |= {"marker": "o"} if part["epoch"].max() == 1 else {}
            _line(part, x="epoch", y=f"{kind}_{metric}", ax=panel, **style)
        told = part["name"].max() if len(part) else f"{name} (not finished)"
        panel.set_title(textwrap.fill(told, 76 // columns))
        panel.set(xlabel="epoch", ylabel=label(metric))
        panel.tick_params(labelbottom=place + columns >= len(titles))
        panel.xaxis.label.set_visible(place + columns >= len(titles))
    for panel in panels.flat[len(titles) :]:
        panel.set_visible(False)
    _whole_epochs(panels[0, 0])
    picture.explain(*pictures.keys(panels[0, 0]))
    limits = _cut(panels.flat[:1], rows, LOSSES) if metric == "loss" else ""
    return picture.say(*_course(rows), limits, ended)


@theme()
def curves_by_setting(
    curves: pd.DataFrame,
    values: Mapping[str, Hashable],
    title: str,
    setting: str,
    measures: Sequence[str] = (*LOSSES, *ACCURACIES),
) -> Picture:
    """A panel for each measure, a thin line for each trial, coloured by the value of a setting.

    `values` maps the trials to draw to their value of `setting`; a strong line is the median of
    those that share one, where those that ended count with their last epoch and diverged losses as
    infinite. Validation was on the test images, as in reports without others.
    """
    rows, style = _by_value(curves, values)
    if rows.empty:
        return nothing_finished(title)
    picture = Picture(title, 0.6 + 2.4 * math.ceil(len(measures) / 2))
    panels = picture.panels(math.ceil(len(measures) / 2), 2)
    limits = []
    common, ended = _of_all_seeds(rows)
    for panel, measure in zip(panels.flat, measures, strict=False):
        means = common.groupby(["value", "trial", "epoch"])[measure].mean().reset_index()
        alone = means.groupby("value")["trial"].nunique().max() == 1
        thin = {"lw": 1.8} if alone else {"lw": 0.6, "alpha": 0.5}
        thin["marker"] = "o" if means["epoch"].max() == 1 else None  # no line through one point
        _line(means, x="epoch", y=measure, units="trial", estimator=None, ax=panel, **style, **thin)
        if not alone:
            _line(_medians(means, measure), x="epoch", y=measure, ax=panel, **style, lw=2.4)
        if measure.endswith("loss"):
            limits.append(_cut([panel], rows, [measure]))
        panel.set_ylabel(label(measure, "test"))
        _whole_epochs(panel)
    for panel in panels.flat[len(measures) :]:
        panel.set_visible(False)
    _explain_values(picture, rows, style["palette"], setting)
    last = rows[rows["epoch"] == rows.groupby(["trial", "seed"])["epoch"].transform("max")]
    ends = last.groupby("value")[measures[-1]].mean()
    final = f"final {label(measures[-1], 'test')}"
    return picture.say(pictures.extremes(ends, final, setting), *dict.fromkeys(limits), ended)


@theme()
def against(
    curves: pd.DataFrame,
    values: Mapping[str, Hashable],
    pairs: Sequence[tuple[str, str]],
    title: str,
    setting: str,
) -> Picture:
    """A panel for each pair of measures: a line for each trial through both, epoch by epoch.

    `values` and `setting` are as for `curves_by_setting`. On the dashed line both measures
    are equal, and a dot is the last epoch.
    """
    rows, style = _by_value(curves, values)
    if rows.empty:
        return nothing_finished(title)
    picture = Picture(title, 3.2)
    limits = []
    common, ended = _of_all_seeds(rows)
    for panel, (x, y) in zip(picture.panels(1, len(pairs))[0], pairs, strict=True):
        means = common.groupby(["value", "trial", "epoch"])[[x, y]].mean().dropna().reset_index()
        path = {"x": x, "y": y, "ax": panel, "legend": False, **style}
        _line(means, units="trial", estimator=None, sort=False, lw=1, **path)
        sns.scatterplot(means.groupby("trial").tail(1), zorder=3, **path)
        if y.endswith("loss"):
            limits.append(_cut([panel], rows, [y]))
        panel.axline((0, 0), slope=1, color=GREY, ls="--", lw=1)
        panel.set(xlabel=label(x, "test"), ylabel=label(y, "test"))
    _explain_values(picture, rows, style["palette"], setting)
    x, y = pairs[-1]
    last = rows[rows["epoch"] == rows.groupby(["trial", "seed"])["epoch"].transform("max")]
    gaps = (last[x] - last[y]).groupby(last["value"]).mean()
    what = f"{label(x, 'test')} less {label(y, 'test')}"
    return picture.say(pictures.extremes(gaps, what, setting), *limits, ended)


def diverged(curves: pd.DataFrame) -> pd.Series:
    """For each trial the share of its seeds whose loss became no number or infinite."""
    lost = ~np.isfinite(curves[LOSSES].astype(float)).all(axis=1)
    return lost.groupby([curves["trial"], curves["seed"]]).any().groupby("trial").mean()


def _named(curves: pd.DataFrame, titles: Mapping[str, str] | None) -> pd.DataFrame:
    """The curves without infinities, with the names for a legend, fates of diverged ones added."""
    if curves.empty:
        return curves
    names = {
        trial: (titles or {}).get(trial, trial) + _fate(rows)
        for trial, rows in curves.groupby("trial")
    }
    finite = curves.replace([np.inf, -np.inf], np.nan).reset_index(drop=True)
    return finite.assign(name=finite["trial"].map(names))


def _fate(rows: pd.DataFrame) -> str:
    shares = diverged(rows)
    if not shares.any():
        return ""
    if len(shares) > 1:
        return f" ({(shares > 0).sum()} of {len(shares)} diverged)"
    return " (diverged)" if shares.all() else f" (diverged in {shares.iloc[0]:.0%} of seeds)"


def _by_value(
    curves: pd.DataFrame, values: Mapping[str, Hashable]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The curves of trials with a value, which is a column, and its colours for seaborn."""
    known = {trial: value for trial, value in values.items() if pd.notna(value)}
    rows = curves[curves["trial"].isin(list(known))].reset_index(drop=True)
    rows = rows.assign(value=rows["trial"].map(known))
    order = pictures.in_order(rows["value"])
    return rows, {"hue": "value", "palette": pictures.shades(order), "hue_order": order}


def _of_all_seeds(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The epochs that all seeds of a trial have, for a mean over those left would jump; and a
    sentence where others were left out."""
    ends = rows.groupby(["trial", "seed"])["epoch"].max().groupby("trial").min()
    common = rows[rows["epoch"] <= rows["trial"].map(ends)]
    left_out = len(common) < len(rows)
    return common, "A mean ends where the first of its seeds stopped." if left_out else ""


def _explain_values(
    picture: Picture, rows: pd.DataFrame, colours: Mapping[Hashable, Any], setting: str
) -> None:
    for value, colour in colours.items():
        name = pictures.written(value) + _fate(rows[rows["value"] == value])
        picture.axes[0].plot([], [], color=colour, label=name)
    picture.explain(*pictures.keys(picture.axes[0]), setting)


def _cut(panels: Sequence[Axes], rows: pd.DataFrame, losses: Sequence[str]) -> str:
    """Limit axes of losses to what most trials need; the sentence tells of those beyond."""
    finite = rows[losses].where(np.isfinite(rows[losses]))
    highest = finite.max(axis=1).groupby(rows["trial"]).max()
    settled = highest[diverged(rows).reindex(highest.index) == 0]
    end = pictures.loss_limit(settled if len(settled) else highest)
    for panel in panels:
        panel.set_ylim(0, end)
    beyond = int((highest > end).sum())
    return f"Trials beyond the axis of losses, which ends at {end:.3g}: {beyond}." if beyond else ""


def _whole_epochs(panel: Axes) -> None:
    panel.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))


def _medians(means: pd.DataFrame, measure: str) -> pd.DataFrame:
    frames = []
    for value, rows in means.groupby("value"):
        table = rows.pivot(index="epoch", columns="trial", values=measure)
        table = table.fillna(np.inf) if measure.endswith("loss") else table.ffill()
        ended = rows.groupby("trial")["epoch"].max()
        for trial in table:  # one that stopped in time stays what it was in its last epoch
            table.loc[ended[trial] :, trial] = table.loc[ended[trial], trial]
        median = table.median(axis=1).replace(np.inf, np.nan)
        frames.append(median.rename(measure).reset_index().assign(value=value))
    return pd.concat(frames, ignore_index=True)


def _course(rows: pd.DataFrame) -> list[str]:
    """What a reader sees in the curves of some trials: who learns slowest, ends highest, fails."""
    fates = diverged(rows)
    lost = [name for name, part in rows.groupby("name", sort=False)["trial"] if fates[part.iloc[0]]]
    failed = f"{listed(name.split(' (diverged')[0] for name in lost)} diverged." if lost else ""
    alive = rows[~rows["name"].isin(lost)]
    if alive.empty:
        return [failed]
    last = alive.groupby("trial")["epoch"].transform("max") == alive["epoch"]
    final = alive[last].groupby("name")["val_accuracy"].mean().sort_values()
    low, high = (f"{final.iloc[place]:.3f}" for place in (0, -1))
    if len(final) == 1:
        return [f"Validation accuracy of {final.index[0]} ends at {low}.", failed]
    best = f"Validation accuracy ends highest with {final.index[-1]}, at {high}"
    best += f", and lowest with {final.index[0]}, at {low}."
    if low == high:
        best = f"Validation accuracy ends at {low} with all of them."
    epoch = min(EARLY, alive.groupby("trial")["epoch"].max().min())
    early = alive[alive["epoch"] == epoch].groupby("name")["train_accuracy"].mean().sort_values()
    first, second = f"{early.iloc[0]:.3f}", f"{early.iloc[1]:.3f}"
    slow = f"{early.index[0]} learns slowest: train accuracy {first} in epoch {epoch}, "
    slow += f"against {second} or more."
    return ["" if first == second else slow, best, failed]
