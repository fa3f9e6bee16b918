"""The parts of an article that all notebooks have, one call each.

Every call takes the study and returns what Jupyter displays; `refit` renders the same on a page. A
study's results are read once and kept until `train` changes them. Nothing here imports Keras.
"""

import re
from collections import Counter
from itertools import pairwise
from typing import Any

import pandas as pd
from IPython import get_ipython
from IPython.display import HTML, display, update_display
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from refit.errors import DeclarationError
from refit.experiments import expand, factories
from refit.experiments.declaration import FULL
from refit.figures import published
from refit.figures.labels import label
from refit.pages import claim_items, script, tables
from refit.pages.templating import fill, trusted
from refit.run_directory import log as run_log
from refit.run_directory.log import RunLog
from refit.study import Study
from refit.verdicts import contrasts

# The summary tells so many findings of a kind; all of them stand among the claims.
MOST_FINDINGS = 3


class Updated(HTML):
    """HTML that a notebook shows again, in the same place, when there is more to say."""

    def __init__(self, data: str, name: str):
        super().__init__(data)
        self.name = name

    def _ipython_display_(self) -> None:
        display(HTML(self.data), display_id=self.name)


def summary(study: Study) -> Updated:
    """What was found: the verdicts in one line, a bar of them, the contradictions and the strongest
    confirmations in words, published against reproduced numbers as a figure, what was trained on
    what, and banners on demonstration data, a small scale, fewer seeds than declared, or nothing
    trained. In a notebook it is shown again, with the results, once `train` has ended."""
    _refuse_unknown_parameters()
    log, numbers, _ = study.measured
    items = _items(study)
    reasons, declared = [*_reasons(items), *numbers["reason"]], _declared(study)
    title = f"{study.declaration.title}: published and here"
    picture = published.published_against_reproduced(
        tables.beside(numbers, contrasts.names(study.declaration)), title
    )
    html = _html(
        "summary",
        found=trusted(findings(items)["summary"]),
        banners=_banners(study, log, declared),
        needs=[each for each in dict.fromkeys(reasons) if each.startswith("needs")],
        declared=declared,
        picture=trusted(picture.save(study.pages, "published")._repr_html_()),
        done=len(log.done),
        total=len(log.results),
        sweeps=_trained(study, log),
        facts=study.provenance(),
    )
    return Updated(html.data, f"summary of {study.name}")


def _trained(study: Study, log: RunLog) -> dict[str, list[str]]:
    """The titles of the sweeps of which all, some or none is trained, with counts of some."""
    found: dict[str, list[str]] = {"all": [], "some": [], "none": []}
    done = log.results["status"].eq("done").groupby(log.results["sweep"], sort=False)
    for name, (count, total) in done.agg(["sum", "size"]).iterrows():
        title = study.declaration.sweeps[name].title
        kind = "all" if count == total else "some" if count else "none"
        found[kind].append(f"{title} ({count} of {total})" if kind == "some" else title)
    return found


def question(study: Study) -> HTML:
    """What the report asked, what it used and how it measured, and the sweeps repeated here."""
    return _html(
        "question",
        question=study.declaration.question,
        source=study.declaration.source.model_dump(),
        expected=study.declaration.expected_time,
        name=study.profile_name,
        profile=study.profile.description,
        trainings=len(study.trials),
        numbers=int((~study.measured[1]["repeats"].astype(bool)).sum()),
        claims=len(study.declaration.claims),
        sweeps=_table(study.overview(), "Sweeps: trainings and epochs, published and here"),
    )


def data(study: Study) -> HTML:
    """The images that were trained on: where they come from, how many, and what they stand for.

    Read from the results; where there are none yet, the images of the first trial are loaded.
    """
    facts = study.provenance()
    if "data" not in facts:
        found = study.data()
        images = f"{len(found.train):,} train, {len(found.validation):,} validation"
        facts = {"data": found.source, "stand-in": found.stand_in, "images": images}
    kinds = ("data", "stand-in", "images")
    return _html("data", facts={kind: facts[kind] for kind in kinds if facts.get(kind)})


def models(study: Study) -> Updated:
    """The source of the factories that built the networks, and the layers of what they built.

    Shown of the first trial of every factory. The source is read from its file and the layers from
    the results, so that a page of finished trials needs no Keras.
    """
    addresses, networks, sources = factories.addresses(), [], {}
    first = {trial.model.name: trial for trial in reversed(study.trials)}
    for trial in (trial for trial in study.trials if first[trial.model.name] is trial):
        layers = run_log.layer_table(trial, study.runs)
        call = "# the search builds the network"
        if trial.model.name in addresses:
            module, function = addresses[trial.model.name]
            file = f"src/refit/models/{module}.py"
            sources[file] = _python((factories.MODELS / f"{module}.py").read_text("utf-8"))
            given = "".join(f", {name}={value!r}" for name, value in trial.model.options.items())
            call = f"model = {module}.{function}(input_shape, num_classes{given})"
        networks.append(
            {
                "title": trial.title,
                "call": _python(call),
                "layers": _table(layers, ""),
                "count": len(layers),
                "parameters": int(layers["parameters"].sum()),
            }
        )
    settings = _table(study.settings().drop(columns="trial"), "What tells the trainings apart")
    html = _html("models", sources=sources, networks=networks, settings=settings)
    return Updated(html.data, f"models of {study.name}")


def training(study: Study) -> HTML:
    """The middle of the script by which the first trial can be trained without refit."""
    trial = study.trials[0]
    command = f"refit script {study.name} {trial.name} --profile {study.profile_name}"
    code = _python(script.training(trial))
    shown = {"title": trial.title, "code": code, "command": command, "name": trial.model.name}
    return _html("training", **shown)


