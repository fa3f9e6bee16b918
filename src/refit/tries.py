"""A setting tried out: a variant of a trial, trained beside it in a folder of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from pydantic import ValidationError

from refit.data.spec import DataSpec
from refit.errors import DeclarationError
from refit.experiments import factories
from refit.experiments.trial import Optimizer, Trial
from refit.experiments.yaml_file import explain
from refit.run_directory import log as run_log
from refit.run_directory import side_by_side
from refit.run_directory.directory import result_of
from refit.run_directory.log import RunLog
from refit.running import runner

if TYPE_CHECKING:
    from refit.figures.picture import Picture

FOLDER = "tries"


@dataclass(frozen=True)
class Tried:
    """A variant beside its original: a picture of their curves and its file, which is not there for
    a single epoch, the settings in which they differ, what they reached, and some points of the
    curves."""

    picture: "Picture"
    file: Path
    settings: pd.DataFrame
    metrics: pd.DataFrame
    curves: pd.DataFrame

    def _repr_html_(self) -> str:
        tables = (self.settings.to_html(index=False), self.metrics.to_html(index=False))
        return "".join((*tables, self.picture._repr_html_()))


def changed(trial: Trial, changes: Mapping[str, Any]) -> Trial:
    """The trial with other settings, each by its name or its path, such as `data.train_images`.

    What is no setting of trial, optimizer or data is an option of the network. Raises
    DeclarationError for a value that cannot be.
    """
    settings = trial.model_dump(mode="json")
    for name, value in changes.items():
        *path, last = _path(name)
        if name == "model":
            settings["model"]["options"] = {}  # they mean nothing to another network
        place = settings
        for part in path:
            place = place.get(part)
            if not isinstance(place, dict):
                raise DeclarationError(f"{name}: {trial.name} has no setting of this name")
        place[last] = value
    said = ", ".join(f"{name}={value}" for name, value in changes.items())
    settings |= {"name": f"{trial.name[:70]}-changed", "title": f"{trial.title}, {said}"}
    try:
        variant = Trial.model_validate(settings)
    except ValidationError as error:
        raise DeclarationError(explain(error)) from error
    factories.check(variant.model)
    return variant


def _path(name: str) -> list[str]:
    if name in ("optimizer", "model"):
        return [name, "name"]
    if "." in name or name in Trial.model_fields:
        return name.split(".")
    groups = {"optimizer": Optimizer, "data": DataSpec}
    group = [key for key, kind in groups.items() if name in kind.model_fields]
    return [group[0], name] if group else ["model", "options", name]


def try_out(
    trial: Trial,
    changes: Mapping[str, Any],
    before: Sequence[Trial],
    runs: Path,
    folder: Path,
    data_dir: Path | None,
) -> Tried:
    """Train a variant in `folder`, after the trials `before` it, by whose weights it starts, and
    the trial itself too where `runs` has no result of it."""
    from refit.figures.curves import learning_curves  # takes seconds, as all figures do

    variant = changed(trial, changes)
    there = bool(result_of(trial, runs))
    trials = [*before, variant] if there else [*before, trial, variant]
    runner.check(runner.run(trials, folder, data_dir=data_dir, describe=False))
    logs = [run_log.read([trial], runs if there else folder), run_log.read([variant], folder)]
    results, curves = (
        pd.concat([getattr(log, name) for log in logs], ignore_index=True)
        for name in ("results", "curves")
    )
    log, both = RunLog(results, curves), [trial, variant]
    titles = {each.name: each.title for each in both}
    picture = learning_curves(log.curves, f"{trial.title}, and changed", titles)
    file = folder / f"{variant.directory.name}.png"
    picture.save(folder, file.stem)
    tables = (side_by_side.settings(both), side_by_side.metrics(log), side_by_side.curves(log))
    return Tried(picture, file, *tables)
