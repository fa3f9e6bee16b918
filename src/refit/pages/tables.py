"""Tables for notebooks and pages: escaped, aligned, sortable, readable without any script."""

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import pandas as pd
from IPython.display import HTML

from refit.errors import ReportError
from refit.pages.templating import fill
from refit.verdicts import published_figures, words

# The colour of a published number's verdict, as `refit.pages.claim_items` has those of claims.
FIGURE_TONES = {
    words.EXACT: "yes",
    words.INSIDE: "yes",
    words.DIFFERS: "no",
    words.TOO_FEW_SEEDS: "open",
    words.NOT_JUDGED: "none",
}


def table(
    frame: pd.DataFrame,
    caption: str = "",
    formats: Mapping[str, str] | None = None,
    tones: Mapping[str, str] | None = None,
    stacked: bool = False,
) -> HTML:
    """A table as HTML; on the report's page a click on a heading sorts it.

    `formats` gives columns, by their headings, a format such as ".2%" or "d". Otherwise counts are
    shown in full and other numbers with four decimals, large ones without, small ones as 1e-06, and
    what is missing is a dash. Texts in `tones` are marked as verdicts, and a `stacked` table shows
    a row as a card on a narrow screen. A named index becomes the first columns; an unnamed one is
    left out. Raises ReportError where `formats` name a column that the frame does not have.
    """
    named = [name for name in frame.index.names if name is not None]
    frame = frame.reset_index(level=named) if named else frame
    columns = [_heading(name) for name in frame.columns]
    formats = formats or {}
    if unknown := sorted(set(formats) - set(columns)):
        raise ReportError(
            f"no column {', '.join(map(repr, unknown))} to format; there are {', '.join(columns)}"
        )
    cells = [
        _column(frame.iloc[:, place], formats.get(name, ""), tones or {})
        for place, name in enumerate(columns)
    ]
    rows = list(zip(*cells, strict=True))
    shown = {"caption": caption, "columns": columns, "rows": rows, "stacked": stacked}
    return HTML(fill("table.html.j2", **shown))


def _column(values: pd.Series, form: str, tones: Mapping[str, str]) -> list[dict[str, Any]]:
    """What a reader sees of each value, what it is sorted by, and how it is marked."""
    if not form and pd.api.types.is_float_dtype(values) and values.notna().any():
        present = values.dropna()
        # Counts become floats where some are missing; they are shown as counts all the same.
        if ((present % 1 == 0) & (present.abs() > 1)).any() and (present % 1 == 0).all():
            form = ",.0f"
    right = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    cells = []
    for value in values:
        missing = pd.api.types.is_scalar(value) and bool(pd.isna(value))
        text = "–" if missing else _text(value, form)
        number = right or (isinstance(value, Real) and not isinstance(value, bool))
        sorted_by = "" if missing else str(value)
        tone = tones.get(text, "")
        cells.append({"text": text, "value": sorted_by, "number": number, "tone": tone})
    return cells


def _text(value: Any, form: str) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, Real):
        return str(value)
    if form or isinstance(value, Integral):
        return format(value, form or ",d")
    if not math.isfinite(value):
        return str(float(value))
    if value and abs(value) < 0.001:
        return f"{value:.2g}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.4f}"


def _heading(name: Any) -> str:
    """A column's name in words: without underscores, the parts of a nested one with slashes."""
    parts = name if isinstance(name, tuple) else (name,)
    return " / ".join(str(part).replace("_", " ") for part in parts if part != "")


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
