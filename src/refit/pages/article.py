"""The parts of an article that all notebooks have, one call each.

Every call takes the study and returns what Jupyter displays; `refit` renders the same on a page. A
study's results are read once and kept until `train` changes them. Nothing here imports Keras.
"""

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from IPython import get_ipython
from IPython.display import HTML, display, update_display
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

import refit
from refit.experiments.trial import AUTOKERAS
from refit.pages import claim_items, tables
from refit.pages.templating import fill, trusted
from refit.run_directory import log as run_log
from refit.run_directory.log import RunLog
from refit.study import Study

MODELS = Path(refit.__file__).parent / "models"
# What a reader would write for each callback of a declaration.
CALLBACKS = {
    "reduce_lr_on_plateau": "keras.callbacks.ReduceLROnPlateau",
    "stop_at_target": "TargetStop",
    "stop_when_stagnant": "StagnationStop",
    "keep_best": "BestWeights",
}
# The summary tells so many findings of a kind; all of them stand among the claims.
MOST_FINDINGS = 3
# A longer table of layers is folded.
MOST_LAYERS = 25


class Updated(HTML):
    """HTML that a notebook shows again, in the same place, when there is more to say."""

    def __init__(self, data: str, name: str):
        super().__init__(data)
        self.name = name

    def _ipython_display_(self) -> None:
        display(HTML(self.data), display_id=self.name)


def measured(study: Study) -> tuple[RunLog, pd.DataFrame, pd.DataFrame]:
    """The study's log, its published figures beside reproduced ones, and its judged claims.

    Read once, and again after `train`.
    """
    kept = vars(study)
    if "_measured" not in kept:
        log = study.log()
        numbers, verdicts = study.judge(log)
        kept["_measured"] = (log, numbers, verdicts)
    return kept["_measured"]


def summary(study: Study) -> Updated:
    """What was found: the verdicts in one line, a bar of them, the contradictions and the strongest
    confirmations in words, what was trained on what, and a banner on demonstration data or on a
    small scale. In a notebook it is shown again, with the results, once `train` has ended."""
    log, _, _ = measured(study)
    items = _items(study)
    verdicts = [item.verdict for item in items]
    return Updated(
        fill(
            "article/summary.html.j2",
            sentence=claim_items.sentence(verdicts),
            shares=claim_items.shares(verdicts),
            findings=_strongest(items, "no") + _strongest(items, "yes"),
            banner=_banner(study, log),
            done=len(log.done),
            total=len(log.results),
            facts=study.provenance(),
        ),
        f"summary of {study.name}",
    )


