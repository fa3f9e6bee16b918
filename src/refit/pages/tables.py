"""Tables for notebooks and pages: escaped, aligned, sortable, readable without any script."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import HTML

from refit.errors import ReportError
from refit.figures.labels import AGREEMENTS, label
from refit.pages.templating import fill
from refit.verdicts import words

# The colour of a published number's verdict, as `refit.pages.claim_items` has those of claims, and
# what a figure calls it.
FIGURE_TONES = {
    words.EXACT: "yes",
    words.INSIDE: "yes",
    words.DIFFERS: "no",
    words.TOO_FEW_SEEDS: "open",
    words.NOT_JUDGED: "none",
}

# Decimals of a number below each of these.
DIGITS = {1: 4, 10: 2, 1000: 1}


def table(
    frame: pd.DataFrame,
    caption: str = "",
    formats: Mapping[str, str] | None = None,
    tones: Mapping[str, str] | None = None,
    best: Mapping[str, Callable[[pd.Series], float]] | None = None,
    stacked: bool = False,
    row_ids: Sequence[str] = (),
) -> HTML:
    """A table as HTML; on the report's page a click on a heading sorts it.

    `formats` gives columns a format such as ".2%" or "d". Otherwise counts are shown in full and
    other numbers with four decimals, large ones without, small ones as 1e-06, settings such as 0.05
    as they are written, and what is missing is a dash; a column without any value is left out.
    Texts in `tones` are marked as verdicts, `best` gives columns `min` or `max`, whose value is
    bold, and a `stacked` table shows a row as a card on a narrow screen; `row_ids` make rows that
    can be linked to. A named index becomes the first columns; an unnamed one is left out. Raises
    ReportError where `formats` name a column that the frame does not have.
    """
    named = [name for name in frame.index.names if name is not None]
    frame = frame.reset_index(level=named) if named else frame
    formats, best = formats or {}, best or {}
    if unknown := sorted(set(formats) - set(frame)):
        known = ", ".join(map(_heading, frame))
        raise ReportError(f"no column {', '.join(map(repr, unknown))} to format; there are {known}")
    frame = frame.dropna(axis="columns", how="all")
    cells = [
        _column(frame.iloc[:, place], formats.get(name, ""), tones or {}, best.get(name))
        for place, name in enumerate(frame.columns)
    ]
    rows = list(zip_longest(row_ids, zip(*cells, strict=True)))
    columns = [_heading(name) for name in frame.columns]
    shown = {"caption": caption, "columns": columns, "rows": rows, "stacked": stacked}
    return HTML(fill("table.html.j2", **shown))


def _column(
    values: pd.Series,
    form: str,
    tones: Mapping[str, str],
    best: Callable[[pd.Series], float] | None,
) -> list[dict[str, Any]]:
    """What a reader sees of each value, what it is sorted by, and how it is marked."""
    right = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    form = form or (_form(values.dropna()) if right else "")
    winner = best(values.dropna()) if best and values.nunique() > 1 else None
    cells = []
    for value in values:
        missing = pd.api.types.is_scalar(value) and bool(pd.isna(value))
        text = "–" if missing else _text(value, form)
        number = right or (isinstance(value, Real) and not isinstance(value, bool))
        marks = {"tone": tones.get(text, ""), "best": winner is not None and value == winner}
        cells.append(
            {"text": text, "value": "" if missing else str(value), "number": number} | marks
        )
    return cells


def _form(present: pd.Series) -> str:
    """Counts are shown in full, also where some are missing and they have become floats, and the
    few values of a setting as they are written."""
    numbers = present.astype(float)
    if ((numbers % 1 == 0) & (numbers.abs() > 1)).any() and (numbers % 1 == 0).all():
        return ",.0f"
    written = (math.isclose(number, float(f"{number:.2g}"), rel_tol=1e-6) for number in numbers)
    return "g" if all(written) else ""


def _text(value: Any, form: str) -> str:
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if not isinstance(value, Real):
        return str(value)
    if not math.isfinite(value):
        return "infinite"
    if form or isinstance(value, Integral):
        return format(value, form or ",d")
    if value and abs(value) < 0.001:
        return f"{value:.2g}"
    digits = next((digits for end, digits in DIGITS.items() if abs(value) < end), 0)
    return f"{value:,.{digits}f}"


def _heading(name: Any) -> str:
    """A column's name in words; the parts of a nested one with slashes."""
    parts = name if isinstance(name, tuple) else (name,)
    return " / ".join(label(str(part)) for part in parts if part != "")


def figures(numbers: pd.DataFrame, name: Callable[[str], str]) -> HTML:
    """Every published number beside the reproduced one, with trials named as by `name`."""
    spread = numbers["spread"].map(lambda value: "" if pd.isna(value) else f" ± {value:.2g}")
    known = numbers["reproduced"].notna()
    reproduced = numbers["reproduced"].map(words.number).where(known, "–")
    frame = pd.DataFrame(
        {
            "trial": numbers["trial"].map(name),
            "metric": numbers["metric"].map(label),
            "published": numbers["published"].map(words.number),
            "reproduced": (reproduced + spread).where(numbers["n"] > 0, None),
            "verdict": numbers["verdict"].map(words.FIGURES),
            "seeds": numbers["n"] if numbers["n"].any() else None,
            "epochs": numbers["epochs"].replace("", None),
            "where the report has it": numbers["place"],
            "reason": numbers["reason"].replace("", None),
        }
    )
    tones = {words.FIGURES[verdict]: tone for verdict, tone in FIGURE_TONES.items()}
    return table(frame, "Published beside reproduced", tones=tones, stacked=True)


def beside(numbers: pd.DataFrame, name: Callable[[str], str]) -> pd.DataFrame:
    """The table for `refit.figures.published`: every different number but counts of parameters."""
    rows = numbers[~numbers["repeats"].astype(bool) & ~numbers["metric"].str.endswith("params")]
    epochs = rows["epochs"].map(lambda epochs: f", epoch {epochs}" if epochs else "")
    tones = rows["verdict"].map(FIGURE_TONES)
    return rows.assign(
        name=rows["trial"].map(name) + epochs,
        label=rows["metric"].map(label),
        lower=rows["interval_low"].fillna(rows["lower"]),
        upper=rows["interval_high"].fillna(rows["upper"]),
        agreement=tones.map(dict(zip(("yes", "no", "open", "none"), AGREEMENTS, strict=True))),
    )


def figure_counts(numbers: pd.DataFrame) -> HTML:
    """How many different published numbers have each verdict, by metric."""
    distinct = numbers[~numbers["repeats"].astype(bool)]
    counts = pd.crosstab(distinct["metric"], distinct["verdict"], margins=True, margins_name="all")
    counts = counts[[*(verdict for verdict in words.FIGURES if verdict in counts), "all"]]
    counts = counts.rename(columns=words.FIGURES, index=label)
    return table(counts.reset_index().rename_axis(columns=None), "Published numbers by verdict")
