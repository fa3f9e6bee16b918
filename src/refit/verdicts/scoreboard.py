"""All experiments of one profile on one page: what held, what did not, what it cost.

Everything is read from the tables that the experiments' pages stored, so it takes no training.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from refit import files
from refit.errors import ReportError
from refit.run_directory import directory
from refit.run_directory.log import RESULTS_FILE, total_seconds
from refit.verdicts import words

FIGURES_FILE = "figures.csv"
CLAIMS_FILE = "claims.csv"
# What is read of the stored tables, numbers last.
FIGURE_COLUMNS = (
    "verdict", "trial", "metric", "place", "repeats", "published", "reproduced", "difference",
)  # fmt: skip
CLAIM_COLUMNS = ("verdict", "small_scale", "id", "statement", "quote", "observed", "q")
RESULT_COLUMNS = ("status", "seconds")
# The index's tables once more, for programs.
VERDICTS = "verdicts"


@dataclass(frozen=True)
class Scoreboard:
    """The tables of the scoreboard.

    `figures` and `claims` count verdicts about the report, a row per experiment, and `small_scale`
    what claims look like in a cut profile; `cost` has trainings, hours of training and hardware.
    """

    figures: pd.DataFrame
    claims: pd.DataFrame
    small_scale: pd.DataFrame
    cost: pd.DataFrame

    def save(self, folder: Path) -> None:
        """Store the counts as verdicts.json and, one row per count, as verdicts.csv."""
        files.write_json(folder / f"{VERDICTS}.json", self.content())
        files.write_table(folder / f"{VERDICTS}.csv", self.long())

    def content(self) -> dict[str, Any]:
        """Counts and cost as plain data: kind -> experiment -> column -> value."""
        tables = self._counts() | {"cost": self.cost}
        return {
            kind: table.set_index("experiment").to_dict("index") for kind, table in tables.items()
        }

    def long(self) -> pd.DataFrame:
        """One row per count: experiment, kind, verdict, count."""
        rows = [
            table.melt("experiment", var_name="verdict", value_name="count").assign(kind=kind)
            for kind, table in self._counts().items()
        ]
        frame = pd.concat(rows, ignore_index=True)
        return frame[["experiment", "kind", "verdict", "count"]]

    def _counts(self) -> dict[str, pd.DataFrame]:
        return {"figures": self.figures, "claims": self.claims, "small_scale": self.small_scale}


def collect(folder: Path) -> Scoreboard:
    """Read the tables of all experiments below `folder`, the pages of one profile.

    Raises ReportError where a stored table cannot be read.
    """
    figures, judged, small, costs = [], [], [], []
    for stored in sorted(folder.glob(f"*/{CLAIMS_FILE}")):
        name = stored.parent.name
        numbers = read_table(stored.parent / FIGURES_FILE, FIGURE_COLUMNS, FIGURE_COLUMNS[-3:])
        verdicts = read_table(stored, CLAIM_COLUMNS, CLAIM_COLUMNS[-1:])
        results = read_table(stored.parent / RESULTS_FILE, RESULT_COLUMNS, RESULT_COLUMNS[-1:])
        distinct = numbers[~numbers["repeats"].astype(bool)]
        figures.append({"experiment": name} | _count(distinct["verdict"], words.FIGURES))
        judged.append({"experiment": name} | _count(verdicts["verdict"], words.CLAIMS))
        small.append({"experiment": name} | _count(verdicts["small_scale"], words.SMALL_SCALE))
        costs.append({"experiment": name} | _cost(stored.parent, results))
    return Scoreboard(
        pd.DataFrame(figures, columns=["experiment", *words.FIGURES]),
        pd.DataFrame(judged, columns=["experiment", *words.CLAIMS]),
        pd.DataFrame(small, columns=["experiment", *words.SMALL_SCALE]),
        pd.DataFrame(costs, columns=["experiment", "trainings", "hours", "hardware"]),
    )


def read_table(
    path: Path, columns: Sequence[str] = (), numbers: Sequence[str] = ()
) -> pd.DataFrame:
    """A stored table, its texts as texts. Raises ReportError, also where it lacks `columns`, or
    those of `numbers` hold none."""
    try:
        table = files.read_table(path)
        if missing := [name for name in columns if name not in table]:
            raise ValueError(f"it lacks the columns {', '.join(missing)}")
        return table.assign(**{name: pd.to_numeric(table[name]) for name in numbers})
    except (OSError, ValueError) as error:
        raise ReportError(f"{path}: cannot be read as a table: {error}") from error


def _count(found: pd.Series, verdicts: Iterable[str]) -> dict[str, int]:
    return found.value_counts().reindex([*verdicts], fill_value=0).to_dict()


def _cost(folder: Path, results: pd.DataFrame) -> dict[str, object]:
    done = results[results["status"] == "done"]
    page = files.read_object(folder / directory.PAGE)
    return {
        "trainings": len(done),
        "hours": round(total_seconds(done) / 3600, 2),
        "hardware": str(page.get("hardware", "")),
    }
