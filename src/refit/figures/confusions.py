"""Which classes are taken for which, and which labels are predicted too often."""

import numpy as np
import pandas as pd
import seaborn as sns

from refit.figures import picture as pictures
from refit.figures.picture import COLOURS, GREY, WIDTH, Picture, listed, nothing_finished, theme

MOST_NUMBERS = 12  # classes; in smaller cells no number could be read


@theme()
def matrix(confusions: pd.DataFrame, title: str) -> Picture:
    """The share of each true class that is predicted as each class, in per cent.

    `confusions`: a row per seed and pair of classes that occurs, with true, predicted and count,
    true classes in order; shares are means over seeds.
    """
    counts = _counts(confusions)
    if counts.empty:
        return nothing_finished(title)
    shares = 100 * counts.div(counts.sum(axis=1), axis=0).groupby(level="true", sort=False).mean()
    size = len(shares)
    picture = Picture(title, WIDTH * (0.75 if size < MOST_NUMBERS else 0.85))
    panel = picture.panels()[0, 0]
    names = [pictures.shortened(str(name), 22) for name in shares]
    style = {"cmap": "Blues", "vmin": 0, "vmax": 100, "linewidths": 0.5, "fmt": ".0f"}
    style |= {"cbar_kws": {"label": "share of the true class (%)"}}
    style |= {"xticklabels": False, "yticklabels": False, "annot": size <= MOST_NUMBERS}
    sns.heatmap(shares.to_numpy(), ax=panel, **style)
    panel.set(xlabel="predicted class", ylabel="true class")
    panel.set_xticks(np.arange(size) + 0.5, names, rotation=35, ha="right")
    panel.set_yticks(np.arange(size) + 0.5, names)
    return picture.say(_largest(shares), _seeds(confusions))


def _counts(confusions: pd.DataFrame) -> pd.DataFrame:
    """Counts by seed and true class (rows) and predicted class, both in the same order."""
    order = list(dict.fromkeys([*confusions["true"], *confusions["predicted"]]))
    table = confusions.pivot_table(
        index=["seed", "true"], columns="predicted", values="count", aggfunc="sum", fill_value=0
    )
    rows = pd.MultiIndex.from_product([confusions["seed"].unique(), order], names=table.index.names)
    return table.reindex(rows, columns=order, fill_value=0) if len(table) else table


def _largest(shares: pd.DataFrame) -> str:
    """The most frequent confusion in words, and the class that is known best."""
    right = pd.Series(np.diag(shares), shares.index)
    wrong = shares.to_numpy(copy=True)
    np.fill_diagonal(wrong, 0)
    if not np.nanmax(wrong):
        return "Every image is predicted right."
    largest = [
        f"{shares.index[row]} is taken for {shares.columns[column]}"
        for row, column in np.argwhere(wrong == np.nanmax(wrong))
    ]
    best = listed(right.index[right == right.max()])
    return (
        f"Most often {listed(largest)}: {np.nanmax(wrong):.0f} % of its images. "
        f"Best known is {best}, {right.max():.0f} %."
    )


def _seeds(confusions: pd.DataFrame) -> str:
    seeds = confusions["seed"].nunique()
    return f"Means over {seeds} seeds." if seeds > 1 else ""


@theme()
def predictions(confusions: pd.DataFrame, title: str) -> Picture:
    """How many images have a label, beside how many are predicted to have it.

    `confusions` as for `matrix`; bars are means over seeds, error bars their standard deviation.
    """
    counts = _counts(confusions)
    if counts.empty:
        return nothing_finished(title)
    predicted = counts.groupby(level="seed").sum().stack().rename_axis(["seed", "true"])
    kinds = {"labelled": counts.sum(axis=1), "predicted": predicted}
    frame = pd.concat(kinds, names=["kind"]).rename("images").reset_index()
    picture = Picture(title, 1.2 + 0.34 * len(counts.columns))
    panel = picture.panels()[0, 0]
    colours = {"labelled": GREY, "predicted": COLOURS[0]}
    sns.barplot(frame, y="true", x="images", hue="kind", palette=colours, errorbar="sd", ax=panel)
    panel.set(xlabel="test images", ylabel="")
    names = [pictures.shortened(text.get_text(), 22) for text in panel.get_yticklabels()]
    panel.set_yticks(panel.get_yticks(), names)
    picture.explain(*pictures.keys(panel))
    means = frame.groupby(["kind", "true"], sort=False)["images"].mean()
    excess = means["predicted"] - means["labelled"]
    often, rarely = excess.idxmax(), excess.idxmin()
    said = (
        f"Predicted too often: {often} ({excess.max():+,.0f} images); "
        f"too rarely: {rarely} ({excess.min():+,.0f})."
    )
    same = "Every label is predicted as often as it occurs."
    return picture.say(said.replace("-", "−") if excess.any() else same, _seeds(confusions))
