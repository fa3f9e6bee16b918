"""Results of sweeps over one or two settings: what a learning rate, a width or a depth changes.

`grid_plots` ranks trials; here only the value of a setting tells them apart, and
`sweep_curves` shows how they got there. Every function takes tables (see `run_log`) and
returns a picture. A diverged training is a result: a mark or a word takes the place of what cannot
be drawn of it.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter

from refit.errors import ReportError
from refit.figures import old_picture as picture
from refit.figures.old_picture import COLOURS, Picture, checked, count_trials, nothing_finished

GREY, DARK, PALE = "#555555", "#222222", "#8DB7D6"
CROSS = {"marker": "x", "ms": 6, "mew": 1.6, "ls": "", "clip_on": False, "zorder": 5}
NO_TRIAL = {"facecolor": "#E4E4E4", "edgecolor": "#CFCFCF", "hatch": "///", "linewidth": 0}
MOST_NUMBERS = 40  # above bars; more would be too small to read


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
    order, drawn = in_order(points[x]), [kind for kind in kinds if kind in set(points["sweep"])]
    room = 0.8 / len(drawn)
    handles = []
    for index, sweep in enumerate(drawn):
        colour = COLOURS[index % len(COLOURS)]
        handles.append(Line2D([], [], color=colour, marker="o", ls="", label=kinds[sweep]))
        for value, rows in points[points["sweep"] == sweep].groupby(x):
            centre = order.index(value) + (index + 0.5) * room - 0.4
            places = pd.Series(centre + 0.5 * room * spread(len(rows)), rows.index)
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
    up, across = in_order(rows[row]), in_order(rows[column])
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
    order = in_order(rows[x])
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
    names = [picture.shortened(str(name)) for name in class_names]
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


def spread(count: int) -> np.ndarray:
    """Where dots that share a place stand beside it, from -0.5 to 0.5.

    Steps of the golden ratio: neighbours are apart, and every drawing is the same.
    """
    return (np.arange(count) * 0.618 + 0.5) % 1 - 0.5 if count > 1 else np.zeros(count)


def in_order(values: Iterable[Hashable]) -> list[Hashable]:
    """Every value once: numbers by size, then texts."""
    return sorted(set(values), key=lambda value: (isinstance(value, str), value))
