"""Curves of sweeps over one setting: how trainings go whose learning rate or width differs.

Only the value of the setting tells trials apart, by colour; `sweep_plots` draws what they
came to. Every function takes tables (see `run_log`) and returns a picture. A diverged
training is a result: its line ends in a cross.
"""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import MaxNLocator

from refit.figures import old_picture as picture
from refit.figures.old_picture import Picture, checked, count_trials, cut, nothing_finished
from refit.figures.sweep_plots import CROSS, GREY, in_order

LOSSES = ["train_loss", "val_loss"]
TOP = "top_val_accuracy"
MEASURES = (*LOSSES, "train_accuracy", "val_accuracy", TOP)
OUTLINE = (Stroke(linewidth=3.4, foreground="white"), Normal())


class Group(NamedTuple):
    """The trials with one value of a setting: means over seeds, one row per trial and epoch."""

    rows: pd.DataFrame
    colour: tuple[float, ...]
    label: str


def curves_by(
    curves: pd.DataFrame,
    values: Mapping[str, Hashable],
    title: str,
    label: str,
    measures: Sequence[str] = MEASURES,
    names: Mapping[str, str] | None = None,
    part: str = "test",
) -> Picture:
    """A panel per measure against epoch, with a thin line per trial, coloured by a setting's value.

    `curves`: one row per trial, seed and epoch, with the measures; lines are means over seeds.
    `values` maps the trials to draw to their value, whose name is `label`. A strong line is the
    median of the trials with one value: a training that ended counts with its last value, a
    diverged loss as infinite. Thin lines end where a training diverges, with a cross at the edge of
    the panel. `top_val_accuracy` is the highest val_accuracy so far. `names` maps measures to the
    titles of the axes; by default they call validation `part`.
    """
    groups = _groups(curves, values, measures)
    if not groups:
        return nothing_finished(title)
    rows = pd.concat([group.rows for group in groups])
    columns = 2 if len(measures) in (2, 4) else min(3, len(measures))
    lines = math.ceil(len(measures) / columns)
    titles = [_title(measure, names, part) for measure in measures]
    described = f"{title}: {', '.join(titles)} of {count_trials(rows)} against epoch, by {label}"
    figure = Picture(11, 0.5 + 3.3 * lines, described)
    panels = figure.panels(lines, columns, sharex=True).ravel()
    for place, (panel, measure) in enumerate(zip(panels, measures, strict=False)):
        _draw_curves(panel, groups, measure)
        limits = _limits(rows, measure)
        panel.set(ylabel=titles[place] + limits.note, ylim=limits.limits)
        edge = panel.get_ylim()[int(measure.endswith("loss"))]
        for group in groups:
            ends = group.rows[group.rows["lost"]].groupby("trial")["epoch"].min()
            if len(ends):
                panel.plot(ends, [edge] * len(ends), **CROSS, color=group.colour)
        if place >= len(measures) - columns:
            panel.set_xlabel("epoch")
            panel.tick_params(labelbottom=True)
    panels[0].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    free = list(panels[len(measures) :])
    for panel in free:
        panel.set_axis_off()
    marks = _marks(rows, "diverged in this epoch")
    if any(group.rows["trial"].nunique() > 1 for group in groups):
        marks.append(Line2D([], [], color=GREY, lw=0.8, label="one trial"))
        marks.append(Line2D([], [], color=GREY, lw=2.4, label="median of a value's trials"))
    _explain(figure, groups, marks, label, free)
    figure.suptitle(title, fontweight="bold")
    return figure


def _draw_curves(panel: Axes, groups: Sequence[Group], measure: str) -> None:
    for rows, colour, _ in groups:
        style = {"color": colour, "marker": "o" if rows["epoch"].max() == 1 else None}
        table = rows.pivot(index="epoch", columns="trial", values=measure)
        alive = ~rows.pivot(index="epoch", columns="trial", values="lost").eq(True)
        single = {"lw": 1.5} if table.shape[1] == 1 else {"lw": 0.7, "alpha": 0.5}
        panel.plot(table.index, table.where(alive), **style, **single)
        if table.shape[1] > 1:
            median = table.ffill().median(axis=1).replace(np.inf, np.nan)
            panel.plot(median.index, median, **style, lw=2.2, path_effects=OUTLINE, zorder=4)


