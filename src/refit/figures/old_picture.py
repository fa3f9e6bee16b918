"""A figure that notebooks and pages can show: small, described in words, with readable labels.

Here too is what every module that draws does to its input: check it, and say what is not drawn.
"""

import io
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context, style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, NullLocator
from matplotlib.transforms import Bbox
from PIL import Image

from refit.errors import ReportError
from refit.experiments.metrics import METRICS
from refit.files import write_bytes

# The reports drew with seaborn's darkgrid; matplotlib's copy of it spares seaborn's import time.
STYLE = ("seaborn-v0_8-darkgrid", "seaborn-v0_8-paper", {"axes.labelsize": 9.5, "font.size": 9.5})
# Okabe and Ito (2008): told apart with any of the common colour-vision deficiencies.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#444444")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
RESOLUTION = 110  # dots per inch: as wide as the page's column, and small files
DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))


class Picture(Figure):
    """A figure in the reports' grey grid; a notebook shows it whatever matplotlib's backend.

    `description` is the text for readers who cannot see it. Sizes are in inches.
    """

    def __init__(self, width: float, height: float, description: str):
        with style.context(STYLE):
            # What measures its own text, such as `place_labels`, does so as it will be drawn.
            super().__init__((width, height), RESOLUTION, layout="constrained", facecolor="white")
        FigureCanvasAgg(self)
        self.description = description
        self._drawn = b""

    def panels(self, rows: int, columns: int, **shared) -> np.ndarray:
        """Add rows x columns axes and return them as a two-dimensional array."""
        with style.context(STYLE):
            return self.subplots(rows, columns, squeeze=False, **shared)

    def draw(self, renderer: RendererBase) -> None:
        """Draw names as written: two dollars do not make mathematics of what is between."""
        for text in self.findobj(Text):
            text.set_parse_math(False)
        with rc_context({"text.parse_math": False}):
            super().draw(renderer)

    def note(self, sentence: str) -> None:
        """Write below the panels what a reader has to know about them; nothing if it is empty."""
        if sentence:
            self.supxlabel(sentence, fontsize=8.5, color="#555555")
            self.description += f". {sentence}"

    def png(self) -> bytes:
        """The figure as a PNG of at most 256 colours, a third of the size of one in full colour.

        Drawn once, for the file and the page: a figure is finished when it is first looked at.
        """
        if self._drawn:
            return self._drawn
        buffer = io.BytesIO()
        with warnings.catch_warnings():
            # Of a character that the font lacks: a box stands for it, the description has it.
            warnings.filterwarnings("ignore", message="Glyph ")
            self.savefig(buffer, format="png", dpi=RESOLUTION)
        image = Image.open(buffer).convert("RGB").quantize(256, dither=Image.Dither.NONE)
        smaller = io.BytesIO()
        image.save(smaller, format="png", optimize=True)
        self._drawn = smaller.getvalue()
        return self._drawn

    def _repr_png_(self) -> tuple[bytes, dict]:
        return self.png(), {"alt": self.description}


def save(figure: Picture, folder: Path, name: str) -> Picture:
    """Write folder/name.png in one step; returns the figure, so that a cell can end in it."""
    write_bytes(Path(folder) / f"{name}.png", figure.png())
    return figure


