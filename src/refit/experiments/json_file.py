"""The JSON files in which the gesture report keeps its experiments, read and written.

They hold optimizer, epochs and the plateau rule of every run, all as texts. What they leave out, a
declaration's `base` has, and the rate that an optimizer begins with is Keras's default.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from refit.errors import DeclarationError
from refit.experiments.trial import ReduceOnPlateau, Trial
from refit.experiments.yaml_file import explain

# As the report spells them, with the rates that they begin with where none is given.
OPTIMIZERS = {
    "SGD": 0.01, "Adagrad": 0.001, "Adam": 0.001, "Nadam": 0.001, "Adadelta": 0.001,
    "Adamax": 0.001, "Ftrl": 0.001, "RMSprop": 0.001,
}  # fmt: skip


class _Run(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, validate_by_name=True)

    learning_rate_factor: float
    minimum_learning_rate: float
    number_of_epochs: int
    optimizer: str
    title: str


class _Runs(BaseModel):
    model_config = ConfigDict(extra="forbid")

    parameters: list[_Run]


def read(path: Path, base: dict[str, Any]) -> list[dict[str, Any]]:
    """The entries of a sweep whose runs a file names; what else a plateau rule has is in `base`.

    Raises DeclarationError naming what is wrong in the file.
    """
    try:
        runs = _Runs.model_validate_json(path.read_text(encoding="utf-8")).parameters
    except ValidationError as error:
        raise DeclarationError(f"{path}: {explain(error)}") from error
    except (OSError, ValueError) as error:
        raise DeclarationError(f"{path}: cannot be read: {error}") from error
    rules = base.get("callbacks", []) if isinstance(base, dict) else None
    if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
        raise DeclarationError("base.callbacks: should be a list of callbacks, each with its name")
    entries = []
    for number, run in enumerate(runs, start=1):
        if run.optimizer not in OPTIMIZERS:
            known = ", ".join(OPTIMIZERS)
            raise DeclarationError(
                f"{path}: optimizer {run.optimizer!r} is unknown; known: {known}"
            )
        rate = OPTIMIZERS[run.optimizer]
        changes = {"factor": run.learning_rate_factor, "min_lr": run.minimum_learning_rate}
        entries.append(
            {
                "name": f"{path.stem}-{number}",
                "title": run.title,
                "epochs": run.number_of_epochs,
                "optimizer": {"name": run.optimizer.lower(), "learning_rate": rate},
                "callbacks": [
                    spec | changes if spec.get("name") == "reduce_lr_on_plateau" else spec
                    for spec in rules
                ],
            }
        )
    return entries


def write(trials: Sequence[Trial]) -> str:
    """The file of some trials, in their order. Raises DeclarationError where one has no plateau
    rule, or a rate to begin with that the format cannot tell."""
    spelled = {name.lower(): name for name in OPTIMIZERS}
    runs = []
    for number, trial in enumerate(trials, start=1):
        rules = [spec for spec in trial.callbacks if isinstance(spec, ReduceOnPlateau)]
        name, rate = spelled[trial.optimizer.name], trial.optimizer.learning_rate
        if not rules or rate != OPTIMIZERS[name]:
            raise DeclarationError(
                f"{trial.name}: these files tell an optimizer with its default rate and a plateau "
                "rule, and this trial has another rate or no such rule"
            )
        run = _Run(
            learning_rate_factor=rules[0].factor,
            minimum_learning_rate=rules[0].min_lr,
            number_of_epochs=trial.epochs,
            optimizer=name,
            title=f"Experiment - {number}",
        )
        runs.append({key: str(value) for key, value in run.model_dump(by_alias=True).items()})
    return json.dumps({"parameters": runs}, indent=2)
