"""A page: the executed notebook of an experiment as one file, and a record of what it was made of.

Pages are complete in themselves: they open from a file, offline, and run no script but their own,
and plotly's, from a file beside them, where they have figures to explore.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from bs4 import BeautifulSoup
from pydantic import NonNegativeInt

from refit import files, paths
from refit.experiments import expand
from refit.pages import freshness
from refit.pages.templating import PLOTLY, page, trusted
from refit.run_directory import log as run_log
from refit.run_directory import run_tables
from refit.run_directory.directory import PAGE
from refit.study import Study
from refit.verdicts.scoreboard import CLAIMS_FILE, FIGURES_FILE

# What a page links to, beside it: the sources that it was made by, and its tables.
NOTEBOOK, DECLARATION = "notebook.ipynb", "declaration.yaml"
LINKS = {
    "notebook": NOTEBOOK,
    "declaration": DECLARATION,
    "results as CSV": run_log.RESULTS_FILE,
    "curves as CSV": run_log.CURVES_FILE,
    "published numbers as CSV": FIGURES_FILE,
    "claims as CSV": CLAIMS_FILE,
    "runs as MLflow's CSV": run_tables.FILES["mlflow"],
    "runs as W&B's CSV": run_tables.FILES["wandb"],
    "predictions as CSV": "predictions.csv",
}


@dataclass(frozen=True)
class PageEntry:
    """What is recorded of a page. `name` is the page's file name without its ending.

    `seeds` is the number of replicates that was asked for, 0 where it was the declared one.
    `data_sets` gives to every declared data set the one that was used and its fingerprint,
    `digests` the SHA-256 sum of every page, table and picture by its path beside the index, and
    `inputs` that of all that the page was made from (see `refit.pages.freshness`).
    """

    name: str
    title: str
    status: Literal["finished", "failed"]
    question: str
    trials_done: NonNegativeInt
    trials_total: NonNegativeInt
    seconds: float
    data: str
    hardware: str = ""
    seeds: int = 0
    data_sets: dict[str, tuple[str, str]] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    inputs: str = ""


def make(
    study: Study, parameters: Mapping[str, Any], titles: Mapping[str, str] | None = None
) -> str:
    """Run and render the notebook of a study, also a failed one; returns what failed, or nothing.

    `titles` are those of the experiments that have pages in the same folder, by name, in the order
    in which a reader turns them.
    """
    from refit.pages import notebook  # takes seconds, which pages that stay need not pay

    source = paths.NOTEBOOKS / f"{study.name}.ipynb"
    executed = study.runs / source.name
    recipe = freshness.recipe(study, parameters)
    failure = ""
    try:
        shown = source
        if not (parameters.get("train") or study.has_results):
            shown = notebook.untrained(source, study.runs / f"untrained-{source.name}")
        notebook.execute(shown, executed, parameters)
    except notebook.NotebookFailed as error:
        failure = str(error)
        study.save()
    files.write_bytes(study.pages / NOTEBOOK, source.read_bytes())
    publish(study, executed, parameters, failure, titles, recipe)
    return failure


def publish(
    study: Study,
    executed: Path,
    parameters: Mapping[str, Any],
    failure: str = "",
    titles: Mapping[str, str] | None = None,
    recipe: str = "",
) -> None:
    """Render an executed notebook, beside which its tables are stored, and record the page."""
    log = run_log.read_csv(study.pages)
    declared = paths.EXPERIMENTS / f"{study.name}.yaml"
    files.write_bytes(study.pages / DECLARATION, declared.read_bytes())
    html = study.page
    facts = study.provenance()
    links = {text: f"{study.name}/{file}" for text, file in LINKS.items()}
    links = {text: link for text, link in links.items() if (html.parent / link).exists()}
    turns = {}
    for before, after in pairwise(titles or {}):
        if study.name in (before, after):
            there, arrow = (before, "← {}") if after == study.name else (after, "{} →")
            turns[arrow.format((titles or {})[there])] = f"{there}.html"
    known = (facts.get(name, "none") for name in ("processor", "gpus"))
    hardware = ", ".join(name for name in known if name != "none")
    render(executed, html, study.declaration.title, links, _provenance(facts), turns)
    entry = PageEntry(
        name=study.name,
        title=study.declaration.title,
        status="failed" if failure else "finished",
        question=study.declaration.question,
        trials_done=len(log.done),
        trials_total=len(study.trials),
        seconds=log.seconds,
        data=" ".join(facts[name] for name in ("data", "stand-in") if name in facts),
        hardware=hardware,
        seeds=parameters.get("seeds", 0),
        data_sets=_data_sets(study),
        digests=freshness.digests(study.pages),
        inputs=freshness.inputs(study, recipe),
    )
    record(study.pages.parent, entry)


def render(
    executed: Path,
    path: Path,
    title: str,
    links: Mapping[str, str] | None = None,
    provenance: str = "",
    turns: Mapping[str, str] | None = None,
) -> None:
    """Write an executed notebook as one self-contained HTML file, with `links` beside its contents
    and `turns`, to the pages before and after it, at its end.

    Where nothing of a cell has anything to show yet, the page says so once. A notebook that failed
    gets a banner that leads to the failing cell. Figures to explore need plotly's script, which is
    put beside the page. Raises ReportError for what is no notebook.
    """
    from refit.pages import notebook  # takes seconds, which pages that stay need not pay

    cells, failure = notebook.cells(executed)
    soup = BeautifulSoup(cells, "html.parser")
    _leave_out_what_is_absent(soup)
    for code in soup.select("pre"):
        code["tabindex"] = "0"  # long lines scroll, by keyboard too
    for link in soup.select(f'a[href$="/full/{path.name}"]'):
        link.parent.decompose()  # from the notebook to its page
    explorable = soup.select_one(".explorable") is not None
    if explorable:
        _provide_plotly(path.with_name(PLOTLY))
    html = page(
        "report.html.j2",
        explorable=explorable,
        title=title,
        failure=failure,
        headings=soup.select("h2[id]"),
        has_heading=soup.h1 is not None,
        cells=trusted(str(soup)),
        links=links or {},
        provenance=provenance,
        turns=turns or {},
    )
    files.write_bytes(path, html.encode())


def _leave_out_what_is_absent(soup: BeautifulSoup) -> None:
    """Of outputs without anything to show the first of a cell stays, unless others have some."""
    for cell in soup.select(".cell"):
        first, *others = [*cell.select(".absent"), None]
        for absent in others[:-1]:
            absent.decompose()
        if first and cell.select_one("figure, .table, .claim, .facts"):
            first.decompose()
        elif first:
            first.string = "Nothing to show here."


def _provenance(facts: Mapping[str, str]) -> str:
    """What the numbers of a page come from, in a sentence; empty without any."""
    names = {"tensorflow": "TensorFlow", "keras": "Keras", "python": "Python"}
    versions = [f"{word} {facts[name]}" for name, word in names.items() if name in facts]
    if not versions:
        return ""
    return f"Trained on {facts['processor']} with {', '.join(versions)}; data: {facts['data']}"


def record(folder: Path, entry: PageEntry) -> None:
    """Keep a page's entry as folder/<name>/page.json, from which later runs write the index."""
    files.write_json(folder / entry.name / PAGE, asdict(entry))


def _data_sets(study: Study) -> dict[str, tuple[str, str]]:
    """Of every declared data set the one that was used, by name, and its fingerprint."""
    declared = expand.expand(study.declaration, study.profile_name, resolve=lambda spec: spec)
    names = {trial.name: trial.data.name for trial in declared}
    used = (trial for trial in study.trials if trial.name in names)
    return {names[trial.name]: (trial.data.name, trial.data.fingerprint) for trial in used}


def _provide_plotly(path: Path) -> None:
    """Copy the installed plotly's script to `path`, unless that is what lies there."""
    script = (resources.files("plotly") / "package_data" / "plotly.min.js").read_bytes()
    if not path.exists() or path.read_bytes() != script:
        files.write_bytes(path, script)
