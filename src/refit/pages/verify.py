"""Whether a folder of pages is consistent: with itself, with the declarations, and with arithmetic.

Nothing is trained and no run directory is needed. What was measured is taken from the tables beside
a page and recomputed where one number follows from another; verdicts are judged anew; the page is
searched for what they give; and every file must be the one that was recorded. That finds edits
which do not fit together. It cannot find measurements that were invented as a consistent whole.
"""

import math
from base64 import b64encode
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from bs4 import BeautifulSoup
from pydantic import TypeAdapter, ValidationError

from refit import files, paths
from refit.data.spec import DataSpec
from refit.errors import RefitError, ReportError
from refit.experiments import expand
from refit.experiments.declaration import Declaration
from refit.experiments.metrics import METRICS
from refit.experiments.trial import Trial
from refit.pages import article, claim_items, freshness, index, tables
from refit.pages.page import DECLARATION, PageEntry
from refit.pages.templating import fill
from refit.run_directory import curve_metrics, result_rows
from refit.run_directory import log as run_log
from refit.run_directory.directory import PAGE
from refit.run_directory.log import CONFUSIONS_FILE, CURVES_FILE, RESULTS_FILE, RunLog
from refit.searches import retrain, tuner
from refit.verdicts import claims, contrasts, published_figures, scoreboard

PNG = "data:image/png;base64,"


def verify(folder: Path) -> list[str]:
    """What disagrees in a folder of pages, one sentence each; empty if everything agrees.

    The folder is named after its profile. Raises ReportError where it holds no page.
    """
    marks = (PAGE, scoreboard.CLAIMS_FILE)
    places = sorted({path.parent for name in marks for path in folder.glob(f"*/{name}")})
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
    yield from _measurements(folder, log, trials)
    yield from _copies(folder, log)
    yield from _searches(folder, declaration, log)
    yield from _retrained(folder, declaration, log)
    numbers = published_figures.figures(declaration, profile, log)
    verdicts = claims.judge(declaration, profile, log)
    for name, table in ((scoreboard.FIGURES_FILE, numbers), (scoreboard.CLAIMS_FILE, verdicts)):
        yield from _differences(folder / name, scoreboard.read_table(folder / name), table)
    shown = tables.figures(numbers, contrasts.names(declaration)).data
    yield from _shown(folder, shown, verdicts)


def _declared(declaration: Declaration, profile: str, entry: PageEntry) -> dict[tuple, Trial]:
    """The trials of a page by name and seed, with the data sets that are recorded."""

    def resolve(spec: DataSpec) -> DataSpec:
        name, fingerprint = entry.data_sets[spec.name]
        return spec.model_copy(update={"name": name, "fingerprint": fingerprint})

    trials = expand.expand(declaration, profile, entry.seeds, resolve=resolve)
    return {(trial.name, trial.seed): trial for trial in trials}


def _files(folder: Path, entry: PageEntry) -> Iterator[str]:
    """Whether every page, table and picture is the one that was recorded."""
    found, made = freshness.digests(folder), entry.digests
    for name in sorted(found.keys() | made.keys()):
        if found.get(name) != made.get(name):
            fate = "is not the file that was made" if name in found else "is missing"
            fate = fate if name in made else "was not there when the page was made"
            yield f"{folder.parent / name}: {fate}"


def _record(
    folder: Path, entry: PageEntry, declaration: Declaration, log: RunLog, trials: dict
) -> Iterator[str]:
    expected = {name: getattr(declaration, name) for name in ("name", "title", "question")}
    expected |= {"trials_done": len(log.done), "trials_total": len(trials), "seconds": log.seconds}
    for name, value in expected.items():
        if not _same(said := getattr(entry, name), value, 1e-6):
            yield f"{folder / PAGE}: {name} is {said!r}, should be {value!r}"
    declared = (paths.EXPERIMENTS / f"{folder.name}.yaml").read_bytes()
    if not (folder / DECLARATION).exists() or (folder / DECLARATION).read_bytes() != declared:
        yield f"{folder / DECLARATION}: is not the declaration of the experiment"


def _trials(folder: Path, log: RunLog, trials: dict[tuple, Trial]) -> Iterator[str]:
    """Whether the rows are the declared trials, each once and with all that is declared of it."""
    path = folder / RESULTS_FILE
    rows = defaultdict(list)
    for row in log.results.to_dict("records"):
        rows[row["trial"], row["seed"]].append(row)
    for key in (key for key in rows if key not in trials):
        yield f"{path}: {_named(key)} is no trial of the declaration"
    for key, trial in trials.items():
        found = rows[key]
        if len(found) != 1:
            yield f"{path}: has {len(found)} rows of {_named(key)}"
        else:
            yield from _unlike(path, key, found[0], result_rows.declared_row(trial), 1e-9)
    finished = set(zip(log.done["trial"], log.done["seed"], strict=True))
    for name, frame in ((CURVES_FILE, log.curves), (CONFUSIONS_FILE, log.confusions)):
        for key in sorted(set(zip(frame["trial"], frame["seed"], strict=True)) - finished):
            yield f"{folder / name}: {_named(key)} is no finished trial"


