"""Tables for notebooks and pages: escaped, aligned, sortable, readable without any script."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

import pandas as pd
from IPython.display import HTML

from refit.errors import ReportError
from refit.pages.templating import fill
from refit.verdicts import published_figures, words

Format = str | Callable[[Any], str]
# The colour of a published number's verdict, as `refit.pages.claim_items` has those of claims.
FIGURE_TONES = {
    words.EXACT: "yes",
    words.INSIDE: "yes",
    words.DIFFERS: "no",
    words.TOO_FEW_SEEDS: "open",
    words.NOT_JUDGED: "none",
}


@dataclass(frozen=True)
class Cell:
    """What a reader sees, what the column is sorted by, and how it is marked."""

    text: str
    value: str
    number: bool = False
    tone: str = ""
    best: bool = False


def table(
    frame: pd.DataFrame,
    caption: str = "",
    formats: Mapping[str, Format] | None = None,
    tones: Mapping[str, str] | None = None,
    best: Sequence[str] = (),
    stacked: bool = False,
) -> HTML:
    """A table as HTML; on the report's page a click on a heading sorts it.

    `formats` gives columns, by their headings, a format such as ".2%" or "d", or a function from
    value to text. Otherwise counts are shown in full and other numbers as `number` writes them, and
    what is missing is a dash. Texts in `tones` are marked as verdicts, the highest value of the
    columns in `best` is bold, and a `stacked` table shows a row as a card on a narrow screen.
    A named index becomes the first columns; an unnamed one is left out. Raises ReportError where
    `formats` or `best` name a column that the frame does not have.
    """
    named = [name for name in frame.index.names if name is not None]
    frame = frame.reset_index(level=named) if named else frame
    columns = [_heading(name) for name in frame.columns]
    formats = dict(formats or {})
    if unknown := sorted({*formats, *best} - set(columns)):
        raise ReportError(
            f"no column {', '.join(map(repr, unknown))} to format; there are {', '.join(columns)}"
        )
    cells = [
        _column(frame.iloc[:, place], formats.get(name), tones or {}, name in best)
        for place, name in enumerate(columns)
    ]
    rows = list(zip(*cells, strict=True))
    shown = {"caption": caption, "columns": columns, "rows": rows, "stacked": stacked}
    return HTML(fill("table.html.j2", **shown))


def number(value: float) -> str:
    """A number as a reader wants it: four decimals, large ones without, small ones as 1e-06."""
    if not math.isfinite(value):
        return str(value)
    if value and abs(value) < 0.001:
        return f"{value:.2g}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.4f}"


def _column(
    values: pd.Series, form: Format | None, tones: Mapping[str, str], mark_best: bool
) -> list[Cell]:
    if form is None and pd.api.types.is_float_dtype(values) and values.notna().any():
        present = values.dropna()
        # Counts become floats where some are missing; they are shown as counts all the same.
        if ((present % 1 == 0) & (present.abs() > 1)).any() and (present % 1 == 0).all():
            form = ",.0f"
    cells = [_cell(value, form, tones) for value in values]
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        cells = [replace(cell, number=True) for cell in cells]
    if mark_best and values.notna().any():
        top = str(values.max())
        cells = [replace(cell, best=cell.value == top) for cell in cells]
    return cells


def _heading(name: Any) -> str:
    """A column's name in words: without underscores, the parts of a nested one with slashes."""
    parts = name if isinstance(name, tuple) else (name,)
    return " / ".join(str(part).replace("_", " ") for part in parts if part != "")


def _cell(value: Any, form: Format | None, tones: Mapping[str, str]) -> Cell:
    if value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value))):
        return Cell("–", "")
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if callable(form):
        text = str(form(value))
    elif is_number and form:
        text = format(value, form)
    elif is_number:
        text = f"{value:,d}" if isinstance(value, Integral) else number(float(value))
    else:
        text = {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
    return Cell(text, str(value), is_number, tones.get(text, ""))


def figures(numbers: pd.DataFrame) -> HTML:
    """Every published number beside the reproduced one."""
    spread = numbers["spread"].map(lambda value: "" if pd.isna(value) else f" ± {value:.2g}")
    reproduced = numbers["reproduced"].map(lambda value: "–" if pd.isna(value) else f"{value:.4g}")
    frame = pd.DataFrame(
        {
            "trial": numbers["trial"],
            "metric": numbers["metric"].str.replace("_", " "),
            "published": numbers["published"].map("{:.4g}".format),
            "reproduced": reproduced + spread,
            "verdict": numbers["verdict"].map(words.FIGURES),
            "n": numbers["n"],
            "epochs": numbers["epochs"].fillna(""),
            "place": numbers["place"],
            "reason": numbers["reason"].fillna(""),
        }
    )
    shown = [name for name in frame if not (frame[name] == "").all()]
    tones = {words.FIGURES[verdict]: tone for verdict, tone in FIGURE_TONES.items()}
    return table(frame[shown], "Published beside reproduced", tones=tones, stacked=True)


def figure_counts(numbers: pd.DataFrame) -> HTML:
    """How many different published numbers have each verdict, by metric."""
    counts = published_figures.counts(numbers).rename(columns=words.FIGURES)
    counts["metric"] = counts["metric"].str.replace("_", " ")
    return table(counts, "Published numbers by verdict")