def question(study: Study) -> HTML:
    """What the report asked, what it used and how it measured, and the sweeps repeated here."""
    counts = len(study.declaration.published.figures), len(study.declaration.claims)
    return _html(
        "question",
        question=study.declaration.question,
        source=study.declaration.source.model_dump(),
        expected=study.declaration.expected_time,
        profile=study.profile.description,
        trainings=len(study.trials),
        numbers=counts[0],
        claims=counts[1],
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


def models(study: Study, *trials: str) -> HTML:
    """The source of the factories that built the networks, and the layers of what they built.

    `trials` are names; by default the first trial of every factory. Those that the profile leaves
    out are left out here. The source is read from its file and the layers from the results, so
    that a page of finished trials needs no Keras.
    """
    chosen = [study.trial(name) for name in trials if name in study.titles]
    if not trials:
        first = {trial.model.name: trial for trial in reversed(study.trials)}
        chosen = [trial for trial in study.trials if first[trial.model.name] is trial]
    networks = [
        {
            "name": trial.model.name,
            "title": trial.title,
            "call": _python(_call(trial.model.name, trial.model.options)),
            "layers": _layers(study, trial),
        }
        for trial in chosen
    ]
    names = dict.fromkeys(trial.model.name for trial in chosen)
    sources = [
        {"name": name, "file": file, "code": _python(code)}
        for name in names
        for file, code in [_factory(name)]
        if code
    ]
    return _html("models", sources=sources, networks=networks, settings=_settings(study))


def training(study: Study, trial: str = "") -> HTML:
    """The compile and the fit call of a trial, with its own settings, and where they live.

    `trial` is a name; by default, or where the profile leaves it out, the first trial.
    """
    chosen = study.trial(trial) if trial in study.titles else study.trials[0]
    called = [_written(CALLBACKS[spec.name], spec.model_dump()) for spec in chosen.callbacks]
    settings = {"trial": chosen, "optimizer": _optimizer(chosen.optimizer), "callbacks": called}
    search = "search_" * (chosen.model.name == AUTOKERAS)
    code = fill(f"article/{search}training.py.j2", **settings)
    return _html("training", title=chosen.title, code=_python(code), name=chosen.model.name)


def train(study: Study, **how: Any) -> HTML:
    """Train what is missing, show the summary anew, and tell in a sentence what was done.

    `how` is handed to `Study.train`, whose errors are raised as they are.
    """
    told = study.train(**how)
    vars(study).pop("_measured", None)
    if get_ipython():
        anew = summary(study)
        update_display(HTML(anew.data), display_id=anew.name)
    log, _, _ = measured(study)
    return _html("train", told=str(told), done=len(log.done), total=len(log.results))


def figures(study: Study) -> HTML:
    """Every published number beside the reproduced one, counted by verdict, then one by one."""
    _, numbers, _ = measured(study)
    return HTML(tables.figure_counts(numbers).data + tables.figures(numbers).data)


def claims(study: Study) -> HTML:
    """Every claim as an item with quotation, verdict and evidence: headlines, then details."""
    return _html("claims", items=_items(study))


def conclusion(study: Study) -> HTML:
    """What follows from the verdicts, in sentences: what holds, what does not, what stays open."""
    items = _items(study)
    groups = {tone: [item for item in items if item.tone == tone] for tone in ("yes", "no", "open")}
    unjudged = pd.Series([item.reason for item in items if item.tone == "none"], dtype=object)
    verdicts = [item.verdict for item in items]
    return _html(
        "conclusion",
        sentence=claim_items.sentence(verdicts),
        groups=groups,
        small=any(item.at_small_scale for item in items),
        reasons=unjudged.value_counts().to_dict(),
    )


def sources(study: Study) -> HTML:
    """The appendix: assumptions, the report's inconsistencies, data, versions and hardware.

    It also stores the tables of results, published numbers and claims beside the page.
    """
    study.save(*measured(study))
    shown = {
        "Assumptions": study.notes("assumptions"),
        "The report's own inconsistencies": study.notes("anomalies"),
        "Data, versions and hardware": run_log.provenance(study.trials, study.runs),
    }
    return HTML(
        "".join(tables.table(frame, name).data for name, frame in shown.items() if len(frame))
    )


def _items(study: Study) -> list[claim_items.ClaimItem]:
    verdicts = measured(study)[2]
    return claim_items.items(verdicts)


def _html(part: str, **values: Any) -> HTML:
    return HTML(fill(f"article/{part}.html.j2", **values))


def _table(frame: pd.DataFrame, caption: str) -> Any:
    return trusted(tables.table(frame, caption).data)


def _strongest(items: Sequence[claim_items.ClaimItem], tone: str) -> list[claim_items.ClaimItem]:
    """The most certain claims of one colour, headlines before details."""
    found = [item for item in items if item.tone == tone]
    found.sort(key=lambda item: (item.weight != "headline", item.certainty))
    return found[:MOST_FINDINGS]


def _banner(study: Study, log: RunLog) -> str:
    """What a reader must know before believing a number; empty where all is as published."""
    flags = log.done.get("demonstration", pd.Series(dtype=bool))
    if not study.profile.comparable or flags.astype(bool).any():
        return "demonstration"
    return "" if study.profile_name == "full" else "small"


def _settings(study: Study) -> Any:
    return _table(study.settings(), "What tells the trials apart")


def _layers(study: Study, trial: Any) -> dict[str, Any]:
    """The layers of a trained network as a table, and how many; none where it is not trained."""
    frame = run_log.layer_table(trial, study.runs)
    total = int(frame["parameters"].sum()) if len(frame) else 0
    caption = f"{trial.title}: {len(frame)} layers, {total:,} parameters"
    return {
        "caption": caption,
        "count": len(frame),
        "table": _table(frame, ""),
        "few": len(frame) <= MOST_LAYERS,
    }


def _python(code: str) -> Any:
    """Python, highlighted and escaped."""
    return trusted(highlight(code, PythonLexer(), HtmlFormatter(nowrap=True)))


def _call(name: str, options: dict[str, Any]) -> str:
    """How a trial builds its network, as a reader would write it."""
    module, function = _address(name)
    if not module:
        return "# the search builds the network"
    given = "".join(f", {option}={value!r}" for option, value in options.items())
    return f"model = {module}.{function}(input_shape, num_classes{given})"


def _address(name: str) -> tuple[str, str]:
    """Module and function of a factory, read from the list of all architectures."""
    tree = ast.parse((MODELS / "networks.py").read_text("utf-8"))
    listed = next(n.value for n in tree.body if isinstance(n, ast.AnnAssign) and n.value)
    entries = zip(listed.keys, listed.values, strict=True)  # type: ignore[attr-defined]
    known = {key.value: (value.value.id, value.attr) for key, value in entries}
    return known.get(name, ("", name))


def _factory(name: str) -> tuple[str, str]:
    """The file of a factory and its source: the function, and those of its file that it uses."""
    module, function = _address(name)
    path = MODELS / f"{module}.py"
    if not module:
        return "", ""  # a search makes its networks itself
    text = path.read_text("utf-8")
    defined = {n.name: n for n in ast.parse(text).body if isinstance(n, ast.FunctionDef)}
    wanted, queue = {}, [function]
    while queue:
        node = defined[queue.pop(0)]
        wanted[node.name] = ast.get_source_segment(text, node)
        used = [n.id for n in ast.walk(node) if isinstance(n, ast.Name)]
        queue += [n for n in dict.fromkeys(used) if n in defined and n not in wanted]
    return f"src/refit/models/{path.name}", "\n\n\n".join(map(str, wanted.values()))


def _optimizer(spec: Any) -> str:
    """The optimizer as `refit.training.optimizers` builds it, written out."""
    settings = spec.model_dump(exclude_defaults=True)
    classes = {"sgd": "SGD", "rmsprop": "RMSprop"}
    kind = f"keras.optimizers.{classes.get(spec.name, spec.name.capitalize())}"
    if spec.decay or spec.weight_decay:
        kind = "DecayingSGD"
    return _written(kind, {"l2" if n == "weight_decay" else n: v for n, v in settings.items()})


def _written(kind: str, settings: dict[str, Any]) -> str:
    """A call with the settings of a declaration."""
    given = [f"{name}={v!r}" for name, v in settings.items() if name != "name" and v != ""]
    return f"{kind}({', '.join(given)})"