def train(study: Study, **how: Any) -> HTML:
    """Train what is missing, show summary and models anew, and tell in a sentence what was done.

    `how` is handed to `Study.train`, whose errors are raised as they are.
    """
    told = study.train(**how)
    for anew in (summary(study), models(study)) if get_ipython() else ():
        update_display(HTML(anew.data), display_id=anew.name)
    log, _, _ = study.measured
    return _html("train", told=str(told), done=len(log.done), total=len(log.results))


def figures(study: Study) -> HTML:
    """Every published number beside the reproduced one, counted by verdict, then one by one; then
    what all finished trainings reached."""
    log, numbers, _ = study.measured
    results = log.summary().query("seeds > 0")
    ids = [f"trial-{name}" for name in results["trial"]]
    results = results.drop(columns="trial").rename(columns={"title": "trial"})
    shown = tables.table(results, "All trainings, means over seeds", row_ids=ids)
    found = [
        tables.figure_counts(numbers),
        tables.figures(numbers, contrasts.names(study.declaration)),
    ]
    found += [shown] * bool(len(results))
    return HTML("".join(each.data for each in found))


def claims(study: Study) -> HTML:
    """Every claim as an item with quotation, verdict and evidence: headlines, then details.

    Items link to the figures that are named after their sweeps, and to their trained trials.
    """
    items = _items(study)
    pictures = [path.stem for path in sorted(study.pages.glob("*.png"))]
    known = sorted(study.declaration.sweeps, key=len)
    shown = {each: [name for name in known if f"_{name}_" in f"_{each}_"][-1:] for each in pictures}
    sweeps = {trial.name: trial.sweep for trial in study.trials}
    about = {item.row["id"]: {sweeps.get(name) for name in item.trials} for item in items}
    figures = {
        name: [picture for picture in pictures if found.intersection(shown[picture])]
        for name, found in about.items()
    }
    trained = set(study.measured[0].done["trial"])
    return _html("claims", items=items, figures=figures, titles=study.titles, trained=trained)


def conclusion(study: Study) -> HTML:
    """What follows from the verdicts, in sentences: what holds, what does not, what stays open."""
    return HTML(findings(_items(study))["conclusion"])


def findings(items: list[claim_items.ClaimItem]) -> dict[str, str]:
    """The parts of a page that follow from its verdicts alone, as HTML."""
    against, confirmed = (claim_items.strongest(items, tone) for tone in ("no", "yes"))
    groups = {tone: [item for item in items if item.tone == tone] for tone in ("yes", "no", "open")}
    shown = {
        "summary": {
            "shares": claim_items.shares(items),
            "findings": against[:MOST_FINDINGS] + confirmed[:MOST_FINDINGS],
        },
        "conclusion": {
            "groups": groups,
            "small": any(item.at_small_scale for item in items),
            "reasons": _reasons(items),
        },
    }
    sentence = claim_items.sentence(items)
    return {
        name: fill(f"article/{file}.html.j2", sentence=sentence, **shown[name])
        for name, file in (("summary", "found"), ("conclusion", "conclusion"))
    }


def sources(study: Study) -> HTML:
    """The appendix: assumptions, the report's inconsistencies, data, versions and hardware.

    It also stores the tables of results, published numbers and claims beside the page.
    """
    study.save()
    facts = run_log.provenance(study.trials, study.runs)
    facts["fact"] = facts["fact"].replace({"stand-in": "in place of the report's"}).map(label)
    shown = {
        "Assumptions": study.notes("assumptions"),
        "The report's own inconsistencies": study.notes("anomalies"),
        "Data, versions and hardware": facts,
    }
    return HTML(
        "".join(tables.table(frame, name).data for name, frame in shown.items() if len(frame))
    )


def _refuse_unknown_parameters() -> None:
    """Raise DeclarationError where papermill has set what the cell of parameters does not.

    It puts a cell of its own behind that cell, and only warns.
    """
    shell = get_ipython()
    for before, cell in pairwise(shell.user_ns.get("In", []) if shell else []):
        if cell.startswith("# Parameters\n"):
            known, given = (set(re.findall(r"^(\w+) = ", text, re.M)) for text in (before, cell))
            if unknown := ", ".join(sorted(given - known)):
                choices = ", ".join(sorted(known))
                raise DeclarationError(f"the notebook has no parameter {unknown}; it has {choices}")


def _items(study: Study) -> list[claim_items.ClaimItem]:
    return claim_items.items(study.measured[2])


def _html(part: str, **values: Any) -> HTML:
    return HTML(fill(f"article/{part}.html.j2", **values))


def _table(frame: pd.DataFrame, caption: str) -> Any:
    return trusted(tables.table(frame, caption).data)


def _banners(study: Study, log: RunLog, declared: int) -> list[str]:
    """What a reader must know before believing a number; none where all is as published."""
    found = ["try"] if len(study.trials) < declared else []
    flags = log.done.get("demonstration", pd.Series(dtype=bool))
    if not study.profile.comparable or flags.astype(bool).any():
        return ["demonstration", *found]
    if study.profile_name != FULL:
        return ["small", *found]
    return [*found, *["untrained"] * log.done.empty]


def _declared(study: Study) -> int:
    """How many trainings the profile has with as many seeds as are declared."""
    return len(expand.expand(study.declaration, study.profile_name, resolve=lambda spec: spec))


def _reasons(items: list[claim_items.ClaimItem]) -> dict[str, int]:
    """Why claims are not judged here, the most frequent reason first."""
    return dict(Counter(item.row["reason"] for item in items if item.tone == "none").most_common())


def _python(code: str) -> Any:
    """Python, highlighted and escaped."""
    return trusted(highlight(code, PythonLexer(), HtmlFormatter(nowrap=True)))
