"""Whether a folder of pages is consistent: with itself, with the declarations, and with arithmetic.

Nothing is trained and no run directory is needed. What was measured is taken from the tables beside
a page and recomputed where one number follows from another; verdicts are judged anew; the page is
searched for what they give; and every file must be the one that was recorded. That finds edits
which do not fit together. It cannot find measurements that were invented as a consistent whole.
"""

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from bs4 import BeautifulSoup
from pydantic import TypeAdapter, ValidationError

from refit import files
from refit.data.spec import DataSpec
from refit.errors import RefitError, ReportError
from refit.experiments import expand
from refit.experiments.declaration import Declaration, Search
from refit.experiments.trial import Trial
from refit.pages import claim_items, freshness, index, tables
from refit.pages.page import PageEntry
from refit.pages.templating import fill
from refit.run_directory import log as run_log
from refit.run_directory.directory import PAGE
from refit.run_directory.log import CONFUSIONS_FILE, CURVES_FILE, RESULTS_FILE, RunLog
from refit.searches import retrain, tuner
from refit.verdicts import claims, published_figures, scoreboard

# What the last epoch of a curve must give in the table of results.
LAST = ("train_accuracy", "train_loss", "val_accuracy", "val_loss")
# In what seeds of the same settings differ.
UNEQUAL: Any = dict.fromkeys(("sweep", "name", "title", "seed"), True)
UNEQUAL |= {key: {"run"} for key in ("pretrained", "carried_over")}


def verify(folder: Path) -> list[str]:
    """What disagrees in a folder of pages, one sentence each; empty if everything agrees.

    The folder is named after its profile. Raises ReportError where it holds no page.
    """
    places = sorted(path for path in folder.iterdir() if path.is_dir() and _is_page(path))
    if not places:
        raise ReportError(f"{folder} holds no report: no */{scoreboard.CLAIMS_FILE} in it")
    checks = [(_experiment, place) for place in places] + [(_index, folder)]
    problems: list[str] = []
    for check, place in checks:
        try:
            problems += check(place)
        except RefitError as error:
            problems.append(str(error))
        except Exception as error:  # edited tables can be wrong in any way, and raise whatever
            reason = f"{type(error).__name__}: {error}"
            problems.append(f"{place}: its tables do not fit each other ({reason})")
    return problems


def _is_page(folder: Path) -> bool:
    return any((folder / name).exists() for name in (PAGE, scoreboard.CLAIMS_FILE))


def _experiment(folder: Path) -> Iterator[str]:
    declaration = expand.load(folder.name)
    profile = folder.parent.name
    if profile not in declaration.profiles:
        known = ", ".join(declaration.profiles)
        raise ReportError(f"{folder.parent}: not named after a profile; known: {known}")
    try:
        entry = TypeAdapter(PageEntry).validate_python(files.read_json(folder / PAGE))
    except ValidationError:
        yield f"{folder / PAGE}: is no record of what the page was made from"
        return
    log = run_log.read_csv(folder)
    trials = _declared(declaration, profile, entry)
    yield from _files(folder, entry)
    yield from _record(folder, entry, declaration, log, trials)
    yield from _trials(folder, log, trials)
    yield from _measurements(folder, log)
    yield from _copies(folder, log, trials)
    yield from _searches(folder, declaration, log)
    yield from _retrained(folder, declaration, log)
    numbers = published_figures.figures(declaration, profile, log)
    verdicts = claims.judge(declaration, profile, log)
    for name, table in ((scoreboard.FIGURES_FILE, numbers), (scoreboard.CLAIMS_FILE, verdicts)):
        yield from _differences(folder / name, scoreboard.read_table(folder / name), table)
    yield from _shown(folder, numbers, verdicts)


def _declared(declaration: Declaration, profile: str, entry: PageEntry) -> dict[tuple, Trial]:
    """The trials of a page by name and seed, with the data sets that are recorded."""

    def resolve(spec: DataSpec) -> DataSpec:
        name, fingerprint = entry.data_sets[spec.name]
        return spec.model_copy(update={"name": name, "fingerprint": fingerprint})

    trials = expand.expand(declaration, profile, entry.seeds, resolve=resolve)
    return {(trial.name, trial.seed): trial for trial in trials}


