"""Figures of a few trainings looked at closely: their single batches, losses and confusions.

`plots` compares the epochs of whole families and `grid_plots` the results of searches;
here are the curves of single trials, as fine as they were recorded. Every function takes tables or
a matrix and returns a picture.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from refit.errors import ReportError
from refit.figures.old_picture import (
    COLOURS,
    Picture,
    checked,
    checked_matrix,
    count_trials,
    cut,
    legend_columns,
    nothing_finished,
    place_labels,
)

# Single batches are too noisy to be compared; the mean over so many is drawn above them.
WINDOW = 100
# A line has at most two vertices per column: more than the pixels of a page's width show nothing.
COLUMNS = 1000
GREY = "#777777"
HEADING = {"weight": "bold", "size": 11}  # of a legend that stands above the panels
BATCHES = {"trial", "seed", "batch", "batch_loss", "batch_accuracy"}


def batch_curves(
    frame: pd.DataFrame, title: str, titles: Mapping[str, str], background: str | None = None
) -> Picture:
    """Loss and accuracy of every batch, pale, and above them their running mean.

    `frame`: one row per trial, seed and batch (from 0), with batch_loss in nats and batch_accuracy
    as a fraction; every seed has its own line. `titles` names trials in the legend; `background`
    is a trial of the frame to draw in grey, behind the others.
    """
    frame = checked(frame, BATCHES)
    if frame.empty:
        return nothing_finished(title)
    trials = sorted(dict.fromkeys(frame["trial"]), key=lambda trial: trial != background)
    picture = Picture(11, 6.4, f"{title}: loss and accuracy of the batches of {', '.join(trials)}")
    upper, lower = picture.panels(2, 1, sharex=True)[:, 0]
    window = _window(frame)
    colours = dict(zip(trials, _colours(trials, background), strict=True))
    for trial, colour in colours.items():
        rows = frame[frame["trial"] == trial]
        _draw_batches(upper, rows, "batch_loss", colour, window)
        _draw_batches(lower, rows, "batch_accuracy", colour, window)
    loss = cut(*_high_losses(frame, window))
    upper.set(ylabel=f"batch loss{loss.note}", ylim=loss.limits)
    lower.set(ylabel="batch accuracy", ylim=(None, 1.01), xlabel="batches")
    _count_with_commas(lower)
    names = [Line2D([], [], color=c, label=titles.get(t, t)) for t, c in colours.items()]
    if len(trials) > 1:
        handles = [*names, *_batch_legend(window, "#222222")]
    else:
        handles = _batch_legend(window, COLOURS[0])
    columns = legend_columns(handles)
    heading = {"title": title, "title_fontproperties": HEADING, "fontsize": 9}
    picture.legend(handles=handles, loc="outside upper center", ncols=columns, **heading)
    picture.note(_not_finite(frame["batch_loss"], "batches"))
    return picture


def batch_losses(
    frame: pd.DataFrame,
    background: Mapping[str, str],
    titles: Mapping[str, str],
    images_per_batch: Mapping[str, int] | None = None,
) -> Picture:
    """A panel per special trial: the losses of its batches, before those of an ordinary training.

    `frame`: one row per trial, seed and batch (from 0) with batch_loss in nats. `background` maps
    each special trial, in the order of the panels, to the ordinary trial behind it, both in the
    frame; what is not there is not drawn. `titles` names both. Where batch sizes differ,
    `images_per_batch` (trial -> images) makes the x axis count images seen instead of batches.
    """
    frame = checked(frame, BATCHES - {"batch_accuracy"})
    trials = [trial for trial in background if len(frame) and (frame["trial"] == trial).any()]
    if not trials:
        return nothing_finished("losses of single batches")
    frame = frame[frame["trial"].isin({*trials, *background.values()})]
    frame = _with_images(frame, images_per_batch)
    columns = min(2, len(trials))
    rows = math.ceil(len(trials) / columns)
    picture = Picture(11, 0.8 + 2.9 * rows, f"losses of the batches of {', '.join(trials)}")
    axes = picture.panels(rows, columns, sharey=True, sharex=images_per_batch is not None)
    window = _window(frame)
    loss = cut(*_high_losses(frame, window))
    axes[0, 0].set_ylim(loss.limits)
    for panel, trial in zip(axes.flat, trials, strict=False):
        ordinary = frame[frame["trial"] == background[trial]]
        special = frame[frame["trial"] == trial]
        _draw_batches(panel, ordinary, "batch_loss", GREY, window)
        _draw_batches(panel, special, "batch_loss", COLOURS[0], window)
        behind = titles.get(background[trial], background[trial])
        facts = [f"in grey: {behind}" if len(ordinary) else f"not run: {behind}"]
        facts += _beyond(special, loss.limits[1])
        name = titles.get(trial, trial)
        panel.set_title(name, fontweight="bold", fontsize=10, pad=4 + 11 * len(facts))
        panel.text(
            *(0.5, 1.02, "\n".join(facts)),
            **{"transform": panel.transAxes, "ha": "center", "fontsize": 8.5, "color": "#555555"},
        )
        _count_with_commas(panel)
    for panel in axes.flat[len(trials) :]:
        panel.set_visible(False)
    for panel in axes.flat[max(0, len(trials) - columns) : len(trials)]:
        panel.set_xlabel("batches" if images_per_batch is None else "images seen")
        panel.tick_params(labelbottom=True)
    picture.supylabel(f"batch loss{loss.note}", fontsize=9.5)
    handles = _batch_legend(window, COLOURS[0])
    picture.legend(handles=handles, loc="outside upper center", ncols=2)
    picture.note(_not_finite(frame["batch_loss"], "batches"))
    return picture


def train_and_test_loss(
    curves: pd.DataFrame, title: str, labels: tuple[str, str] = ("train loss", "test loss")
) -> Picture:
    """Both losses of one trial against epoch, with the epoch in which the second is lowest.

    `curves`: one row per seed and epoch of the trial, with train_loss and val_loss in nats; lines
    are means over seeds, bands reach from the lowest to the highest. `labels` names the lines.
    Raises ReportError for the curves of several trials.
    """
    curves = checked(curves, {"trial", "seed", "epoch", "train_loss", "val_loss"})
    if curves.empty:
        return nothing_finished(title)
    if curves["trial"].nunique() > 1:
        raise ReportError(f"the losses of one trial are drawn, not of {count_trials(curves)}")
    picture = Picture(9, 4.8, f"{title}: {labels[0]} and {labels[1]} against epoch")
    panel = picture.panels(1, 1)[0, 0]
    losses = curves.groupby("epoch")[["train_loss", "val_loss"]]
    mean, low, high = losses.mean(), losses.min(), losses.max()
    for column, label, colour in zip(mean, labels, COLOURS, strict=False):
        marker = "o" if len(mean) < 2 else None
        panel.plot(mean.index, mean[column], color=colour, lw=1.8, marker=marker, label=label)
        panel.fill_between(mean.index, low[column], high[column], color=colour, alpha=0.15, lw=0)
    loss = cut(mean.max())
    panel.set(xlabel="epoch", ylabel=f"loss{loss.note}", ylim=loss.limits)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    heading = {"title": title, "title_fontproperties": HEADING}
    picture.legend(loc="outside upper center", ncols=2, **heading)
    picture.note(_not_finite(curves[["train_loss", "val_loss"]], "losses"))
    if mean["val_loss"].notna().any():
        epoch, lowest = mean["val_loss"].idxmin(), mean["val_loss"].min()
        panel.plot([epoch], [lowest], "o", color=COLOURS[1], mec="white", ms=8)
        drawn = [(epoch, value) for column in mean for epoch, value in mean[column].items()]
        text = f"lowest {labels[1]}: {lowest:.4f} in epoch {epoch}"
        place_labels(panel, np.array([(epoch, lowest)]), [text], np.array(drawn))
    return picture


def prediction_distribution(matrix: np.ndarray, class_names: Sequence[str], title: str) -> Picture:
    """How many images have each label, beside how many are predicted to have it.

    `matrix`: (classes, classes) counts, rows are true classes. The number above a pair is how many
    more, or fewer, are predicted. Raises ReportError where the names do not fit the matrix.
    """
    counts, names = checked_matrix(matrix, class_names)
    if not counts.size:
        return nothing_finished(f"{title}: labels and predictions")
    labelled, predicted = counts.sum(axis=1), counts.sum(axis=0)
    picture = Picture(9, 4.6, f"{title}: images with a label and predicted to have it, per class")
    panel = picture.panels(1, 1)[0, 0]
    places = np.arange(len(names))
    panel.bar(places - 0.2, labelled, 0.38, color="#999999", label="images with this label")
    panel.bar(places + 0.2, predicted, 0.38, color=COLOURS[0], label="predicted to have it")
    for place, (truth, guess) in enumerate(zip(labelled, predicted, strict=True)):
        panel.annotate(
            f"{guess - truth:+,}".replace("-", "−") if guess != truth else "0",
            (place, max(truth, guess)),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            fontsize=8.5,
        )
    slanted = {"rotation": 35, "ha": "right"} if max(map(len, names)) * len(names) > 120 else {}
    panel.set_xticks(places, names, **slanted)
    panel.margins(y=0.1)
    panel.grid(axis="x", visible=False)
    panel.set(ylabel="images")
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    panel.set_title(title, fontweight="bold")
    picture.legend(loc="outside lower center", ncols=2)
    return picture


def predictions_by_label(
    matrix: np.ndarray, class_names: Sequence[str], title: str, least: float = 0.05
) -> Picture:
    """A bar per true label: the share predicted right, then the confusions from large to small.

    `matrix`: (classes, classes) counts, rows are true classes. Confusions of at least the share
    `least` are named beside the bar. Raises ReportError where the names do not fit the matrix.
    """
    counts, names = checked_matrix(matrix, class_names)
    if not counts.size:
        return nothing_finished(f"{title}: predictions by label")
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    picture = Picture(11, 1.8 + 0.36 * len(names), f"{title}: predicted labels of each true label")
    panel = picture.panels(1, 1)[0, 0]
    palette = [*COLOURS[:6], *(_tint(colour) for colour in COLOURS[:6])]
    colours = [palette[index % len(palette)] for index in range(len(names))]
    for row, share in enumerate(shares):
        panel.barh(row, share[row], 0.72, color="#444444", lw=0)
        if share[row] > 0.08:
            panel.text(0.01, row, f"{share[row]:.1%}", va="center", color="white", fontsize=9)
        end, large = share[row], []
        for guess in np.argsort(-share, kind="stable"):
            if guess == row or not share[guess]:
                continue
            panel.barh(row, share[guess], 0.72, left=end, color=colours[guess], ec="white", lw=0.4)
            end += share[guess]
            if share[guess] >= least:
                large.append(f"{names[guess]} {share[guess]:.0%}")
        text = ", ".join(large) if share.any() else "no images"
        panel.text(1.01, row, text, va="center", fontsize=8.5, color="#333333")
    panel.set(xlim=(0, 1), ylim=(len(names) - 0.5, -0.5), ylabel="true class")
    panel.set_yticks(range(len(names)), names)
    panel.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    panel.set_xlabel(f"share of the images; confusions of at least {least:.0%} are named")
    panel.grid(axis="y", visible=False)
    panel.set_title(title, fontweight="bold")
    handles = [Patch(color="#444444", label="correct")]
    handles += [Patch(color=colours[k], label=name) for k, name in enumerate(names)]
    ncols = legend_columns(handles, 120)
    picture.legend(handles=handles, loc="outside lower center", ncols=ncols, fontsize=8.5)
    return picture


def _draw_batches(panel: Axes, rows: pd.DataFrame, column: str, colour: str, window: int) -> None:
    for _, seed in rows.sort_values("batch").groupby("seed", sort=False):
        x = seed["seen"].to_numpy() if "seen" in seed else seed["batch"].to_numpy() + 1
        mean = _running_mean(seed[column], window)
        order = 1 if colour == GREY else 2
        panel.plot(*_envelope(x, seed[column]), color=colour, alpha=0.3, lw=0.5, zorder=order)
        panel.plot(*_envelope(x, mean), color=colour, lw=1.5, zorder=order + 2)


def _envelope(x: np.ndarray, values: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """The line's lowest and highest value in each of many columns: extremes are never dropped."""
    y = values.to_numpy(float)
    if len(y) <= 2 * COLUMNS:
        return x, y
    starts = np.linspace(0, len(y), COLUMNS, endpoint=False).astype(int)
    extremes = np.fmin.reduceat(y, starts), np.fmax.reduceat(y, starts)
    return np.repeat(x[starts], 2), np.stack(extremes, axis=1).ravel()


