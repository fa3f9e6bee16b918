"""What every figure shares: one theme, colours that can be told apart, a caption, an image.

A figure is drawn with seaborn on the panels of a `Picture`, inside `theme()`:

    with theme():
        picture = Picture("Fashion-MNIST: accuracy of LeNet by optimizer")
        panel = picture.panels()[0, 0]
        sns.stripplot(results, x="optimizer", y="test_accuracy", ax=panel)
    picture.say("Adam is ahead of SGD by 0.031.")
"""

import html
import io
import math
import re
import textwrap
import warnings
from base64 import b64encode
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from cycler import cycler
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from PIL import Image

from refit.figures.labels import amount
from refit.files import write_bytes

# Okabe and Ito (2008): told apart with any of the common colour-vision deficiencies.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#444444")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#666666"
# All pictures are equally wide. Text of 10 points is 9 pixels high where a telephone shows
# the picture 400 pixels wide, so no text is smaller and no row has more than two wide panels.
WIDTH = 6.2  # inches
TEXT = 10  # points
RESOLUTION = 130  # dots per inch
SHOWN = 720  # pixels that a page with room gives to a picture
CHARACTERS = 56  # of a title or a row of the legend
THEME = {
    **sns.axes_style("whitegrid"),
    **sns.plotting_context("paper", rc={"lines.linewidth": 1.8, "lines.markersize": 5}),
    **dict.fromkeys(("font.size", "axes.labelsize", "xtick.labelsize", "ytick.labelsize"), TEXT),
    **dict.fromkeys(("axes.titlesize", "legend.fontsize", "legend.title_fontsize"), TEXT),
    "axes.prop_cycle": cycler(color=COLOURS),  # seaborn's palette too, where it is told of none
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same on every machine
    "figure.titlesize": TEXT + 1,
    "figure.titleweight": "bold",
    "legend.frameon": False,
    "text.parse_math": False,  # names are shown as they are written, dollars too
}


@contextmanager
def theme() -> Iterator[None]:
    """Draw in the reports' style inside this context, or in the function that it decorates.

    Neither a matplotlibrc nor what a notebook has set or drawn at random matters, and nothing is
    changed for later: the same numbers give the same picture, seaborn's jitter too.
    """
    state = np.random.get_state()
    np.random.seed(0)
    with style.context(THEME, after_reset=True), warnings.catch_warnings():
        # Of a character that the font lacks: a box stands for it, `alt` has it.
        warnings.filterwarnings("ignore", message="Glyph ")
        try:
            yield
        finally:
            np.random.set_state(state)


