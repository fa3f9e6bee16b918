"""Curves of single batches: those of one seed, and running means of every seed above them."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.ticker import FuncFormatter

from refit.figures import picture as pictures
from refit.figures.labels import label
from refit.figures.picture import COLOURS, GREY, Picture, nothing_finished, theme

WINDOW = 100  # batches: single ones are too noisy to be compared, so their running mean is drawn


@theme()
def batch_curves(
    batches: pd.DataFrame,
    title: str,
    titles: Mapping[str, str],
    behind: Mapping[str, str] | None = None,
    measures: Sequence[str] = ("batch_loss",),
) -> Picture:
    """A panel for each trial and measure: batches of one seed, pale, and a running mean per seed.

    `batches`: one row per trial, seed and batch (from 0), with batch_loss in nats, batch_accuracy
    as a fraction, and `images` seen so far, where batch sizes differ. `titles` maps the trials to
    draw to the panels' titles. `behind` maps them to an ordinary training, drawn in grey.
    """
    trials = [trial for trial in titles if (batches["trial"] == trial).any()]
    if not trials:
        return nothing_finished(title)
    x = "images" if "images" in batches else "batch"
    picture = Picture(title, 0.6 + 1.9 * len(trials) * len(measures))
    panels = picture.panels(len(trials) * len(measures), 1, sharex=True)[:, 0]
    rows = _smoothed(batches[batches["trial"].isin([*trials, *(behind or {}).values()])])
    places = [(trial, measure) for trial in trials for measure in measures]
    for panel, (trial, measure) in zip(panels, places, strict=True):
        drawn = [((behind or {}).get(trial), GREY), (trial, COLOURS[0])]
        for name, colour in drawn:
            part = rows[rows["trial"] == name]
            style = {"color": colour, "units": "seed", "estimator": None, "legend": False}
            if len(part):
                one = part[part["seed"] == part["seed"].min()]
                sns.lineplot(one, x=x, y=measure, alpha=0.2, lw=0.5, ax=panel, **style)
                sns.lineplot(part, x=x, y=f"mean_{measure}", lw=1.4, ax=panel, **style)
        ordinary = titles.get(drawn[0][0], drawn[0][0])
        ran = "grey" if (rows["trial"] == drawn[0][0]).any() else "not run"
        over = f" ({ran}: {ordinary})" if ordinary else ""
        panel.set_title(textwrap.fill(f"{titles[trial]}{over}", 70), loc="left")
        panel.set_ylabel(label(measure))
        panel.set_xlabel({"images": "images seen", "batch": "batches"}[x])
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        if measure.endswith("loss"):
            of_trials = rows.groupby("trial")
            usual = of_trials[measure].quantile(0.995)
            usual = usual.combine(of_trials[f"mean_{measure}"].max(), max)
            panel.set_ylim(0, pictures.loss_limit(usual))
    panels[0].plot([], [], color=COLOURS[0], lw=0.8, alpha=0.4, label="single batches of one seed")
    panels[0].plot([], [], color=COLOURS[0], label=f"every seed, mean over up to {WINDOW} batches")
    picture.explain(*pictures.keys(panels[0]))
    return picture.say(*(_batch_sentence(rows, trial, titles[trial]) for trial in trials))


def _smoothed(batches: pd.DataFrame) -> pd.DataFrame:
    """The batches in order with running means over WINDOW or a quarter of them, seed by seed."""
    rows = batches.replace([np.inf, -np.inf], np.nan)
    rows = rows.sort_values(["trial", "seed", "batch"], ignore_index=True)
    measures = [name for name in ("batch_loss", "batch_accuracy") if name in rows]

    def running_mean(values: pd.Series) -> pd.Series:
        length = min(WINDOW, max(1, len(values) // 4))
        return values.rolling(length, center=True, min_periods=(length + 1) // 2).mean()

    means = rows.groupby(["trial", "seed"])[measures].transform(running_mean)
    return rows.join(means.add_prefix("mean_"))


def _batch_sentence(rows: pd.DataFrame, trial: str, name: str) -> str:
    part = rows[rows["trial"] == trial]
    means = part.sort_values("batch").groupby("seed")["mean_batch_loss"]
    lost = int(part["batch_loss"].isna().sum())
    words = f"{name}: the mean loss goes from {means.first().mean():.3g} to "
    words += f"{means.last().mean():.3g}" if not lost else f"no number, in {lost:,} batches"
    rise = means.agg(lambda mean: (mean - mean.cummin()).max())
    worst = f"rises again by {rise.max():.2g} in the worst seed"
    return f"{words}; on the way it {worst}, by {rise.median():.2g} in a middling one."
