"""Tables for notebooks and pages: escaped, aligned, sortable, readable without any script."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import pandas as pd
from IPython.display import HTML

from refit.errors import ReportError
from refit.pages.templating import fill
from refit.run_directory.log import RunLog
from refit.verdicts import claims, published_figures
from refit.verdicts.scoreboard import Scoreboard

# More would bury the interesting ones.
MOST_DISAGREEMENTS = 25

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

    `formats` gives columns, by their headings, a format such as ".2%" or "d", or a function from
    value to text. Otherwise integers get thousands separators, other numbers four decimals, and
    what is missing a dash. A named index becomes the first columns; an unnamed one is left out.
    Raises ReportError where `formats` names a column that the frame does not have.
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
    """A column's name in words: without underscores, the parts of a nested one with slashes."""
    parts = name if isinstance(name, tuple) else (name,)
    return " / ".join(str(part).replace("_", " ") for part in parts if part != "")


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


def page_tables(log: RunLog, numbers: pd.DataFrame, verdicts: pd.DataFrame) -> dict[str, HTML]:
    """The tables that every experiment's page shows, by name, from its measurements and verdicts.

    They stand in one place so that `refit verify` can look for exactly these in a page.
    """
    times = {"epochs": ".0f", "seconds": ".1f", "seconds per epoch": ".2f"}
    judged = {"p": ".3g", "q": ".3g", "n": ".0f", "seeds declared": ".0f"}
    return {
        "results": table(log.summary(), "Results of all trials, means over seeds", times),
        "figure counts": table(published_figures.counts(numbers), "Published numbers by verdict"),
        "figures": table(
            published_figures.shown(numbers), "Published beside reproduced, every number"
        ),
        "claim counts": table(claims.counts(verdicts), "Claims by verdict"),
        "claims": table(verdicts, "Every claim, judged", judged),
    }


def scoreboard_tables(board: Scoreboard) -> dict[str, HTML]:
    """The tables of the index and of the scoreboard's notebook, by name."""
    return {
        "claims": table(board.claims, "Claims by verdict"),
        "small scale": table(board.small_scale, "What claims look like at small scale"),
        "figures": table(board.figures, "Published numbers by verdict"),
        "disagreements": table(
            board.disagreements.head(MOST_DISAGREEMENTS), "Where report and measurement part"
        ),
        "cost": table(board.cost, "What it cost", {"hours": ".2f"}),
    }
