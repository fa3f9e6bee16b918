"""Figures of sweeps over one or two settings: what a learning rate, a width or a depth changes.

`refit.plots` names every trial and `refit.grid_plots` ranks them; here only the value of a setting
tells trials apart. Every function takes tables (see `refit.runlog`) and returns a picture. A
diverged training is a result: a mark or a word takes the place of what cannot be drawn of it.
"""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import FuncFormatter, MaxNLocator

from refit import picture
from refit.errors import ReportError
from refit.picture import COLOURS, Picture, checked, count_trials, cut, nothing_finished

LOSSES = ["train_loss", "val_loss"]
TOP = "top_val_accuracy"
MEASURES = (*LOSSES, "train_accuracy", "val_accuracy", TOP)
GREY, DARK, PALE = "#555555", "#222222", "#8DB7D6"
CROSS = {"marker": "x", "ms": 6, "mew": 1.6, "ls": "", "clip_on": False, "zorder": 5}
OUTLINE = (Stroke(linewidth=3.4, foreground="white"), Normal())
NO_TRIAL = {"facecolor": "#E4E4E4", "edgecolor": "#CFCFCF", "hatch": "///", "linewidth": 0}
MOST_NUMBERS = 40  # above bars; more would be too small to read


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
    order = _sorted(of_trial)
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


def by_value(
    results: pd.DataFrame, x: str, y: str, kinds: Mapping[str, str], label_x: str, label_y: str
) -> Picture:
    """A dot per trial: a metric by the value of a setting, side by side for several sweeps.

    `results`: one row per trial with sweep, the setting `x`, the metric `y` and, if known,
    diverged, which makes crosses of dots. `kinds` names the sweeps to draw. A bar is the median of
    the trials with one value. Values stand in sorted order, at equal distances.
    """
    results = checked(results, {"trial", "sweep", x, y})
    if len(results):
        results = results[results["sweep"].isin(kinds)]
    points, note = picture.finite(results, {x: label_x, y: label_y})
    if points.empty:
        return nothing_finished(f"{label_y} by {label_x}")
    figure = Picture(11, 5.0, f"{label_y} of {count_trials(points)} by {label_x}")
    panel = figure.panels(1, 1)[0, 0]
    order, drawn = _sorted(points[x]), [kind for kind in kinds if kind in set(points["sweep"])]
    room = 0.8 / len(drawn)
    handles = []
    for index, sweep in enumerate(drawn):
        colour = COLOURS[index % len(COLOURS)]
        handles.append(Line2D([], [], color=colour, marker="o", ls="", label=kinds[sweep]))
        for value, rows in points[points["sweep"] == sweep].groupby(x):
            centre = order.index(value) + (index + 0.5) * room - 0.4
            # Steps of the golden ratio: neighbours are apart, and every drawing is the same.
            spread = (np.arange(len(rows)) * 0.618 + 0.5) % 1 - 0.5 if len(rows) > 1 else 0.0
            places = pd.Series(centre + 0.5 * room * spread, rows.index)
            for lost, part in rows.groupby(_diverged(rows)):
                style = CROSS if lost else {"marker": "o", "ls": "", "mec": "white", "mew": 0.5}
                panel.plot(places[part.index], part[y], **style, color=colour)
            if len(rows) > 1:
                ends = centre - 0.36 * room, centre + 0.36 * room
                panel.hlines(rows[y].median(), *ends, color=DARK, lw=2.4, zorder=6)
    handles.append(Line2D([], [], color=DARK, lw=2.4, label="median"))
    if _diverged(points).any():
        handles.append(Line2D([], [], color=GREY, **CROSS, label="diverged"))
    panel.set_xticks(range(len(order)), map(picture.written, order))
    panel.set_xticks(np.arange(1, len(order)) - 0.5, minor=True)
    panel.grid(axis="x", visible=False)
    panel.grid(axis="x", which="minor", lw=2.5)
    panel.set(xlabel=label_x, ylabel=label_y, xlim=(-0.5, len(order) - 0.5))
    columns = picture.legend_columns(handles)
    figure.legend(handles=handles, loc="outside upper center", ncols=columns)
    figure.note(note)
    return figure


