"""What settings do: results by the value of one setting or two, in order, and against their cost.

Every function takes a table with a row for each training, so that seeds are seen: bars and points
are means with the lowest and highest training as error bars, dots are trainings. A diverged
training is a result; it is a cross, or counted in the caption.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from refit.figures import picture as pictures
from refit.figures.labels import amount, label
from refit.figures.picture import COLOURS, GREY, Picture, listed, nothing_finished, theme, written

RANGE = ("pi", 100)  # error bars from the lowest to the highest training
ROW = 0.19  # inches of a row with a name in words
NAMED = 10  # trials at either end of an order that have names; between them is a dot in a thin row


@theme()
def bars(
    results: pd.DataFrame,
    x: str,
    y: str,
    title: str,
    labels: Mapping[str, str] | None = None,
    hue: str | None = None,
) -> Picture:
    """A bar for each value of a setting: the mean of a metric, with its trainings as error bar.

    `labels` names columns for the axes; `hue` is a column that sets bars side by side.
    """
    names, rows, lost = _prepared(results, [x], y, labels)
    if rows.empty:
        return nothing_finished(title)
    picture = Picture(title)
    panel = picture.panels()[0, 0]
    groups = {"hue": hue, "palette": pictures.palette(rows[hue])} if hue else {"color": COLOURS[0]}
    style = {"errorbar": RANGE, "capsize": 0.2, "err_kws": {"color": "#222222", "lw": 1.3}}
    order = [written(value) for value in pictures.in_order(results[x].dropna())]
    sns.barplot(rows, x=x, y=y, order=order, ax=panel, **groups, **style)
    for bar in panel.containers:
        is_share = np.nanmax(np.abs(bar.datavalues)) <= 1
        texts = [f"{each:.3f}" if is_share else amount(each) for each in bar.datavalues]
        panel.bar_label(bar, texts, label_type="center", color="white", weight="bold")
    panel.set(xlabel=names[x], ylabel=names[y])
    _tilt_long(panel, order)
    if hue:
        picture.explain(*pictures.keys(panel), names.get(hue, ""))
    most = rows.groupby([x, hue] if hue else x).size().max()
    reach = f"Error bars: lowest to highest of up to {most} trainings." if most > 1 else ""
    extremes = pictures.extremes(rows.groupby(x)[y].mean(), names[y], names[x])
    return picture.say(extremes, lost, reach)


@theme()
def strips(
    results: pd.DataFrame,
    settings: Mapping[str, str],
    y: str,
    title: str,
    labels: Mapping[str, str] | None = None,
    hue: str | None = None,
) -> Picture:
    """A panel for each setting: every training is a dot over its value, a line their mean.

    `settings` maps columns to names. `hue` is a column whose values have colours, as sweeps.
    """
    names, rows, lost = _prepared(results, settings, y, {**(labels or {}), **settings})
    if rows.empty or rows[y].isna().all():
        return nothing_finished(title)
    settings = {
        name: words for name, words in settings.items() if rows[name].nunique() > 1
    } or settings
    columns = min(2, len(settings))
    lines = math.ceil(len(settings) / columns)
    picture = Picture(title, 0.6 + (2.3 if columns == 2 else 3.0) * lines)
    panels = picture.panels(lines, columns, sharey=True)
    groups = {"hue": hue, "palette": pictures.palette(rows[hue])} if hue else {"color": COLOURS[0]}
    for panel, setting in zip(panels.flat, settings, strict=False):
        known = rows[rows[setting] != written(None)]
        order = [written(value) for value in pictures.in_order(results[setting].dropna())]
        style = {"x": setting, "y": y, "order": order, "dodge": bool(hue), "ax": panel, **groups}
        sns.stripplot(known, **style, size=4.5, alpha=0.6, jitter=0.2, legend=False)
        apart = {"dodge": 0.4} if hue else {"dodge": False}
        means = {"marker": "_", "markersize": 16, "linestyle": "none", "errorbar": None}
        sns.pointplot(known, **style | apart, **means, legend="brief" if hue else False)
        panel.set(xlabel=names[setting], ylabel=names[y])
        panel.tick_params(labelleft=True)
        _tilt_long(panel, order, columns)
    for panel in panels.flat[len(settings) :]:
        panel.set_visible(False)
    found = [pictures.keys(panel) for panel in panels.flat]
    if hue:
        picture.explain(*found[0])
    means = {names[setting]: rows.groupby(setting)[y].mean() for setting in settings}
    if len(settings) == 1:
        return picture.say(pictures.extremes(*means.values(), names[y], *means), lost)
    moved = pd.Series({name: mean.max() - mean.min() for name, mean in means.items()}).sort_values()
    said = f"Of the settings {moved.index[-1]} moves mean {names[y]} most, by "
    said += f"{amount(moved.iloc[-1])}, "
    said += f"and {moved.index[0]} least, by {amount(moved.iloc[0])}."
    return picture.say(said, lost)


@theme()
def heat_map(
    results: pd.DataFrame,
    row: str,
    column: str,
    value: str,
    title: str,
    labels: Mapping[str, str] | None = None,
) -> Picture:
    """The highest mean over seeds of a metric for every pair of values of two settings.

    A cell without a trial is empty; one whose trials all diverged says so.
    """
    names, rows, lost = _prepared(results, [row, column], value, labels)
    if rows.empty:
        return nothing_finished(title)
    means = rows.groupby([row, column, "trial"])[value].mean()
    up, across = (
        [written(each) for each in pictures.in_order(results[name].dropna())]
        for name in (row, column)
    )
    cells = means.groupby([row, column]).max().unstack().reindex(index=up[::-1], columns=across)
    gone = rows.groupby([row, column])["diverged"].all().unstack().reindex_like(cells).eq(True)
    texts = cells.map(lambda cell: "" if pd.isna(cell) else amount(cell))
    picture = Picture(title, 1.2 + 0.5 * len(up))
    panel = picture.panels()[0, 0]
    style = {"cmap": "crest", "linewidths": 1.5, "cbar_kws": {"label": names[value]}}
    sns.heatmap(cells, annot=texts, fmt="", ax=panel, **style)
    for line, place in np.argwhere(gone.to_numpy()):
        panel.text(place + 0.5, line + 0.5, "diverged", ha="center", va="center")
    panel.set(xlabel=names[column], ylabel=names[row], facecolor="#E4E4E4")
    panel.tick_params(axis="y", rotation=0)
    if cells.isna().all(axis=None):
        return picture.say(lost)
    ranked = cells.stack().dropna().sort_values()
    low, high = (
        f"{ranked.iloc[place]:.4g} with {names[row]} {ranked.index[place][0]} and "
        f"{names[column]} {ranked.index[place][1]}"
        for place in (0, -1)
    )
    most = int(means.groupby([row, column]).size().max())
    several = f"A cell has the highest of up to {most} trials." if most > 1 else ""
    return picture.say(
        f"{names[value].capitalize()} is highest, {high}, and lowest, {low}.", several, lost
    )


@theme()
def ordered(
    results: pd.DataFrame,
    metric: str,
    title: str,
    titles: Mapping[str, str],
    labels: Mapping[str, str] | None = None,
    ascending: bool = False,
) -> Picture:
    """All trials in the order of a metric, the best on top ("Pareto plot" in the reports).

    With `ascending` the lowest value is the best. The first and the last trials have names.
    """
    names, rows, lost = _prepared(results, ["sweep"], metric, labels)
    rows = rows.dropna(subset=metric)
    if rows.empty:
        return nothing_finished(title)
    order = rows.groupby("trial")[metric].mean().sort_values(ascending=ascending, kind="stable")
    named = np.minimum(np.arange(len(order)), np.arange(len(order))[::-1]) < NAMED
    heights = np.where(named, ROW, min(0.05, 2.5 / len(order)))  # a screen is enough
    places = dict(zip(order.index, heights.cumsum(), strict=True))
    picture = Picture(title, 1.0 + heights.sum())
    panel = picture.panels()[0, 0]
    colours, markers = pictures.palette(rows["sweep"]), pictures.markers(rows["sweep"])
    style = {"hue": "sweep", "palette": colours, "linestyle": "none", "ax": panel}
    style |= {"style": "sweep", "markers": markers, "dashes": False}
    points = rows.assign(place=rows["trial"].map(places))
    style |= {"errorbar": RANGE, "err_style": "bars", "err_kws": {"elinewidth": 1.5}}
    sns.lineplot(points, x=metric, y="place", orient="y", **style)
    panel.set_yticks(
        [places[trial] for trial in order.index[named]],
        [pictures.shortened(titles.get(trial, trial), 40) for trial in order.index[named]],
    )
    panel.set(xlabel=names[metric], ylabel="", ylim=(heights.sum() + ROW, 0))
    picture.explain(*pictures.keys(panel))
    ends = [titles.get(trial, trial) for trial in order.index[[0, -1]]]
    said = f"{ends[0]} ({amount(order.iloc[0])}) is the best of {len(order)} trials by "
    said += f"{names[metric]}, {ends[1]} ({amount(order.iloc[-1])}) the last."
    return picture.say(said, lost)


def front(results: pd.DataFrame, cost: str, value: str) -> pd.DataFrame:
    """The rows that no other row beats: none is at least as cheap and as good, and better in one.

    Lowest `cost` and highest `value` win; equal rows stay together. Rows where either is not
    finite are left out. Sorted by cost.
    """
    known = results.astype({cost: float, value: float}).sort_values(cost, kind="stable")
    known = known[np.isfinite(known[[cost, value]]).all(axis=1)]
    best = known.groupby(cost)[value].max()
    before = best.cummax().shift(fill_value=-np.inf)
    return known[known[value] == known[cost].map(best.where(best > before))]


@theme()
def pareto_front(
    results: pd.DataFrame,
    cost: str,
    value: str,
    title: str,
    titles: Mapping[str, str],
    labels: Mapping[str, str] | None = None,
) -> Picture:
    """All trials by cost, on a logarithmic axis, and worth, means over seeds, and their front.

    The front's trials have numbers in the order of their cost, which the legend names.
    """
    names, rows, lost = _prepared(results, ["sweep"], value, {**(labels or {})})
    means = rows.astype({cost: float}).groupby(["trial", "sweep"], sort=False)[[cost, value]].mean()
    means = means.astype(float).reset_index()
    points = means[np.isfinite(means[[cost, value]]).all(axis=1) & (means[cost] > 0)]
    if points.empty:
        return nothing_finished(title)
    picture = Picture(title, 4.2)
    panel = picture.panels()[0, 0]
    style = {"hue": "sweep", "palette": pictures.palette(points["sweep"]), "ax": panel, "s": 36}
    style |= {"style": "sweep", "markers": pictures.markers(points["sweep"])}
    sns.scatterplot(points, x=cost, y=value, **style, alpha=0.7)
    best = front(points, cost, value).reset_index(drop=True)
    line = {"drawstyle": "steps-post", "color": GREY, "lw": 1.2, "zorder": 1}
    panel.plot(best[cost], best[value], **line, label="Pareto front")
    pictures.logarithmic(panel, "x")
    panel.margins(0.08)
    handles, texts = pictures.keys(panel)
    for number, point in best.iterrows():
        spot = {"xytext": ((-5, 5), (6, -12))[number % 2], "textcoords": "offset points"}
        panel.annotate(str(number + 1), (point[cost], point[value]), ha="center", **spot)
        handles.append(Line2D([], [], ls=""))
        texts.append(f"{number + 1}: {titles.get(point['trial'], point['trial'])}")
    price = names.get(cost, label(cost))
    panel.set(xlabel=price, ylabel=names[value])
    picture.explain(handles, texts)
    gone = len(means) - len(points)
    unseen = f"Not drawn, without a finite {price}: {gone}." if gone else ""
    members = listed((titles.get(trial, trial) for trial in best["trial"]), 8)
    said = f"No trial beats {members} in both {names[value]} and {price}."
    return picture.say(said, unseen, lost)


def _tilt_long(panel: Axes, names: Sequence[str], panels: int = 1) -> None:
    """Tilt the names below one of so many panels side by side, if they would meet."""
    if max(map(len, names)) * len(names) > 50 / panels:
        panel.tick_params(axis="x", rotation=30)


def _prepared(
    results: pd.DataFrame, settings: Sequence[str], metric: str, labels: Mapping[str, str] | None
) -> tuple[dict[str, str], pd.DataFrame, str]:
    """The names of columns, the rows with settings as texts, and a sentence about diverged ones."""
    columns = [*settings, metric]
    names = {name: label(name) for name in columns} | dict(labels or {})
    if results.empty or results.reindex(columns=columns)[metric].isna().all():
        return names, results.iloc[:0], ""
    lost = results.get("diverged", pd.Series(False, results.index)).eq(True)
    finite = results[metric].replace([np.inf, -np.inf], np.nan)
    texts = {name: results[name].map(written) for name in settings}
    rows = results.assign(**texts, **{metric: finite}, diverged=lost)
    told = f"{lost.sum()} of {len(rows)} trainings diverged." if lost.any() else ""
    gone = int((finite.isna() & ~lost).sum())
    if gone:
        told += f" Not drawn: {gone} of {len(rows)} trainings, without a finite {names[metric]}."
    return names, rows, told.strip()
