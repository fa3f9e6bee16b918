"""Recompute a report from its stored results and say whether every number agrees.

Nothing is trained and no run directory is needed: the tables beside a page are enough, and the
page itself is searched for the tables that they give.
"""

import math
from pathlib import Path

import numpy as np
import pandas as pd
from bs4 import BeautifulSoup
from IPython.display import HTML

from refit import files
from refit.errors import RefitError, ReportError
from refit.experiments import expand
from refit.experiments.declaration import Declaration
from refit.pages.tables import page_tables, scoreboard_tables
from refit.run_directory import directory
from refit.run_directory import log as run_log
from refit.run_directory.log import CURVES_FILE, FILES, RESULTS_FILE, RunLog
from refit.searches import retrain, tuner
from refit.verdicts import claims, published_figures, scoreboard

# What the last epoch of a curve must give in the table of results.
_LAST = ("train_accuracy", "train_loss", "val_accuracy", "val_loss")


def verify(folder: Path) -> list[str]:
    """What disagrees in a folder of pages, one sentence each; empty if everything agrees.

    Raises ReportError where the folder holds no report.
    """
    stored = sorted(folder.glob(f"*/{scoreboard.CLAIMS_FILE}"))
    if not stored:
        raise ReportError(f"{folder} holds no report: no */{scoreboard.CLAIMS_FILE} in it")
    problems = []
    checks = [(_verify_experiment, path.parent) for path in stored]
    for check, place in [*checks, (_verify_scoreboard, folder)]:
        try:
            problems += check(place)
        except RefitError:
            raise
        except Exception as error:  # edited tables can be wrong in any way, and raise whatever
            reason = f"{type(error).__name__}: {error}"
            problems.append(f"{place}: its tables do not fit each other ({reason})")
    return problems


def _verify_experiment(folder: Path) -> list[str]:
    declaration = expand.load(folder.name)
    profile = declaration.profiles.get(folder.parent.name)  # type: ignore[call-overload]
    if profile is None:
        raise ReportError(
            f"{folder.parent}: not named after a profile; known: {', '.join(declaration.profiles)}"
        )
    log = run_log.read_csv(folder)
    problems = _verify_results(folder, log) + _verify_digests(folder)
    problems += _verify_searches(folder, declaration, log)
    problems += _verify_retrained(folder, declaration, log)
    numbers = published_figures.figures(declaration, folder.parent.name, log)
    verdicts = claims.judge(declaration, folder.parent.name, log)
    for name, table in ((scoreboard.FIGURES_FILE, numbers), (scoreboard.CLAIMS_FILE, verdicts)):
        problems += _differences(folder / name, scoreboard.read_table(folder / name), table)
    tables = page_tables(log, numbers, verdicts)
    return problems + _verify_page(folder.with_suffix(".html"), tables)


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


def _verify_searches(folder: Path, declaration: Declaration, log: RunLog) -> list[str]:
    """Whether the scores that a tuner saw are those of the curves."""
    problems = []
    for path in sorted(folder.glob(f"{tuner.FILE}*.csv")):
        sweep = declaration.sweeps.get(path.stem.removeprefix(tuner.FILE))
        if sweep is None or sweep.search is None:
            problems.append(f"{path}: no sweep declares this search")
            continue
        table = scoreboard.read_table(path, tuner.COLUMNS)
        if table.empty:
            problems.append(f"{path}: holds no suggestion of a tuner")
        for row in table.itertuples():
            curve = log.curve(row.trial, sweep.search.metric)
            seen = curve[curve.columns.min()].get(row.reached) if len(curve) else None
            if seen is not None and not _same(row.score, seen, 1e-6):
                problems.append(f"{path}: {row.trial} scored {row.score}, its curve says {seen}")
    return problems


def _verify_retrained(folder: Path, declaration: Declaration, log: RunLog) -> list[str]:
    """Whether winners and defaults that were trained again had the scores that the results give."""
    problems = []
    for path in sorted(folder.glob(f"{retrain.FILE}*.csv")):
        sweep = path.stem.removeprefix(retrain.FILE)
        declared = declaration.sweeps.get(sweep)
        if declared is None or declared.retrain is None:
            problems.append(f"{path}: no sweep declares that it is trained again")
            continue
        scores = log.first(sweep, declared.retrain.metric)
        for row in scoreboard.read_table(path).itertuples():
            if row.repetition == 0 and not _same(row.value, scores.get(row.trial), 1e-9):
                problems.append(
                    f"{path}: {row.trial} had {row.value} in the search, but {RESULTS_FILE} gives "
                    f"{scores.get(row.trial)}"
                )
    return problems


def _verify_digests(folder: Path) -> list[str]:
    """Whether the measurements are those that the page was made from."""
    digests = files.read_object(folder / directory.PAGE).get("digests")
    return [
        f"{folder / name}: is not the file that the page was made from"
        for name in FILES
        if not isinstance(digests, dict) or files.digest(folder / name) != digests.get(name)
    ]


def _verify_scoreboard(folder: Path) -> list[str]:
    board = scoreboard.collect(folder)
    path = folder / f"{scoreboard.VERDICTS}.json"
    stored = files.read_object(path)
    problems = [
        f"{path}: its {kind} are not those that the tables give"
        for kind, content in board.content().items()
        if stored.get(kind) != content
    ]
    path = path.with_suffix(".csv")
    problems += _differences(path, scoreboard.read_table(path), board.long())
    return problems + _verify_page(folder / "index.html", scoreboard_tables(board))


def _verify_page(page: Path, tables: dict[str, HTML]) -> list[str]:
    """Whether a page shows these tables."""
    try:
        shown = _tables(page.read_text("utf-8"))
    except (OSError, ValueError) as error:
        return [f"{page}: cannot be read: {error}"]
    return [
        f"{page}: its table of {name} is not the one that the results give"
        for name, table in tables.items()
        if _tables(table.data)[0] not in shown
    ]


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
