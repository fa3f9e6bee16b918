"""What the source of the networks says of their factories, read without importing Keras."""

import ast
from functools import cache
from typing import Any

from refit import paths
from refit.errors import DeclarationError
from refit.experiments.trial import AUTOKERAS, Model, Trial

MODELS = paths.PACKAGE / "models"


@cache
def addresses() -> dict[str, tuple[str, str]]:
    """Module and function of every factory, read from the list of all architectures."""
    tree = ast.parse((MODELS / "networks.py").read_text("utf-8"))
    listed = next(n.value for n in tree.body if isinstance(n, ast.AnnAssign) and n.value)
    entries = zip(listed.keys, listed.values, strict=True)  # type: ignore[attr-defined]
    return {key.value: (value.value.id, value.attr) for key, value in entries}


@cache
def defaults(model: str) -> dict[str, Any]:
    """The options of a factory and their defaults; empty for a search, which has none."""
    if model not in addresses():
        return {}
    module, function = addresses()[model]
    tree = ast.parse((MODELS / f"{module}.py").read_text("utf-8"))
    found = (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == function)
    given = next(found).args
    pairs = zip(given.kwonlyargs, given.kw_defaults, strict=True)
    return {name.arg: ast.literal_eval(value) for name, value in pairs if value is not None}


def check(model: Model) -> None:
    """Raise DeclarationError where there is no such network, or it has no such option."""
    if model.name == AUTOKERAS:
        return  # whose options the search checks itself
    if model.name not in addresses():
        known = ", ".join(addresses())
        raise DeclarationError(f"model: {model.name!r} is unknown; known: {known}")
    if unknown := sorted(set(model.options) - set(known := defaults(model.name))):
        raise DeclarationError(
            f"model {model.name!r} has no option {', '.join(map(repr, unknown))}; "
            f"its options are: {', '.join(known) or 'none'}"
        )


def columns(trial: Trial) -> dict[str, bool | int | float | str]:
    """What TensorBoard's table shows of a trial: its settings, defaults included, without seed."""
    model = trial.model.model_copy(
        update={"options": defaults(trial.model.name) | trial.model.options}
    )
    flat = trial.model_copy(update={"model": model}).hyper_parameters()
    return {name: value for name, value in flat.items() if name != "seed"}


def group(trial: Trial) -> str:
    """What the seeds of a trial have in common in TensorBoard, which then shows their means."""
    return f"{trial.sweep}/{trial.name}"
