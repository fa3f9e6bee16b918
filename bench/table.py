"""What was measured, as a page of Markdown and, every single number, as CSV."""

import os
import platform
import statistics
import time
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from bench.measure import Series
from refit import files
from refit.training import result

PACKAGES = (
    "tensorflow",
    "keras",
    "numpy",
    "pandas",
    "tensorboard",
    "papermill",
    "keras-tuner",
)
HEADINGS = ("what", "way", "median", "spread", "processor", "runs", "ratio", "goal", "met")
EXPLANATION = """\
Wall times of processes of their own, with embedded data unless Fashion-MNIST is named. The ways of
one measurement took turns; `spread` is from the lowest to the highest value. `ratio` is the median
over the rounds of this way's value over that of refit, in the row without one above it; for growth,
over that of the smaller number of trials. It tells more than the seconds do, because other work on
the machine slows all ways; so does `processor`, the median of the seconds that a core worked. Rows
without a goal are there to compare with.
"""


def write(path: Path, series: list[Series], started: float) -> None:
    """Write `path`, a Markdown file, and the raw numbers beside it."""
    facts = circumstances() | {"minutes in all": f"{(time.monotonic() - started) / 60:.0f}"}
    rows = [_row(one) for one in series]
    lines = [
        "# Speed",
        "",
        *EXPLANATION.splitlines(),
        "",
        *(f"- {name}: {value}" for name, value in facts.items()),
        "",
        _line(HEADINGS),
        _line(["---"] * len(HEADINGS)),
        *map(_line, rows),
    ]
    files.write_bytes(path, ("\n".join(lines) + "\n").encode())
    raw = [
        {"what": one.what, "way": one.way, "round": number, "value": value, "unit": one.unit}
        | {"processor_seconds": one.processor[number - 1] if one.processor else None}
        for one in series
        for number, value in enumerate(one.values, start=1)
    ]
    content = pd.DataFrame(raw).to_csv(index=False).encode()
    files.write_bytes(path.with_suffix(".csv"), content)


def circumstances() -> dict[str, str]:
    """Date, versions and hardware, and how busy the machine is."""
    facts = {
        "date": time.strftime("%Y-%m-%d"),
        "processor": f"{result.processor()}, {os.cpu_count()} cores",
        "system": f"{platform.platform()}, Python {platform.python_version()}",
        "packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES),
    }
    loads = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    return facts | {"load in the last 1, 5 and 15 minutes": loads}


def _row(one: Series) -> list[str]:
    low, high = (_number(value) for value in (min(one.values), max(one.values)))
    ratio = "" if one.ratio is None else f"{one.ratio:.2f}"
    median = f"{_number(one.median)} {one.unit}"
    processor = f"{_number(statistics.median(one.processor))} s" if one.processor else ""
    runs = str(len(one.values))
    return [
        one.what,
        one.way,
        median,
        f"{low} to {high}",
        processor,
        runs,
        ratio,
        one.goal,
        one.met,
    ]


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"
