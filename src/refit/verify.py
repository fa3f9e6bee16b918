"""Recompute a report from its stored results and say whether every number agrees.

Nothing is trained and no run directory is needed: the tables beside a page are enough, and the
page itself is searched for the tables that they give.
"""

import math
from pathlib import Path

import numpy as np
import pandas as pd
from bs4 import BeautifulSoup

from refit import claims, experiment, ledger, runlog, scoreboard, storage
from refit.errors import ReportError
from refit.runlog import CURVES_FILE, RESULTS_FILE, RunLog
from refit.tables import page_tables

# What the last epoch of a curve must give in the table of results.
_LAST = ("train_accuracy", "train_loss", "val_accuracy", "val_loss")


def verify(folder: Path) -> list[str]:
    """What disagrees in a folder of pages, one sentence each; empty if everything agrees.

    Raises ReportError where the folder holds no report.
    """
    stored = sorted(folder.glob(f"*/{scoreboard.CLAIMS_FILE}"))
    if not stored:
        raise ReportError(f"{folder} holds no report: no */{scoreboard.CLAIMS_FILE} in it")
    problems = [problem for path in stored for problem in _verify_experiment(path.parent)]
    return problems + _verify_counts(folder)


def _verify_experiment(folder: Path) -> list[str]:
    declaration = experiment.load(folder.name)
    profile = declaration.profiles[folder.parent.name]  # type: ignore[index]
    log = runlog.read_csv(folder)
    problems = _verify_results(folder, log) + _verify_digests(folder)
    numbers = ledger.figures(declaration, profile, log)
    verdicts = claims.judge(declaration, profile, log)
    for name, table in ((scoreboard.FIGURES_FILE, numbers), (scoreboard.CLAIMS_FILE, verdicts)):
        problems += _differences(folder / name, scoreboard.read_table(folder / name), table)
    page = folder.with_suffix(".html")
    try:
        text = page.read_text()
    except OSError as error:
        return [*problems, f"{page}: cannot be read: {error}"]
    shown = _tables(text)
    for name, table in page_tables(log, numbers, verdicts).items():
        if _tables(table.data)[0] not in shown:
            problems.append(f"{page}: its table of {name} is not the one that the results give")
    return problems


def _tables(html: str) -> list[list[str]]:
    """The tables in some HTML, as a reader sees them: caption, headings and cells."""
    return [
        [part.get_text() for part in table.find_all(["caption", "th", "td"])]
        for table in BeautifulSoup(html, "html.parser").find_all("table")
    ]


def _verify_results(folder: Path, log: RunLog) -> list[str]:
    """Whether the table of results follows from the curves."""
    problems = []
    for row in log.done.itertuples():
        curve = log.curves[(log.curves["trial"] == row.trial) & (log.curves["seed"] == row.seed)]
        expected = {name: curve[name].iloc[-1] for name in _LAST} if len(curve) else {}
        if len(curve):
            expected["best_val_accuracy"] = curve["val_accuracy"].max()
            expected["seconds"] = curve["seconds_per_epoch"].sum()
        for name, value in expected.items():
            if not _same(getattr(row, name), value, 1e-5):
                problems.append(
                    f"{folder / RESULTS_FILE}: {row.trial} (seed {row.seed}): {name} is "
                    f"{getattr(row, name)}, but {CURVES_FILE} gives {value}"
                )
    return problems


def _verify_digests(folder: Path) -> list[str]:
    """Whether the measurements are those that the page was made from."""
    page = storage.read_json(folder / "page.json") or {}
    return [
        f"{folder / name}: has changed since the page was made"
        for name, digest in page.get("digests", {}).items()
        if storage.digest(folder / name) != digest
    ]


def _verify_counts(folder: Path) -> list[str]:
    board = scoreboard.collect(folder)
    stored = storage.read_json(folder / f"{scoreboard.VERDICTS}.json") or {}
    problems = []
    for kind, table in (("figures", board.figures), ("claims", board.claims)):
        if stored.get(kind) != table.set_index("experiment").to_dict("index"):
            problems.append(f"{folder / scoreboard.VERDICTS}.json: its {kind} are not those found")
    return problems


def _differences(path: Path, stored: pd.DataFrame, computed: pd.DataFrame) -> list[str]:
    if list(stored.columns) != list(computed.columns) or len(stored) != len(computed):
        return [f"{path}: has other rows or columns than the results give"]
    problems = []
    for name in computed:
        for number, (old, new) in enumerate(zip(stored[name], computed[name], strict=True)):
            if not _same(old, new, 1e-9):
                problems.append(f"{path}: row {number + 2}, {name}: {old!r}, recomputed {new!r}")
    return problems


def _same(old: object, new: object, tolerance: float) -> bool:
    """Equal, with numbers compared to `tolerance` and all kinds of nothing taken for the same."""
    empty = [value is None or value == "" or value != value for value in (old, new)]
    if any(empty):
        return all(empty)
    if isinstance(new, int | float | np.number) and not isinstance(new, bool):
        try:
            return math.isclose(float(old), float(new), rel_tol=tolerance, abs_tol=tolerance)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return False
    return str(old) == str(new)
