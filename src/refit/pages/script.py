"""A trial as a short Keras script of its own, which trains the same network without refit.

What the script defines is the source of refit itself, read from its files without importing Keras.
"""

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from refit import paths
from refit.data import cache as data_cache
from refit.data.cifar10 import CHECKSUM
from refit.data.spec import DataSpec
from refit.errors import DeclarationError
from refit.experiments import factories
from refit.experiments.trial import AUTOKERAS, Trial
from refit.pages.templating import fill
from refit.run_directory.directory import BASE_WEIGHTS, FINAL_WEIGHTS

EMBEDDED = ("digits", "digits_pairs", "digits_colour")
# Classes of refit that a script contains, by what a trial declares.
CALLBACKS = {"stop_at_target": "TargetStop", "stop_when_stagnant": "StagnationStop"}


def write(trial: Trial, experiment: str, runs: Path) -> str:
    """The script of a trial, whole; `runs` is the experiment's folder of one profile.

    Raises DeclarationError for a search, which no plain script can repeat.
    """
    if trial.model.name == AUTOKERAS:
        raise DeclarationError(
            f"{trial.name} is a search by AutoKeras, which no plain script repeats: what it tries "
            "depends on the tuner's own state; see src/refit/searches/autokeras.py"
        )
    roots = [("models", *factories.addresses()[trial.model.name])]
    stops = [spec.name for spec in trial.callbacks if spec.name in CALLBACKS]
    roots += [("training", "stopping", CALLBACKS[name]) for name in stops]
    if "Decaying" in optimizer(trial):
        roots.append(("training", "optimizers", "DecayingSGD"))
    if trial.evaluate_train:
        roots.append(("training", "recorder", "TrainEvaluation"))
    data, definitions = trial.data, {}
    for *room, name in roots:
        _collect(paths.PACKAGE.joinpath(*room).with_suffix(".py"), name, definitions)
    imports = [name for name, text in definitions.items() if not text]
    return fill(
        "script.py.j2",
        trial=trial,
        experiment=experiment,
        imports=_in_order(imports),
        definitions=[text for text in definitions.values() if text],
        folder=data_cache.folder_of(data, paths.cache()),
        weights=_weights(trial, runs),
        embedded=EMBEDDED,
        made=makes_its_data(data),
        **_calls(trial),
    )


def training(trial: Trial) -> str:
    """The middle of the script: network, compile, fit and evaluation."""
    search = "search_" * (trial.model.name == AUTOKERAS)
    calls = {} if search else _calls(trial)
    return fill(f"article/{search}training.py.j2", trial=trial, **calls)


def makes_its_data(data: DataSpec) -> bool:
    """Whether a script gets the images by itself; all others it reads as refit has decoded them."""
    return (
        data.name in (*EMBEDDED, "fashion_mnist", "fashion_mnist_pairs")
        or data.fingerprint == CHECKSUM[:12]
    )


def call(kind: str, settings: dict[str, Any]) -> str:
    """A call with the settings of a declaration."""
    given = [(name, value) for name, value in settings.items() if name != "name"]
    return f"{kind}({', '.join(f'{name}={_literal(value)}' for name, value in given)})"


def _literal(value: Any) -> str:
    return json.dumps(value) if isinstance(value, str) else repr(value)


def optimizer(trial: Trial, **changes: Any) -> str:
    """The optimizer as `refit.training.optimizers` builds it, written out."""
    spec = trial.optimizer.model_copy(update=changes)
    settings = spec.model_dump(exclude_defaults=True)
    classes = {"sgd": "SGD", "rmsprop": "RMSprop"}
    kind = f"keras.optimizers.{classes.get(spec.name, spec.name.capitalize())}"
    if spec.decay or spec.weight_decay:
        kind = "DecayingSGD"
    return call(kind, {"l2" if n == "weight_decay" else n: v for n, v in settings.items()})


def _calls(trial: Trial) -> dict[str, Any]:
    """Factory, optimizers and callbacks of a trial, as calls."""
    options = "".join(f", {name}={_literal(value)}" for name, value in trial.model.options.items())
    rate = {"learning_rate": trial.fine_tuning.learning_rate} if trial.fine_tuning else {}
    _, factory = factories.addresses()[trial.model.name]
    return {
        "factory": f"{factory}(input_shape, num_classes{options})",
        "optimizer": optimizer(trial),
        "fine_optimizer": optimizer(trial, **rate),
        "evaluated": trial.evaluation_batch,
        "callbacks": [_callback(spec) for spec in trial.callbacks],
    }


def _callback(spec: Any) -> str:
    settings = spec.model_dump()
    if spec.name == "reduce_lr_on_plateau":
        return call("keras.callbacks.ReduceLROnPlateau", settings)
    if spec.name != "keep_best":
        return call(CALLBACKS[spec.name], settings)
    kept = {"monitor": spec.monitor, "mode": "max", "save_best_only": True}
    kept |= {"initial_value_threshold": spec.at_least} if spec.at_least else {}
    return call("keras.callbacks.ModelCheckpoint", {"filepath": spec.file or "best.keras"} | kept)


def _weights(trial: Trial, runs: Path) -> str:
    """The file of weights that a trial starts from; empty where they are drawn."""
    if trial.starts_from:
        kept = FINAL_WEIGHTS if trial.carried_over else BASE_WEIGHTS
        return str(runs / trial.starts_from / kept)
    return trial.pretrained.weights if trial.pretrained else ""


def _collect(path: Path, name: str, found: dict[str, str]) -> None:
    """Add a definition of refit to `found`, after all that it uses; an import has no text."""
    text = path.read_text("utf-8")
    tree = ast.parse(text)
    nodes = {label: node for node in tree.body for label in _defined(node)}
    node = nodes[name]
    for used in sorted({each.id for each in ast.walk(node) if isinstance(each, ast.Name)} - {name}):
        source = nodes.get(used)
        if isinstance(source, ast.ImportFrom) and (source.module or "").startswith("refit."):
            inner = (source.module or "").split(".")[1:]
            _collect(paths.PACKAGE.joinpath(*inner).with_suffix(".py"), used, found)
        elif isinstance(source, ast.Import | ast.ImportFrom):
            begin = f"from {source.module} " if isinstance(source, ast.ImportFrom) else ""
            found.setdefault(f"{begin}import {used}", "")
        elif source and used not in found:
            _collect(path, used, found)
    found.setdefault(name, ast.get_source_segment(text, node) or "")


def _defined(node: ast.stmt) -> Iterator[str]:
    """The names that a statement at the top of a module defines or imports."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield from (alias.asname or alias.name for alias in node.names)
    elif isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Assign):
        yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def _in_order(imports: list[str]) -> list[str]:
    """Import statements, one for each module, the plain ones first."""
    plain = [line for line in imports if line.startswith("import ")]
    names: dict[str, list[str]] = {}
    for line in set(imports) - set(plain):
        module, _, name = line.partition(" import ")
        names.setdefault(module, []).append(name)
    together = [f"{module} import {', '.join(sorted(used))}" for module, used in names.items()]
    return sorted({*plain, "import sys", "import keras", "import numpy as np"}) + sorted(together)