def _measurements(folder: Path, log: RunLog, trials: dict[tuple, Trial]) -> Iterator[str]:
    """Whether the results follow from curves and confusions, curves are whole, and counts equal."""
    path = folder / RESULTS_FILE
    curves = dict(iter(log.curves.groupby(["trial", "seed"])))
    confusions = dict(iter(log.confusions.groupby(["trial", "seed"])))
    counts = [name for name in log.done if METRICS.get(name) == "count"]
    counted: dict[str, dict[str, Any]] = {}
    for row in log.done.to_dict("records"):
        key = (row["trial"], row["seed"])
        curve, matrix = curves.get(key, log.curves.head(0)), confusions.get(key)
        length = row["planned_epochs"] if row["diverged"] else row["epochs"]
        if list(curve["epoch"]) != [*range(1, int(length) + 1)]:
            yield f"{folder / CURVES_FILE}: {_named(key)} has no curve of {length:.0f} epochs"
            continue
        if matrix is None and not pd.isna(row.get("test_accuracy", math.nan)):
            yield f"{folder / CONFUSIONS_FILE}: lacks {_named(key)}, which has a test accuracy"
        if key in trials:
            follows = curve_metrics.following(trials[key], row, curve, matrix)
            yield from _unlike(path, key, row, follows, 1e-5)
        # Every training of a trial has the same network and the same images.
        first = counted.setdefault(row["trial"], {name: row[name] for name in counts})
        yield from _unlike(path, key, row, first, 0.0)


def _unlike(
    path: Path, key: tuple, row: Mapping[str, Any], expected: Mapping[str, Any], tolerance: float
) -> Iterator[str]:
    for name, value in expected.items():
        if not _same(row.get(name), value, tolerance):
            yield f"{path}: {_named(key)}: {name} is {row.get(name)}, it follows that it is {value}"


def _copies(folder: Path, log: RunLog) -> Iterator[str]:
    """Whether two seeds have the same curve, to five digits, which no two trainings have.

    Losses that stand still say nothing: a network that has stopped learning repeats itself.
    """
    seen: dict[tuple, tuple] = {}
    for key, curve in log.curves.groupby(["trial", "seed"]):
        for metric in ("train_loss", "val_loss"):
            losses = tuple(curve[metric].round(5))
            still = len(set(losses)) < 2 and (metric == "val_loss" or len(losses) > 1)
            if still or not np.isfinite(losses).all():
                continue
            other = seen.setdefault((metric, losses), key)
            if other[1] != key[1]:
                yield f"{folder / CURVES_FILE}: {_named(key)} has the {metric} of {_named(other)}"


def _searches(folder: Path, declaration: Declaration, log: RunLog) -> Iterator[str]:
    """Whether every search is declared and whole, and its scores are those of the curves."""
    for path in sorted(folder.glob(f"{tuner.FILE}*.csv")):
        sweep = path.stem.removeprefix(tuner.FILE)
        spec = declaration.plan(folder.parent.name, sweep, "search")
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
        spec = declaration.plan(folder.parent.name, sweep, "retrain")
        scores = log.first(sweep, spec.metric)
        for row in scoreboard.read_table(path).itertuples():
            if row.repetition == 0 and not _same(row.value, scores.get(row.trial), 1e-9):
                yield f"{path}: {row.trial} had {scores.get(row.trial)}, not {row.value}"


def _shown(folder: Path, numbers: str, verdicts: pd.DataFrame) -> Iterator[str]:
    """Whether a page shows the claims and the published numbers as they are judged, all that is
    told of them, no other claim, and the pictures that lie beside it."""
    page = folder.with_name(f"{folder.name}.html")
    soup = BeautifulSoup(page.read_text("utf-8"), "html.parser")
    parsed = partial(BeautifulSoup, features="html.parser")
    items = claim_items.items(verdicts)
    judged = {_text(parsed(fill("article/claim.html.j2", item=each))): each for each in items}
    shown = [_text(each) for each in soup.select("article.claim")]
    for text, item in judged.items():
        if text not in shown:
            yield f"{page}: does not show claim {item.row['id']} as it is judged"
    if len(shown) > len(judged):
        yield f"{page}: shows {len(shown)} claims, of which {len(judged)} are judged"
    if _text(parsed(numbers)) not in map(_text, soup.select(".table")):
        yield f"{page}: does not show the published numbers as they are judged"
    told = _words(soup)
    for part, html in article.findings(items).items():
        if _words(parsed(html)) not in told:
            yield f"{page}: its {part} is not what the verdicts give"
    stored = {b64encode(path.read_bytes()).decode() for path in folder.glob("*.png")}
    for number, picture in enumerate(soup.select(f'img[src^="{PNG}"]'), start=1):
        if picture["src"].removeprefix(PNG) not in stored:
            yield f"{page}: picture {number} is none of those beside it"


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


def _words(element: BeautifulSoup) -> str:
    """What a reader sees of some HTML, whatever the line breaks."""
    return " ".join(element.get_text(" ").split())


def _text(element: BeautifulSoup) -> str:
    """The same but for links to the rest of the page, with the tones of verdicts."""
    for links in element.select(".links"):
        links.decompose()
    tones = [" ".join(each["class"]) for each in element.select(".chip, .band, .estimate")]
    return " ".join([_words(element), *tones])


def _same(old: object, new: object, tolerance: float) -> bool:
    """Equal, with numbers compared to `tolerance` and all kinds of nothing taken for the same."""
    # A setting of null is stored as such, and read back as nothing.
    empty = [value is None or value in ("", "null") or value != value for value in (old, new)]
    if any(empty) or not isinstance(new, int | float | np.number) or isinstance(new, bool):
        return all(empty) or (not any(empty) and str(old) == str(new))
    with suppress(TypeError, ValueError):
        return math.isclose(float(old), float(new), rel_tol=tolerance, abs_tol=tolerance)  # type: ignore[arg-type]
    return False