def _window(frame: pd.DataFrame) -> int:
    """Batches of the running mean: fewer than usual where no training has many more."""
    return int(min(WINDOW, max(1, frame.groupby(["trial", "seed"]).size().max() // 4)))


def _running_mean(values: pd.Series, window: int) -> pd.Series:
    return values.rolling(window, center=True, min_periods=(window + 1) // 2).mean()


def _high_losses(frame: pd.DataFrame, window: int) -> tuple[pd.Series, float]:
    """The loss of each trial below which its means and nearly all batches are, and the highest."""
    losses = frame.groupby("trial")["batch_loss"]
    means = losses.agg(lambda values: _running_mean(values, window).max())
    return losses.quantile(0.995).combine(means, max), losses.max().max()


def _with_images(frame: pd.DataFrame, images_per_batch: Mapping[str, int] | None) -> pd.DataFrame:
    if images_per_batch is None:
        return frame
    if missing := sorted(set(frame["trial"]) - set(images_per_batch)):
        raise ReportError(f"no images per batch are given for {', '.join(missing)}")
    images = frame["trial"].map(dict(images_per_batch))
    return frame.assign(seen=(frame["batch"] + 1) * images)


def _beyond(rows: pd.DataFrame, end: float) -> list[str]:
    """A line of text where some batches are not in the panel, or none."""
    above, lost = (rows["batch_loss"] > end).sum(), rows["batch_loss"].isna().sum()
    facts = [f"{above:,} batch{'es' if above > 1 else ''} above the axis"] if above else []
    facts += [f"{lost:,} without a finite loss"] if lost else []
    return [f"{' and '.join(facts)}, of {len(rows):,}"] if facts else []


def _not_finite(values: pd.Series | pd.DataFrame, what: str) -> str:
    lost = int(values.isna().to_numpy().sum())
    return f"Not drawn: {lost:,} of {values.size:,} {what}, without a finite loss" if lost else ""


def _batch_legend(window: int, colour: str) -> list[Line2D]:
    return [
        Line2D([], [], color=colour, alpha=0.3, lw=1, label="single batches"),
        Line2D([], [], color=colour, label=f"mean over {window} batches"),
    ]


def _colours(trials: Sequence[str], background: str | None) -> Iterator[str]:
    strong = 0
    for trial in trials:
        yield GREY if trial == background else COLOURS[strong % len(COLOURS)]
        strong += trial != background


def _tint(colour: str) -> tuple[float, ...]:
    return tuple((1 + part) / 2 for part in to_rgb(colour))


def _count_with_commas(panel: Axes) -> None:
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
