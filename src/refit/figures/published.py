"""What a report printed beside what the same trainings reach here."""

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from refit.figures import picture as pictures
from refit.figures.labels import AGREEMENTS
from refit.figures.picture import Picture, listed, nothing_finished, theme

ROW = 0.25  # inches
MOST, PANELS = 14, 3  # rows, and quantities


@theme()
def published_against_reproduced(frame: pd.DataFrame, title: str) -> Picture:
    """A row for each number: a diamond as published, a dot for our mean, a bar for its interval.

    `frame`: name, label (of the quantity, with its unit; each has a panel), published, reproduced,
    lower and upper (where another training would lie, or the lowest and highest one) and agreement,
    a key of AGREEMENTS. What is not measured is counted in the caption, and so are rows beyond
    MOST, of which those stay that agree least.
    """
    frame = frame.replace([np.inf, -np.inf], np.nan)
    known = frame.dropna(subset=["published", "reproduced"])
    if known.empty:
        return nothing_finished(title)
    half = (known["upper"] - known["lower"]).div(2).where(lambda width: width > 0)
    apart = (known["reproduced"] - known["published"]).abs().div(half).fillna(0)
    common = known["label"].isin(known["label"].value_counts().index[:PANELS])
    drawn = apart[common].sort_values(ascending=False, kind="stable").index[:MOST]
    shown = known[known.index.isin(drawn)]
    groups = [rows for _, rows in shown.groupby("label", sort=False)]
    picture = Picture(title, 0.7 + ROW * len(shown) + 0.6 * len(groups))
    heights = [len(rows) + 0.5 for rows in groups]
    for panel, rows in zip(
        picture.panels(len(groups), 1, height_ratios=heights)[:, 0], groups, strict=True
    ):
        _draw(panel, rows)
    panel.plot([], [], "D", color="#222222", mfc="white", label="published")
    panel.plot([], [], "o", color="#222222", label="here, the mean")
    if (half[drawn] > 0).any():
        panel.plot([], [], color="#222222", lw=6, alpha=0.35, label="where one more would lie")
    picture.explain(*pictures.keys(picture.axes[-1]))
    return picture.say(*_findings(frame, known, shown))


def _draw(panel, rows: pd.DataFrame) -> None:
    places = range(len(rows))
    colours = rows["agreement"].map(AGREEMENTS)
    panel.hlines(places, rows["lower"], rows["upper"], color=colours, lw=6, alpha=0.35)
    panel.scatter(rows["reproduced"], places, color=colours, s=36, zorder=3)
    style = {"marker": "D", "s": 34, "facecolor": "white", "edgecolor": "#222222", "zorder": 4}
    panel.scatter(rows["published"], places, **style)
    panel.set_yticks(places, [pictures.shortened(name, 44) for name in rows["name"]])
    panel.set(xlabel=rows["label"].iloc[0], ylabel="", ylim=(len(rows) - 0.4, -0.6))
    panel.xaxis.set_major_locator(MaxNLocator(5))  # more numbers of four digits would touch
    panel.grid(visible=False, axis="y")


def _findings(frame: pd.DataFrame, known: pd.DataFrame, shown: pd.DataFrame) -> list[str]:
    """How many numbers agree, where most they differ, and what is not seen."""
    compared = known[known["agreement"].isin(["agrees", "differs"])]
    agree = int((compared["agreement"] == "agrees").sum())
    told = [f"{agree} of {len(compared)} published numbers lie where a repetition would."]
    if shown["agreement"].eq("not judged here").all():
        told = ["None of these numbers can be compared with the report's."]
    for name, colour in (
        ("differs", "red"),
        ("too few seeds", "yellow"),
        ("not judged here", "grey"),
    ):
        rows = known[known["agreement"] == name]
        if len(rows):
            told.append(f"{name.capitalize()} ({colour}): {listed(rows['name'].unique(), 4)}.")
    if len(shown) < len(known):
        told.append(f"Drawn are {len(shown)} of {len(known)}, those that agree least.")
    missing = len(frame) - len(known)
    return [*told, f"Not measured yet: {missing} more." if missing else ""]