def _files(folder: Path, entry: PageEntry) -> Iterator[str]:
    """Whether every page, table and picture is the one that was recorded."""
    found = freshness.digests(folder.with_suffix(".html"))
    for name in sorted(found.keys() | entry.digests.keys()):
        if name not in found:
            yield f"{folder.parent / name}: is missing"
        elif name not in entry.digests:
            yield f"{folder.parent / name}: was not there when the page was made"
        elif found[name] != entry.digests[name]:
            yield f"{folder.parent / name}: is not the file that was made"


def _record(
    folder: Path, entry: PageEntry, declaration: Declaration, log: RunLog, trials: dict
) -> Iterator[str]:
    said = (entry.name, entry.title, entry.question, entry.trials_done, entry.trials_total)
    true = (declaration.name, declaration.title, declaration.question, len(log.done), len(trials))
    for old, new in zip(said, true, strict=True):
        if old != new:
            yield f"{folder / PAGE}: says {old!r}, should be {new!r}"
    if not _same(entry.seconds, log.seconds, 1e-6):
        yield f"{folder / PAGE}: says {entry.seconds} seconds, {RESULTS_FILE} gives {log.seconds}"


def _trials(folder: Path, log: RunLog, trials: dict[tuple, Trial]) -> Iterator[str]:
    """Whether the rows are the declared trials, each once and with the digest that it must have."""
    path = folder / RESULTS_FILE
    keys = list(zip(log.results["trial"], log.results["seed"], strict=True))
    for key, digest in zip(keys, log.results["digest"], strict=True):
        if key not in trials:
            yield f"{path}: {_named(key)} is no trial of the declaration"
        elif digest != trials[key].digest:
            yield f"{path}: {_named(key)} has digest {digest}, not {trials[key].digest}"
    for key in trials:
        if keys.count(key) != 1:
            yield f"{path}: has {keys.count(key)} rows of {_named(key)}"
    finished = set(zip(log.done["trial"], log.done["seed"], strict=True))
    for name, frame in ((CURVES_FILE, log.curves), (CONFUSIONS_FILE, log.confusions)):
        for key in sorted(set(zip(frame["trial"], frame["seed"], strict=True)) - finished):
            yield f"{folder / name}: {_named(key)} is no finished trial"


def _measurements(folder: Path, log: RunLog) -> Iterator[str]:
    """Whether the results follow from curves and confusions, and curves are whole."""
    curves = dict(iter(log.curves.groupby(["trial", "seed"])))
    confusions = dict(iter(log.confusions.groupby(["trial", "seed"])))
    for row in log.done.itertuples():
        key = (row.trial, row.seed)
        curve, matrix = curves.get(key, log.curves.head(0)), confusions.get(key)
        length = row.planned_epochs if row.diverged else row.epochs
        if list(curve["epoch"]) != list(range(1, int(length) + 1)):
            yield f"{folder / CURVES_FILE}: {_named(key)} has no curve of {length:.0f} epochs"
            continue
        expected = {name: curve[name].iloc[-1] for name in LAST}
        expected["best_val_accuracy"] = curve["val_accuracy"].max()
        expected["seconds"] = curve["seconds_per_epoch"].sum()
        if matrix is not None:
            right = matrix["count"][matrix["true"] == matrix["predicted"]].sum()
            expected["test_accuracy"] = right / matrix["count"].sum()
        elif not pd.isna(getattr(row, "test_accuracy", None)):
            yield f"{folder / CONFUSIONS_FILE}: lacks {_named(key)}, which has a test accuracy"
        for name, value in expected.items():
            if not _same(getattr(row, name), value, 1e-5):
                yield (
                    f"{folder / RESULTS_FILE}: {_named(key)}: {name} is {getattr(row, name)}, "
                    f"but it follows that it is {value}"
                )


def _copies(folder: Path, log: RunLog, trials: dict[tuple, Trial]) -> Iterator[str]:
    """Whether two seeds of the same settings have the same curve, which no two trainings have.

    Losses that stand still say nothing: a network that has stopped learning repeats itself.
    """
    seen: dict[tuple, tuple] = {}
    for key, curve in log.curves.groupby(["trial", "seed"]):
        if key not in trials:
            continue
        settings = trials[key].model_dump_json(exclude=UNEQUAL)
        for metric in ("train_loss", "val_loss"):
            losses = tuple(curve[metric])
            if not np.isfinite(losses).all() or (metric == "val_loss" and len(set(losses)) < 2):
                continue
            other = seen.setdefault((settings, metric, losses), key)
            if other[1] != key[1]:
                yield f"{folder / CURVES_FILE}: {_named(key)} has the {metric} of {_named(other)}"