def heat_map(
    results: pd.DataFrame, row: str, column: str, value: str, title: str, labels: Mapping[str, str]
) -> Picture:
    """The highest value of a metric for every pair of values of two settings.

    `results`: one row per trial with both settings, the metric and, if known, diverged. `labels`
    names the three columns. A cell says how many of its trials diverged; one without is hatched.
    """
    results = checked(results, {"trial", row, column, value})
    names = {name: labels.get(name, name) for name in (row, column, value)}
    rows, lost = picture.finite(results, {name: names[name] for name in (row, column)})
    if rows.empty:
        return nothing_finished(title)
    up, across = _sorted(rows[row]), _sorted(rows[column])
    cells = {(up.index(a), across.index(b)): part for (a, b), part in rows.groupby([row, column])}
    heights = np.full((len(up), len(across)), np.nan)
    for place, part in cells.items():
        heights[place] = part[value].max()
    size = np.clip((4.0 + len(across), 2.2 + 0.62 * len(up)), (7, 3.6), (11, 12))
    figure = Picture(*size, f"{title}: highest {names[value]} by {names[row]} and {names[column]}")
    panel = figure.panels(1, 1)[0, 0]
    shades = colormaps["YlGnBu"].with_extremes(bad="#D5D5D5")
    image = panel.imshow(heights, cmap=shades, aspect="auto", origin="lower")
    for (line, place), height in np.ndenumerate(heights):
        part, dark = cells.get((line, place)), False
        style = NO_TRIAL if part is None else {"fill": False, "ec": "white", "lw": 1.5}
        panel.add_patch(Rectangle((place - 0.5, line - 0.5), 1, 1, **style))
        if part is not None:
            dark = np.dot(shades(image.norm(height))[:3], (0.299, 0.587, 0.114)) < 0.5
        text = "no trial" if part is None else "\n".join(_told(part, value, height))
        style = {"ha": "center", "va": "center", "fontsize": 9, "linespacing": 1.3}
        panel.text(place, line, text, **style, color="white" if dark else DARK)
    panel.set_xticks(range(len(across)), map(picture.written, across))
    panel.set_yticks(range(len(up)), map(picture.written, up))
    panel.set(xlabel=names[column], ylabel=names[row])
    panel.grid(visible=False)
    panel.set_title(title, fontweight="bold")
    if np.isfinite(heights).any():
        figure.colorbar(image, ax=panel, label=names[value]).ax.tick_params(labelsize=8.5)
    most = max(map(len, cells.values()))
    several = f"A cell has the highest value of up to {most} trials" if most > 1 else ""
    figure.note(". ".join(filter(None, [several, lost])))
    return figure


def bars_by(
    results: pd.DataFrame,
    x: str,
    y: str,
    label_x: str,
    label_y: str,
    names: Mapping[Hashable, str] | None = None,
    reference: tuple[float, str] | None = None,
    from_zero: bool = True,
) -> Picture:
    """A bar per value of a setting, with the metric above it; the highest is emphasised.

    `results`: one row per trial with the setting `x`, the metric `y` and, if known, diverged. Where
    several trials share a value the bar is their mean. `names` names values; `reference` is a
    height to draw a line at, and its meaning. With `from_zero` False there are dots on an axis
    that says where it starts.
    """
    results = checked(results, {"trial", x, y})
    rows, lost = picture.finite(results, {x: label_x})
    if rows.empty:
        return nothing_finished(f"{label_y} by {label_x}")
    figure = Picture(9, 4.6, f"{label_y} of {count_trials(rows)} by {label_x}")
    panel = figure.panels(1, 1)[0, 0]
    order = _sorted(rows[x])
    heights = rows.groupby(x)[y].mean().reindex(order).to_numpy()
    places, highest = np.arange(len(order)), heights == np.nanmax(heights, initial=-np.inf)
    colours = np.where(highest, COLOURS[0], PALE)
    if from_zero:
        panel.bar(places, np.nan_to_num(heights), 0.72, color=colours)
    else:
        panel.scatter(places, heights, s=60, c=colours, lw=0, zorder=3)
    handles = []
    if reference is not None:
        style = {"color": "#444444", "lw": 1.2, "ls": "--"}
        handles.append(panel.axhline(reference[0], **style, label=reference[1]))
    if (several := rows[rows.duplicated(x, keep=False)].dropna(subset=y)).size:
        dots = panel.plot(several[x].map(order.index), several[y], "o", color=DARK, ms=3.5)
        dots[0].set_label("single trials; the value is their mean")
        handles += dots
    panel.margins(y=0.12)
    bottom = panel.get_ylim()[0]
    tops = rows.groupby(x)[y].max().reindex(order).fillna(bottom)
    for place, (value, top) in enumerate(tops.items()):
        text = "\n".join(_told(rows[rows[x] == value], y, heights[place])[::-1])
        style = {"textcoords": "offset points", "ha": "center", "fontsize": 8.5, "zorder": 6}
        style["bbox"] = {"fc": panel.get_facecolor(), "ec": "none", "pad": 0.6}
        weight = "bold" if highest[place] else "normal"
        panel.annotate(text, (place, top), (0, 6 if from_zero else 9), **style, weight=weight)
    ticks = [(names or {}).get(value, picture.written(value)) for value in order]
    panel.set_xticks(places, ticks, **picture.slanted(ticks))
    panel.grid(axis="x", visible=False)
    start = f" (the axis starts at {picture.amount(bottom, y)}, not at zero)"
    panel.set(xlabel=label_x, ylabel=label_y + ("" if from_zero else start))
    panel.set_xlim(-0.6, len(order) - 0.4)
    if handles:
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    figure.note(lost)
    return figure