class Picture(Figure):
    """A figure with a title, a caption that says what is seen, and the same as alternative text.

    `title` names the experiment and the subject; `height` is in inches and grows with the legend.
    """

    @theme()
    def __init__(self, title: str, height: float = 3.6):
        super().__init__((WIDTH, height), RESOLUTION, layout="constrained", facecolor="white")
        FigureCanvasAgg(self)
        self.title = title
        self.caption = ""
        self.name = ""
        self.absent = False
        self._drawn = b""
        self.suptitle(textwrap.fill(title, CHARACTERS), x=0.01, ha="left")

    @property
    def alt(self) -> str:
        """The words for readers who cannot see the picture."""
        return ". ".join(filter(None, [self.title, self.caption]))

    @theme()
    def panels(self, rows: int = 1, columns: int = 1, **shared: Any) -> np.ndarray:
        """Add rows x columns axes, share them as `Figure.subplots` does, return a 2-D array."""
        return self.subplots(rows, columns, squeeze=False, **shared)

    def say(self, *sentences: str) -> "Picture":
        """Add to the caption what the data show; empty sentences add nothing."""
        self.caption = " ".join(filter(None, [self.caption, *sentences]))
        return self

    @theme()
    def explain(self, handles: Sequence[Any], labels: Sequence[str], title: str = "") -> None:
        """A legend below all panels, in as many rows as its labels need."""
        if not labels:
            return
        names = [shortened(str(name), CHARACTERS - 6) for name in labels]
        columns = min(len(names), max(1, CHARACTERS // (max(map(len, names)) + 6)))
        rows = math.ceil(len(names) / columns) + bool(title)
        self.set_figheight(self.get_figheight() + 0.1 + 0.2 * rows)
        self.legend(handles, names, title=title, loc="outside lower center", ncols=columns)

    @theme()
    def png(self) -> bytes:
        """The figure as a PNG of at most 256 colours, a third of the size of one in full colour.

        Drawn once, for the file and the page: a figure is finished when it is first looked at.
        """
        if not self._drawn:
            buffer = io.BytesIO()
            self.savefig(buffer, format="png", dpi=RESOLUTION)
            image = Image.open(buffer).convert("RGB").quantize(256, dither=Image.Dither.NONE)
            smaller = io.BytesIO()
            image.save(smaller, format="png", optimize=True)
            self._drawn = smaller.getvalue()
        return self._drawn

    def save(self, folder: Path, name: str) -> "Picture":
        """Write folder/name.png in one step; returns the picture, so that a cell can end in it.

        One that has nothing to show is not written.
        """
        self.name = name
        if not self.absent:
            write_bytes(folder / f"{name}.png", self.png())
        return self

    def _repr_html_(self) -> str:
        if self.absent:
            return f'<p class="absent">{html.escape(self.alt)}</p>'
        finding, *rest = (
            html.escape(said) for said in re.split(r"(?<=[.]) ", self.caption, maxsplit=1)
        )
        caption = f"<figcaption><b>{finding}</b> {' '.join(rest)}</figcaption>" if finding else ""
        anchor = f' id="figure-{html.escape(self.name)}"' if self.name else ""
        source = f"data:image/png;base64,{b64encode(self.png()).decode()}"
        return (
            f'<figure{anchor}><img src="{source}" alt="{html.escape(self.alt)}" width="{SHOWN}" '
            f'style="max-width: 100%; height: auto">{caption}</figure>'
        )


def nothing_finished(title: str, why: str = "No trial of this figure is finished.") -> Picture:
    """A sentence in place of a figure that has nothing to show yet."""
    picture = Picture(title, 0.9).say(why)
    picture.absent = True
    return picture


def keys(panel: Axes) -> tuple[list[Any], list[str]]:
    """What the legend of a panel explains, each name once, for `Picture.explain`; removes it."""
    named = dict(zip(*panel.get_legend_handles_labels()[::-1], strict=True))
    if legend := panel.get_legend():
        legend.remove()
    return list(named.values()), list(named)


def palette(names: Iterable[Hashable]) -> dict[Hashable, str]:
    """A colour for each name, for seaborn; from the eighth on they return with other markers."""
    return {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(dict.fromkeys(names))}


def markers(names: Iterable[Hashable]) -> dict[Hashable, str]:
    """A marker for each name, for seaborn: no two of the first 49 share it and the colour."""
    return {
        name: MARKERS[(place + place // len(COLOURS)) % len(MARKERS)]
        for place, name in enumerate(dict.fromkeys(names))
    }


def shades(values: Iterable[Hashable]) -> dict[Hashable, tuple[float, ...]]:
    """A colour for each value of an ordered setting, from dark for the first to bright."""
    ordered = list(dict.fromkeys(values))
    scale = sns.color_palette("plasma", as_cmap=True)  # on white nobody sees its brightest
    return dict(zip(ordered, map(tuple, scale(np.linspace(0, 0.85, len(ordered)))), strict=True))


def in_order(values: Iterable[Hashable]) -> list[Hashable]:
    """Every value once: numbers by size, then texts."""
    return sorted(set(values), key=lambda value: (isinstance(value, str), value))


def written(value: Any) -> str:
    """The value of a setting as a reader writes it: 16, not 16.0; a dash where there is none."""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return "–"
    return f"{value:g}" if isinstance(value, int | float | np.number) else str(value)


def shortened(text: str, most: int = 24) -> str:
    """The beginning of a name for which a figure has no room; beside rows it would take all."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def listed(names: Iterable[Any], most: int = 3) -> str:
    """Names in a sentence: "a, b and c", or "a, b and 5 more"."""
    texts = [written(name) for name in names]
    if len(texts) > most:
        texts = [*texts[: most - 1], f"{len(texts) - most + 1} more"]
    return " and ".join(filter(None, [", ".join(texts[:-1]), *texts[-1:]]))


def extremes(means: pd.Series, what: str, setting: str) -> str:
    """A sentence for a caption: with which value of a setting (the index) a mean is extreme."""
    ranked = means.dropna().sort_values()
    if ranked.empty:
        return ""
    told = [f"{written(value)} ({amount(mean)})" for value, mean in ranked.items()]
    if len(told) == 1:
        return f"Mean {what} with {setting} {told[0]}."
    if amount(ranked.iloc[0]) == amount(ranked.iloc[-1]):
        return f"Mean {what} is the same with every {setting}, {amount(ranked.iloc[0])}."
    return f"Mean {what} is highest with {setting} {told[-1]} and lowest with {told[0]}."


def logarithmic(panel: Axes, *directions: str) -> None:
    """Make the axes `x` or `y` of a panel logarithmic, with plain numbers as ticks."""
    for direction in directions:
        panel.set(**{f"{direction}scale": "log"})
        axis = getattr(panel, f"{direction}axis")
        low, high = axis.get_view_interval()
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        axis.set_minor_locator(NullLocator())


def loss_limit(highest: pd.Series) -> float:
    """Where an axis of losses ends: an exploding trial would otherwise flatten all other curves.

    `highest` has the highest loss of each trial or seed; those beyond four times a middling one's
    are left out, infinite ones too. Who draws says in the caption how many go beyond.
    """
    known = highest[np.isfinite(highest.astype(float))]
    if known.empty:
        return 1.0
    usual = known[known <= 4 * known.quantile(0.5, interpolation="lower")]
    return 1.05 * float(usual.max()) or 1.0