def _searches(folder: Path, declaration: Declaration, log: RunLog) -> Iterator[str]:
    """Whether every declared search is whole, and its scores are those of the curves."""
    profile = declaration.profiles[folder.parent.name]  # type: ignore[index]
    declared = {name: sweep.search for name, sweep in declaration.sweeps.items() if sweep.search}
    for path in sorted(folder.glob(f"{tuner.FILE}*.csv")):
        sweep = path.stem.removeprefix(tuner.FILE)
        if sweep not in declared:
            yield f"{path}: no sweep declares this search"
            continue
        changes = profile.sweeps.get(sweep, profile.cut).search  # type: ignore[call-overload]
        spec = Search.model_validate(declared[sweep].model_dump() | changes)
        table = scoreboard.read_table(path, tuner.COLUMNS)
        groups = dict(iter(table.groupby(["tuner", "repeat"])))
        for key in [(name, n + 1) for name in spec.tuners for n in range(spec.repeats)]:
            if key not in groups or list(groups[key]["step"]) != [*range(1, len(groups[key]) + 1)]:
                yield f"{path}: {key[0]} search {key[1]} is not whole"
        for row in table.itertuples():
            curve = log.curve(row.trial, spec.metric)
            seen = curve[curve.columns.min()].get(row.reached) if len(curve) else None
            if seen is not None and not _same(row.score, seen, 1e-6):
                yield f"{path}: {row.trial} scored {row.score}, its curve says {seen}"


def _retrained(folder: Path, declaration: Declaration, log: RunLog) -> Iterator[str]:
    """Whether winners and defaults that were trained again had the scores that the results give."""
    for path in sorted(folder.glob(f"{retrain.FILE}*.csv")):
        sweep = path.stem.removeprefix(retrain.FILE)
        declared = declaration.sweeps.get(sweep)
        if declared is None or declared.retrain is None:
            yield f"{path}: no sweep declares that it is trained again"
            continue
        scores = log.first(sweep, declared.retrain.metric)
        for row in scoreboard.read_table(path).itertuples():
            if row.repetition == 0 and not _same(row.value, scores.get(row.trial), 1e-9):
                yield f"{path}: {row.trial} had {scores.get(row.trial)}, not {row.value}"


def _shown(folder: Path, numbers: pd.DataFrame, verdicts: pd.DataFrame) -> Iterator[str]:
    """Whether a page shows the claims and the published numbers as they are judged."""
    page = folder.with_suffix(".html")
    soup = BeautifulSoup(page.read_text("utf-8"), "html.parser")
    shown = {_text(each) for each in soup.select("article.claim, .table")}
    items = claim_items.items(verdicts)
    parsed = partial(BeautifulSoup, features="html.parser")
    for item in items:
        if _text(parsed(fill("article/claim.html.j2", item=item))) not in shown:
            yield f"{page}: does not show claim {item.id} as it is judged"
    if _text(parsed(tables.figures(numbers).data)) not in shown:
        yield f"{page}: does not show the published numbers as they are judged"


def _index(folder: Path) -> Iterator[str]:
    board = scoreboard.collect(folder)
    path = folder / f"{scoreboard.VERDICTS}.json"
    stored = files.read_object(path)
    for kind, content in board.content().items():
        if stored.get(kind) != content:
            yield f"{path}: its {kind} are not those that the tables give"
    path = path.with_suffix(".csv")
    yield from _differences(path, scoreboard.read_table(path), board.long())
    page = folder / index.FILE
    if page.read_bytes() != index.html(folder).encode():
        yield f"{page}: is not the index that the pages give"


def _differences(path: Path, stored: pd.DataFrame, computed: pd.DataFrame) -> Iterator[str]:
    if list(stored.columns) != list(computed.columns) or len(stored) != len(computed):
        yield f"{path}: has other rows or columns than the results give"
        return
    for name in computed:
        for number, (old, new) in enumerate(zip(stored[name], computed[name], strict=True)):
            if not _same(old, new, 1e-9):
                yield f"{path}: row {number + 2}, {name}: {old!r}, recomputed {new!r}"


def _named(key: tuple) -> str:
    return f"{key[0]} (seed {key[1]})"


def _text(element: BeautifulSoup) -> str:
    """What a reader sees of some HTML, with the tones of verdicts, whatever the line breaks."""
    tones = [" ".join(each["class"]) for each in element.select(".chip, .band, .estimate")]
    return " ".join([*element.get_text(" ").split(), *tones])


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
