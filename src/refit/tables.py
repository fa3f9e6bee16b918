"""Tables for notebooks and pages: escaped, aligned, sortable, readable without any script."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import pandas as pd
from IPython.display import HTML

from refit.errors import ReportError
from refit.templating import fill

Format = str | Callable[[Any], str]


@dataclass(frozen=True)
class Cell:
    """What a reader sees, what the column is sorted by, and whether it lines up on the right."""

    text: str
    value: str
    number: bool = False


def table(
    frame: pd.DataFrame, caption: str = "", formats: Mapping[str, Format] | None = None
) -> HTML:
    """A table as HTML; on the report's page a click on a heading sorts it.

    `formats` gives columns a format such as ".2%" or "d", or a function from value to text.
    Otherwise integers get thousands separators, other numbers four decimals, and what is missing a
    dash. A named index becomes the first columns; an unnamed one is left out. Raises ReportError
    where `formats` names a column that the frame does not have.
    """
    named = [name for name in frame.index.names if name is not None]
    frame = frame.reset_index(level=named) if named else frame
    columns = [_heading(name) for name in frame.columns]
    formats = dict(formats or {})
    if unknown := sorted(set(formats) - set(columns)):
        raise ReportError(
            f"no column {', '.join(map(repr, unknown))} to format; there are {', '.join(columns)}"
        )
    chosen = [formats.get(name) for name in columns]
    rows = [
        [_cell(value, form) for value, form in zip(row, chosen, strict=True)]
        for row in frame.itertuples(index=False, name=None)
    ]
    return HTML(fill("table.html.j2", caption=caption, columns=columns, rows=rows))


def _heading(name: Any) -> str:
    return (
        " / ".join(str(part) for part in name if part != "")
        if isinstance(name, tuple)
        else str(name)
    )


def _cell(value: Any, form: Format | None) -> Cell:
    if _missing(value):
        return Cell("–", "")
    number = isinstance(value, Real) and not isinstance(value, bool)
    if callable(form):
        text = str(form(value))
    elif number and (form or math.isfinite(value)):
        text = format(value, form or (",d" if isinstance(value, Integral) else ",.4f"))
    else:
        text = {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
    return Cell(text, str(value), number)


def _missing(value: Any) -> bool:
    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))
