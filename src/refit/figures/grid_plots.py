"""Figures of searches: which settings are good, which are fast, and what a tuner would have found.

A search has many more trials than a page has room for lines, so each trial is a point or a bar
here and only the best and worst have names. Every function takes a table, mostly with one row per
trial, seeds averaged, and returns a picture. What is not finite, such as the time to a target that
was never reached, is left out, and the picture says of how many trials that is true.
"""

import itertools
import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from refit.errors import ReportError
from refit.experiments.metrics import METRICS
from refit.figures.old_picture import (
    COLOURS,
    MARKERS,
    Picture,
    amount,
    checked,
    count_trials,
    finite,
    legend_columns,
    mark_durations,
    nothing_finished,
    place_labels,
    written,
)

# Named bars stand in rows as high as their text; the many between them are thinner.
NAMED_ROW, THIN_ROW = 0.17, 0.055  # inches
BAND = (0.1, 0.9)  # quantiles over the seeds of a tuner


def scatter_by(
    results: pd.DataFrame,
    x: str,
    y: str,
    axes: Mapping[str, str],
    labels: Mapping[str, str],
) -> Picture:
    """The same points once per hyper-parameter, coloured by its value.

    `results`: one row per trial. `axes` maps the columns of the hyper-parameters to the titles of
    the panels, `labels` the columns `x` and `y` to those of the axes. An x in seconds is drawn on
    a logarithmic axis. Raises ReportError if a column is missing.
    """
    results = checked(results, {"trial", x, y, *axes})
    points, lost = finite(results, {x: labels.get(x, x), y: labels.get(y, y)})
    if points.empty:
        return nothing_finished(f"{labels.get(y, y)} against {labels.get(x, x)}")
    columns = 2 if len(axes) in (2, 4) else min(3, len(axes))
    rows = math.ceil(len(axes) / columns)
    described = f"{labels.get(y, y)} of {count_trials(points)} against {labels.get(x, x)}"
    picture = Picture(11, 0.4 + 3.3 * rows, f"{described}, coloured by {', '.join(axes.values())}")
    panels = picture.panels(rows, columns, sharex=True, sharey=True)
    for panel, (column, title) in zip(panels.flat, axes.items(), strict=False):
        _draw_by_value(panel, points, x, y, column)
        panel.legend(
            **{"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "borderaxespad": 0.2},
            **{"title": title, "title_fontproperties": {"weight": "bold", "size": 9.5}},
            **{"fontsize": 8.5, "handletextpad": 0.1, "columnspacing": 1.0, "frameon": False},
            ncols=legend_columns(panel.lines, 60),
        )
    for panel in panels.flat[len(axes) :]:
        panel.set_visible(False)
    for panel in panels.flat[max(0, len(axes) - columns) : len(axes)]:
        panel.set_xlabel(labels.get(x, x))
        panel.tick_params(labelbottom=True)
    for panel in panels[:, 0]:
        panel.set_ylabel(labels.get(y, y))
    _scale(panels[0, 0], x, ticks=5)
    picture.note(lost)
    return picture


def _draw_by_value(panel: Axes, points: pd.DataFrame, x: str, y: str, column: str) -> None:
    known = points.dropna(subset=column)
    style = {"ls": "", "ms": 5.5, "mec": "white", "mew": 0.5, "alpha": 0.9}
    for index, (value, rows) in enumerate(known.groupby(column)):
        mark = {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}
        panel.plot(rows[x], rows[y], **style, **mark, label=written(value))
    if len(known) < len(points):
        rest = points[points[column].isna()]
        panel.plot(rest[x], rest[y], **style, color="#BBBBBB", marker=".", label="not set")


def ordered_bars(
    results: pd.DataFrame,
    metric: str,
    label: str,
    titles: Mapping[str, str],
    ascending: bool = False,
    groups: Mapping[str, str] | None = None,
    from_zero: bool = True,
    named: int = 10,
) -> Picture:
    """All trials in the order of a metric, the best on top ("Pareto plot" in the reports).

    `results`: one row per trial with sweep, which gives the colour, and the metric. `titles` names
    trials, `groups` sweeps. With `ascending` the lowest value is the best. The first and last
    `named` trials are named, all where there are hardly more. Bars start at zero; with `from_zero`
    False there are dots on an axis that says where it starts.
    """
    results = checked(results, {"trial", "sweep", metric})
    bars, lost = finite(results, {metric: label})
    if bars.empty:
        return nothing_finished(f"trials by {label}")
    sweeps = dict(zip(bars["sweep"].unique(), itertools.cycle(COLOURS), strict=False))
    bars = bars.sort_values(metric, ascending=ascending, kind="stable")
    rank = np.arange(len(bars))
    told = (rank < named) | (rank >= len(bars) - named) | (len(bars) <= 2.5 * named)
    heights = np.where(told, NAMED_ROW, THIN_ROW)
    centres = heights.cumsum() - heights / 2
    picture = Picture(9, 1.4 + heights.sum(), f"{label} of {count_trials(bars)}, the best on top")
    panel = picture.panels(1, 1)[0, 0]
    panel.margins(x=0.1)
    colours = [sweeps[sweep] for sweep in bars["sweep"]]
    if from_zero:
        panel.barh(centres, bars[metric], 0.85 * heights, color=colours, lw=0)
    else:
        panel.scatter(bars[metric], centres, s=np.where(told, 26, 12), c=colours, lw=0, zorder=3)
        label += f" (the axis starts at {amount(panel.get_xlim()[0], metric)}, not at zero)"
    for value, centre in zip(bars[metric][told], centres[told], strict=True):
        panel.annotate(
            amount(value, metric),
            (value, centre),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    panel.set_yticks(centres[told], [titles.get(trial, trial) for trial in bars["trial"][told]])
    panel.tick_params(axis="y", labelsize=8)
    panel.set(xlabel=label, ylim=(heights.sum() + 0.05, -0.05))
    panel.grid(axis="y", visible=False)
    if METRICS.get(metric) == "s":
        mark_durations(panel)
    handles = [Patch(color=c, label=(groups or {}).get(name, name)) for name, c in sweeps.items()]
    picture.legend(handles=handles, loc="outside upper center", ncols=legend_columns(handles, 110))
    picture.note(lost)
    return picture


def front(results: pd.DataFrame, cost: str, value: str) -> pd.DataFrame:
    """The rows that no other row beats: none is at least as cheap and as good, and better in one.

    Lowest `cost` and highest `value` win; equal rows stay together. Rows where either is not
    finite are left out. Sorted by cost. Raises ReportError if a column is missing.
    """
    known = checked(results, {cost, value})
    if known.empty:
        return results
    rows = results[known[[cost, value]].notna().all(axis=1)].sort_values(cost, kind="stable")
    best = rows.groupby(cost)[value].max()
    before = best.cummax().shift(fill_value=-np.inf)
    good = rows[cost].map(best.where(best > before))
    return rows[rows[value] == good]


def pareto_front(
    results: pd.DataFrame, cost: str, value: str, labels: Mapping[str, str]
) -> Picture:
    """All trials by what they cost and what they are worth, with the Pareto front as a step line.

    `results`: one row per trial. `labels` names the two columns and, where they have a title, the
    trials. Those on the front have numbers, and beside the panel their names and values. A cost in
    seconds has a logarithmic axis.
    """
    results = checked(results, {"trial", cost, value})
    names = {cost: labels.get(cost, cost), value: labels.get(value, value)}
    points, lost = finite(results.reset_index(drop=True), names)
    if points.empty:
        return nothing_finished(f"{names[value]} against {names[cost]}")
    best = front(points, cost, value)
    described = f"{names[value]} of {count_trials(points)} against {names[cost]}, and their front"
    picture = Picture(11, max(5.4, 0.9 + 0.19 * len(best)), described)
    panel = picture.panels(1, 1)[0, 0]
    others = points.drop(best.index)
    panel.plot(others[cost], others[value], "o", color="#8DA9BF", ms=5, label="other trials")
    panel.margins(0.12)
    panel.set(xlabel=names[cost], ylabel=names[value])
    panel.plot(best[cost], best[value], "o", color=COLOURS[1], ms=7, zorder=4)
    _scale(panel, cost)
    # Beyond its last member, and below its first, the front goes on: nothing there is better.
    (_, right), (bottom, _) = panel.get_xlim(), panel.get_ylim()
    panel.set(xlim=panel.get_xlim(), ylim=panel.get_ylim())
    corners = np.array([[best[cost].iloc[0], bottom], *best[[cost, value]].to_numpy()])
    corners = np.vstack([corners, [right, corners[-1, 1]]])
    panel.plot(*corners.T, drawstyle="steps-post", color=COLOURS[1], lw=1.4, zorder=3)
    handles = [Line2D([], [], color=COLOURS[1], marker="o", label="Pareto front")]
    handles += panel.lines[:1] if len(others) else []
    picture.legend(handles=handles, loc="outside upper center", ncols=2)
    picture.note(lost)
    members = best[[cost, value]].to_numpy(float)
    keys = [
        f"{number}  {labels.get(trial, trial)}: {amount(paid, cost)}, {amount(worth, value)}"
        for number, (trial, (paid, worth)) in enumerate(zip(best["trial"], members, strict=True), 1)
    ]
    picture.legend(
        handles=[Line2D([], [], ls="", label=key) for key in keys],
        **{"loc": "outside right upper", "title": "Pareto front", "handlelength": 0},
        **{"handletextpad": 0, "fontsize": 8.5, "alignment": "left", "frameon": False},
    )
    occupied = np.vstack([others[[cost, value]].to_numpy(float), _along_steps(panel, corners)])
    place_labels(panel, members, [str(number + 1) for number in range(len(best))], occupied)
    return picture


def _along_steps(panel: Axes, corners: np.ndarray) -> np.ndarray:
    """Points, in data units, so close together on a step line that no label fits between them."""
    turns = np.column_stack([corners[1:, 0], corners[:-1, 1]])
    path = np.stack([corners[:-1], turns], axis=1).reshape(-1, 2)
    path = panel.transData.transform(np.vstack([path, corners[-1]]))
    share = np.linspace(0, 1, 60)[:, None]
    points = [start + share * (end - start) for start, end in itertools.pairwise(path)]
    return panel.transData.inverted().transform(np.concatenate(points))


def tuner_comparison(
    frame: pd.DataFrame,
    best: float,
    labels: Mapping[str, str],
    exhaustive_epochs: float | None = None,
) -> Picture:
    """The best value that each tuner has found so far, against the epochs it has trained for it.

    `frame`: one row per tuner, seed and finished trial, with epochs (trained so far, all trials
    together) and found (the highest value so far). Lines are means over seeds, from where all
    seeds have found something; bands hold 80 % of the seeds. `best` is what the exhaustive grid
    found, in `exhaustive_epochs`. `labels` names tuners and the column `found`.
    """
    frame = checked(frame, {"tuner", "seed", "epochs", "found"})
    found, lost = finite(frame, {"epochs": "epochs", "found": "value"}, "rows")
    if found.empty:
        return nothing_finished("comparison of tuners")
    tuners = list(found["tuner"].unique())
    picture = Picture(9, 5.2, f"best value found against epochs trained by {', '.join(tuners)}")
    panel = picture.panels(1, 1)[0, 0]
    for index, tuner in enumerate(tuners):
        rows = found[found["tuner"] == tuner]
        table = rows.pivot_table(index="epochs", columns="seed", values="found", aggfunc="max")
        table = table.ffill().dropna()
        colour, seeds = COLOURS[index % len(COLOURS)], table.columns.size
        label = f"{labels.get(tuner, tuner)} ({seeds} seed{'' if seeds == 1 else 's'})"
        style = {"color": colour, "lw": 1.8, "marker": "o" if len(table) == 1 else None}
        panel.plot(table.index, table.mean(axis=1), drawstyle="steps-post", **style, label=label)
        low, high = (table.quantile(part, axis=1) for part in BAND)
        panel.fill_between(table.index, low, high, step="post", color=colour, alpha=0.15, lw=0)
    dark = {"color": "#444444", "lw": 1.2, "ls": "--"}
    panel.axhline(best, **dark, label=f"best of the exhaustive grid: {best:.4f}")
    if exhaustive_epochs is not None:
        text = f"epochs of the exhaustive grid: {exhaustive_epochs:,.0f}"
        panel.axvline(exhaustive_epochs, **dark | {"ls": ":", "lw": 1.8}, label=text)
    panel.set(xscale="log", xlabel="epochs trained", ylabel=labels.get("found", "best value found"))
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    panel.xaxis.set_minor_formatter(NullFormatter())
    handles, _ = panel.get_legend_handles_labels()
    picture.legend(handles=handles, loc="outside upper center", ncols=legend_columns(handles, 110))
    band = f"Lines are means over seeds, bands hold {BAND[1] - BAND[0]:.0%} of them"
    picture.note(". ".join(filter(None, [band, lost])))
    return picture


def _scale(panel: Axes, column: str, ticks: int = 9) -> None:
    if METRICS.get(column) == "s":
        panel.set_xscale("log")
        mark_durations(panel, ticks)


def parallel_coordinates(
    results: pd.DataFrame, axes: Mapping[str, str], metrics: Mapping[str, str]
) -> Picture:
    """A line for each trial through its hyper-parameters and metrics, coloured by the last metric.

    `results`: one row per trial. `axes` and `metrics` map columns to the names of the vertical
    axes. Lines of equal settings are drawn a little apart. Raises ReportError if a column is
    missing or no metric is named.
    """
    if not metrics:
        raise ReportError("parallel coordinates need a metric to colour the lines by")
    results = checked(results, {"trial", *axes, *metrics})
    points, lost = finite(results, metrics)
    if points.empty:
        return nothing_finished("trials along their settings")
    last = list(metrics)[-1]
    points = points.sort_values(last)
    names = [*axes, *metrics]
    heights, ticks = zip(*(_along(points[name], name in axes) for name in names), strict=True)
    picture = Picture(11, 4.4, f"{count_trials(points)} along {', '.join([*axes, *metrics])}")
    panel = picture.panels(1, 1)[0, 0]
    shades = colormaps["viridis"](np.linspace(0, 0.92, len(points)))
    for line, shade in zip(np.column_stack(heights), shades, strict=True):
        panel.plot(range(len(names)), line, color=shade, lw=1.0, alpha=0.75)
    for place, marks in enumerate(ticks):
        panel.axvline(place, color="#444444", lw=0.8)
        for height, text in marks:
            panel.annotate(
                text,
                (place, height),
                (4, 0),
                textcoords="offset points",
                fontsize=8,
                va="center",
                zorder=5,
                bbox={"fc": "white", "ec": "none", "alpha": 0.75, "pad": 0.8},
            )
    titles = [*axes.values(), *metrics.values()]
    panel.set_xticks(range(len(names)), titles)
    panel.set(yticks=[], ylim=(-0.06, 1.06), xlim=(-0.2, len(names) - 0.6))
    panel.grid(visible=False)
    panel.set_title(f"from low (dark) to high (bright) {titles[-1]}", fontsize=9)
    picture.note(lost)
    return picture


def _along(values: pd.Series, categorical: bool) -> tuple[np.ndarray, list[tuple[float, str]]]:
    """Where the trials cross a vertical axis of height one, and the axis's marks."""
    if not categorical:
        low, high = values.min(), values.max()
        heights = (values - low) / (high - low) if high > low else values * 0 + 0.5
        return heights.to_numpy(), [(0.0, f"{low:.4g}"), (1.0, f"{high:.4g}")]
    texts = values.map(written)
    known = list(dict.fromkeys(values.sort_values().map(written)))
    places = {text: (number + 0.5) / len(known) for number, text in enumerate(known)}
    order = texts.groupby(texts).cumcount() / texts.groupby(texts).transform("size")
    spread = (order - 0.5) * 0.5 / len(known)
    return (texts.map(places) + spread).to_numpy(), [
        (place, text) for text, place in places.items()
    ]