def class_counts(labels_by_part: Mapping[str, np.ndarray], class_names: Sequence[str]) -> Picture:
    """How many images of each class are in each part of the data, side by side.

    `labels_by_part` maps the name of a part to its labels, integers from 0. Raises ReportError for
    a label without a name.
    """
    names = [str(name) for name in class_names]
    parts = {part: np.ravel(labels).astype(int) for part, labels in labels_by_part.items()}
    if not sum(map(len, parts.values())):
        return nothing_finished("images per class")
    figure = Picture(11, 4.4, f"images per class in {', '.join(parts)}")
    panel = figure.panels(1, 1)[0, 0]
    width = 0.84 / len(parts)
    for index, (part, labels) in enumerate(parts.items()):
        if strange := sorted(set(labels.tolist()) - set(range(len(names)))):
            raise ReportError(f"{part} has the label {strange[0]}, with {len(names)} class names")
        counts = np.bincount(labels, minlength=len(names))
        places = np.arange(len(names)) + (index + 0.5) * width - 0.42
        style = {
            "color": COLOURS[index % len(COLOURS)],
            "label": f"{part} ({len(labels):,} images)",
        }
        bars = panel.bar(places, counts, 0.94 * width, **style)
        if len(names) * len(parts) <= MOST_NUMBERS:
            panel.bar_label(bars, [f"{count:,}" for count in counts], padding=2, fontsize=8)
    panel.set_xticks(range(len(names)), names, **picture.slanted(names))
    panel.set(ylabel="images", xlim=(-0.6, len(names) - 0.4))
    panel.margins(y=0.1)
    panel.grid(axis="x", visible=False)
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    figure.legend(loc="outside upper center", ncols=len(parts))
    return figure


def _told(rows: pd.DataFrame, metric: str, value: float) -> list[str]:
    """The value of some trials, if it is finite, and how many of them diverged, in narrow lines."""
    diverged, lost = _diverged(rows), rows[metric].isna()
    numbers = {"diverged": diverged.sum(), "not finite": (lost & ~diverged).sum()}
    facts = [
        word if number == len(rows) else f"{number} of {len(rows)}\n{word}"
        for word, number in numbers.items()
        if number
    ]
    return [picture.amount(value, metric), *facts] if np.isfinite(value) else facts


def _diverged(rows: pd.DataFrame) -> pd.Series:
    """Which trials say that they diverged; none where the table does not tell."""
    return rows.get("diverged", pd.Series(0.0, rows.index)).astype(float).fillna(0) > 0


def _sorted(values: Iterable[Hashable]) -> list[Hashable]:
    """Every value once: numbers by size, then texts."""
    return sorted(set(values), key=lambda value: (isinstance(value, str), value))
