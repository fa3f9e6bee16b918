"""What a report printed beside what the same trials reach here."""

import numpy as np
import pandas as pd
import seaborn as sns

from refit.figures import picture as pictures
from refit.figures.picture import COLOURS, GREY, Picture, listed, nothing_finished, theme

ROW = 0.23  # inches
SOURCES = {"published": COLOURS[1], "reproduced": COLOURS[0]}


@theme()
def published_against_reproduced(frame: pd.DataFrame, title: str, label: str) -> Picture:
    """A row for each trial: the published value as a ring, the reproduced mean as a dot.

    `frame`: trial, title, published, reproduced (mean over seeds), lower and upper (lowest and
    highest seed); a value may be missing. `label` names the measured quantity and its unit.
    """
    frame = frame.replace([np.inf, -np.inf], np.nan).reset_index(drop=True)
    if frame.empty or frame["reproduced"].isna().all():
        return nothing_finished(title)
    picture = Picture(title, 1.0 + ROW * len(frame))
    panel = picture.panels()[0, 0]
    rows = frame.index
    panel.hlines(rows, frame["published"], frame["reproduced"], color=GREY, lw=1)
    style = {"color": SOURCES["reproduced"], "lw": 5, "alpha": 0.35}
    panel.hlines(rows, frame["lower"], frame["upper"], **style, label="lowest to highest seed")
    values = frame.reset_index().melt("index", list(SOURCES), var_name="source")
    marks = {"style": "source", "markers": dict(zip(SOURCES, "Do", strict=True)), "s": 45}
    colours = {"hue": "source", "palette": SOURCES}
    sns.scatterplot(values, x="value", y="index", **colours, **marks, ax=panel, zorder=3)
    names = frame["title"].where(frame["reproduced"].notna(), frame["title"] + " (not run)")
    panel.set_yticks(rows, [pictures.shortened(name, 34) for name in names])
    panel.set(xlabel=label, ylabel="", ylim=(len(frame) - 0.4, -0.6))
    picture.explain(*pictures.keys(panel))
    return picture.say(*_differences(frame, label))


def _differences(frame: pd.DataFrame, label: str) -> list[str]:
    """How often the reproduced value is higher or lower, where most, and what was not run."""
    known = frame.dropna(subset=["published", "reproduced"]).set_index("title")
    more = known["reproduced"] - known["published"]
    missing = frame.loc[frame["reproduced"].isna(), "title"]
    absent = f"Not run: {listed(missing)}." if len(missing) else ""
    if more.empty:
        return [absent]
    most = int(more.abs().argmax())
    there, here = (pictures.amount(known[source].iloc[most]) for source in SOURCES)
    return [
        f"Reproduced {label} is higher than published in {(more > 0).sum()} of {len(more)} trials "
        f"and lower in {(more < 0).sum()}.",
        f"Most apart is {known.index[most]}: {there} published, {here} reproduced.",
        absent,
    ]