def against(
    curves: pd.DataFrame,
    values: Mapping[str, Hashable],
    x: str,
    y: str,
    title: str,
    labels: Mapping[str, str],
    label: str = "",
    part: str = "test",
) -> Picture:
    """A line per trial through two measures, epoch by epoch, with a dot where it ends.

    `curves`, `values`, `label` and `part` are as for `curves_by`; `labels` names the axes. A
    diverged trial has a cross, at the edge if need be, where it was last finite. Where both
    measures are losses or both accuracies, a dashed line shows where they are equal.
    """
    groups = _groups(curves, values, (x, y))
    if not groups:
        return nothing_finished(title)
    rows = pd.concat([group.rows for group in groups])
    names = [_title(measure, labels, part) for measure in (x, y)]
    described = f"{title}: {names[1]} against {names[0]} of {count_trials(rows)}, epoch by epoch"
    figure = Picture(11, 5.8, described)
    panel = figure.panels(1, 1)[0, 0]
    paths = [
        (path[~path["lost"]], path["lost"].any(), colour)
        for of_value, colour, _ in groups
        for _, path in of_value.groupby("trial")
    ]
    for path, _, colour in paths:
        panel.plot(path[x], path[y], color=colour, lw=0.9, alpha=0.6)
    across, up = _limits(rows, x), _limits(rows, y)
    panel.set(xlim=across.limits, xlabel=names[0] + across.note)
    panel.set(ylim=up.limits, ylabel=names[1] + up.note)
    dot = {"marker": "o", "ms": 5.5, "mec": "white", "mew": 0.7, "zorder": 4}
    inside = np.array([panel.get_xlim(), panel.get_ylim()])
    for path, lost, colour in paths:
        for end in path[[x, y]].to_numpy()[-1:]:
            panel.plot(*np.clip(end, *inside.T)[:, None], color=colour, **CROSS if lost else dot)
    marks = [Line2D([], [], color=GREY, ls="", marker="o", ms=5, label="last epoch")]
    marks += _marks(rows, "last before it diverged")
    if x.endswith("loss") == y.endswith("loss"):
        panel.axline((0, 0), slope=1, color=GREY, ls="--", lw=0.9, zorder=1)
        marks.append(Line2D([], [], color=GREY, ls="--", lw=0.9, label="both are equal"))
    _explain(figure, groups, marks, label, [])
    figure.suptitle(title, fontweight="bold")
    return figure


def _groups(
    curves: pd.DataFrame, values: Mapping[str, Hashable], measures: Iterable[str]
) -> list[Group]:
    """The trials that have a value, by value; `lost` is where a loss is no number but infinite."""
    needed = list(dict.fromkeys([*LOSSES, "val_accuracy", *measures]))
    rows = checked(curves, {"trial", "seed", "epoch", *needed} - {TOP})
    known = {trial: value for trial, value in values.items() if pd.notna(value)}
    if rows.empty or not (chosen := rows["trial"].isin(known)).any():
        return []
    rows = rows[chosen].sort_values(["trial", "seed", "epoch"])
    best = rows.groupby(["trial", "seed"])["val_accuracy"].cummax()
    rows = rows.assign(**{TOP: best}, **rows[LOSSES].fillna(np.inf))
    # One seed's infinite loss leaves no mean, however good the other seeds are.
    means = rows.groupby(["trial", "epoch"])[list({*needed, TOP})].mean().reset_index()
    means["lost"] = ~np.isfinite(means[LOSSES]).all(axis=1)
    of_trial = means["trial"].map(known)
    order = in_order(of_trial)
    shades = colormaps["plasma"](np.linspace(0, 0.85, len(order)))
    groups = []
    for value, shade in zip(order, shades, strict=True):
        part = means[of_trial == value]
        lost = part.groupby("trial")["lost"].any()
        share = f"{lost.sum()} of {len(lost)} " if len(lost) > 1 else ""
        fate = f" ({share}diverged)" if lost.any() else ""
        groups.append(Group(part, tuple(shade), picture.written(value) + fate))
    return groups


def _limits(rows: pd.DataFrame, measure: str) -> picture.Cut:
    """For losses what trainings need that did not diverge; none, so what is drawn, for accuracies.

    The last losses before a training diverges are so high that they would flatten all others.
    """
    if not measure.endswith("loss"):
        return picture.Cut((None, None), "")
    trials = rows[measure].where(np.isfinite(rows[measure])).groupby(rows["trial"]).max()
    lost = rows.groupby("trial")["lost"].any()
    return cut(trials if lost.all() else trials[~lost], trials.max())


def _title(measure: str, names: Mapping[str, str] | None, part: str) -> str:
    return (names or {}).get(measure, measure.replace("val_", f"{part}_").replace("_", " "))


def _marks(rows: pd.DataFrame, label: str) -> list[Line2D]:
    return [Line2D([], [], color=GREY, **CROSS, label=label)] if rows["lost"].any() else []


def _explain(
    figure: Picture, groups: Sequence[Group], marks: Sequence[Line2D], label: str, free: list[Axes]
) -> None:
    """A legend of the values and marks, in a free panel or beside all of them."""
    handles = [Line2D([], [], color=group.colour, lw=2.4, label=group.label) for group in groups]
    heading = {"title": label or None, "title_fontproperties": {"weight": "bold", "size": 10}}
    style = {"loc": "center" if free else "outside right center", "fontsize": 9, "frameon": False}
    home = free[-1] if free else figure
    home.legend(handles=[*handles, *marks], **heading, **style, alignment="left")