def line_style(index: int, epochs: int) -> dict:
    """Colour and marker of the trial with this place in its family, as arguments of `plot`."""
    return {
        "color": COLOURS[index % len(COLOURS)],
        "marker": MARKERS[index % len(MARKERS)],
        "ms": 4,
        "lw": 1.6,
        # Markers of different trials sit at different epochs, so that none hides another.
        "markevery": (index % max(1, epochs // 6), max(1, epochs // 6)),
    }


def place_labels(
    panel: Axes, points: np.ndarray, labels: Sequence[str], others: np.ndarray | None = None
) -> None:
    """Write each label beside its point where it covers no other label and no point.

    `points` is (n, 2) in data units; `others` are further points, without labels, to leave free.
    Call it when limits, scales and legends are final. A label tries eight directions, then farther
    ones with a thin line back to its point; where nothing is free it takes the nearest place.
    """
    panel.autoscale(False)
    figure = panel.figure
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    pixels = panel.transData.transform(points)
    occupied = points if others is None else np.concatenate([points, others])
    marks = _around(panel.transData.transform(occupied), 12)
    written = np.empty((0, 4))
    inside = panel.get_window_extent(renderer)
    for index in np.argsort(pixels[:, 0]):
        text = panel.annotate(
            labels[index],
            points[index],
            xytext=(0, 0),
            textcoords="offset pixels",
            ha="center",
            va="center",
            fontsize=8.5,
        )
        size = text.get_window_extent(renderer)
        offset, box, line = _free_place(pixels[index], size, marks, written, inside)
        text.set_position(offset)
        written = np.vstack([written, box.extents, _around(line, 4)])
        if len(line):
            ends = panel.transData.inverted().transform(line[[0, -1]])
            panel.plot(*ends.T, color="#999999", lw=0.7, zorder=1)


def _free_place(
    point: np.ndarray, size: Bbox, marks: np.ndarray, written: np.ndarray, inside: Bbox
) -> tuple[tuple[float, float], Bbox, np.ndarray]:
    """Offset and box of a label, and places along the line back to its point, if it needs one.

    Neither may cover what is already `written`, nor the label a mark. All in pixels.
    """
    nearest = None
    for distance in range(1, 10):
        for right, up in DIRECTIONS:
            offset = (
                right * (size.width / 2 + 9 * distance),
                up * (size.height / 2 + 8 * distance - 3 * abs(right)),
            )
            corner = point + offset - (size.width / 2, size.height / 2)
            box = Bbox.from_bounds(*corner, size.width, size.height)
            line = np.linspace(point, np.clip(point, box.min, box.max), 10 if distance > 1 else 0)
            nearest = nearest or (offset, box, line)
            if (
                all(inside.contains(*corner) for corner in (box.min, box.max))
                and not _overlap(box.extents[None], np.vstack([marks, written]))
                and not _overlap(_around(line, 2), written)
            ):
                return offset, box, line
    return nearest


def _around(places: np.ndarray, size: float) -> np.ndarray:
    """Extents (left, bottom, right, top) of squares around places."""
    return np.hstack([places - size / 2, places + size / 2])


def _overlap(boxes: np.ndarray, others: np.ndarray) -> bool:
    starts = np.maximum(boxes[:, None, :2], others[:, :2])
    ends = np.minimum(boxes[:, None, 2:], others[:, 2:])
    return bool((starts < ends).all(axis=-1).any())


def nothing_finished(subject: str) -> Picture:
    """A small picture in place of a figure that has nothing to show yet."""
    sentence = f"{subject}: no finished trials"
    picture = Picture(7, 0.9, sentence)
    picture.text(0.5, 0.5, sentence, ha="center", va="center", color="#555555", fontsize=11)
    return picture


def shortened(text: str, most: int = 24) -> str:
    """The beginning of a name for which a figure has no room; beside rows it would take all."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def slanted(names: Sequence[str], room: int = 120) -> dict[str, Any]:
    """How to write names below an axis with room for some characters, as arguments of its ticks."""
    longest = max(map(len, names), default=0)
    return {"rotation": 35, "ha": "right"} if longest * len(names) > room else {}


def mark_durations(panel: Axes, most: int = 9) -> None:
    """Round durations, at most nine or so many, as ticks of an x axis in seconds."""
    steps = (1, 1.5, 2, 3, 5, 7.5, 10, 15, 20, 30, 45)
    shortest, longest = panel.get_xlim()
    ticks = [step * unit for unit in (0.01, 1, 60, 3600) for step in steps]
    if panel.get_xscale() == "linear":
        step = next((step for step in ticks if step * (most - 1) >= longest), longest)
        ticks = [step * number for number in range(most)]
    ticks = [tick for tick in ticks if shortest <= tick <= longest]
    panel.set_xticks(ticks[:: math.ceil(len(ticks) / most) or 1])
    panel.set_xlim(shortest, longest)
    panel.xaxis.set_major_formatter(FuncFormatter(duration))
    panel.xaxis.set_minor_locator(NullLocator())


def duration(seconds: float, _position: int = 0) -> str:
    """Seconds in the unit that keeps them short, as "1.5 min"; also a formatter of ticks."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def amount(value: float, metric: str) -> str:
    """A metric's value with as many digits as its unit deserves."""
    if (unit := METRICS.get(metric)) == "s":
        return duration(value)
    return f"{value:.4f}" if unit == "fraction" else f"{value:.4g}"


def written(value: Any) -> str:
    """The value of a hyper-parameter, short."""
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, (int, float, np.number)) else str(value)


@dataclass(frozen=True)
class Cut:
    """Limits of a loss axis, and the words that tell the reader where something is cut off."""

    limits: tuple[float, float]
    note: str


def cut(highest: pd.Series, extreme: float | None = None) -> Cut:
    """Limits that leave out trials whose loss climbs beyond four times a middling trial's highest.

    One exploding loss would otherwise flatten all other curves. `highest` has a value per trial;
    `extreme` is the highest value drawn, where it is not among them.
    """
    highest = highest.dropna()
    if highest.empty:
        return Cut((0.0, 1.0), "")
    usual = highest[highest <= 4 * highest.quantile(0.5, interpolation="lower")]
    end = 1.05 * usual.max() or 1.0
    beyond = max(highest.max(), extreme or 0.0) > end
    return Cut((0.0, end), f" (axis cut at {end:.3g})" if beyond else "")


def checked(frame: pd.DataFrame, columns: set[str]) -> pd.DataFrame:
    """The frame with infinities as NaN, which lines leave out; a missing column is an error.

    A frame without rows may lack columns: nothing has been trained yet.
    """
    if missing := sorted(columns - set(frame.columns)) if len(frame) else []:
        raise ReportError(f"the table for this figure lacks the columns {', '.join(missing)}")
    return frame.replace([np.inf, -np.inf], np.nan)


def finite(
    frame: pd.DataFrame, columns: Mapping[str, str], what: str = "trials"
) -> tuple[pd.DataFrame, str]:
    """The rows that can be drawn, and a sentence about the others, or no words.

    `columns` maps those that have to be finite to their names.
    """
    if frame.empty:
        return frame, ""
    lost = [
        f"{number:,} without a finite {label}"
        for column, label in columns.items()
        if (number := frame[column].isna().sum())
    ]
    rows = frame.dropna(subset=list(columns))
    sentence = f"Not drawn: {len(frame) - len(rows):,} of {len(frame):,} {what}: {', '.join(lost)}"
    return rows, sentence if lost else ""


def checked_matrix(matrix: np.ndarray, class_names: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Counts (true class, predicted class) and the names of the classes, if these fit them."""
    counts, names = np.asarray(matrix), [shortened(str(name)) for name in class_names]
    if counts.size and counts.shape != (len(names), len(names)):
        raise ReportError(f"{len(names)} class names for a matrix of shape {counts.shape}")
    return counts, names


def count_trials(frame: pd.DataFrame) -> str:
    """Their number in words: 1 trial, or 7 trials."""
    number = frame["trial"].nunique()
    return f"{number} trial{'' if number == 1 else 's'}"


def legend_columns(handles: Sequence[Artist], characters: int = 150) -> int:
    """How many entries of a legend fit side by side, where a row has room for some characters."""
    longest = max(len(handle.get_label()) for handle in handles)
    return max(1, min(len(handles), characters // (longest + 6)))
