"""Experiments: a declaration loaded, checked, and expanded into trials."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import pydantic

from refit import paths
from refit.data import sets
from refit.data.spec import LIMITS, DataSpec
from refit.errors import DeclarationError
from refit.experiments import checks, json_file, yaml_file
from refit.experiments.declaration import Cut, Declaration, Profile, Sweep
from refit.experiments.metrics import filled
from refit.experiments.trial import SEED_STEP, CarriedOver, Trial
from refit.experiments.yaml_file import explain, named

# What a trial gets from its place in the declaration; an entry cannot set it.
GIVEN = ("sweep", "seed", "published_epochs", "altered", "carried_over")
# Replicates of a trial; fewer than `SEED_STEP`, and so few that a slip does not fill the memory.
MOST_SEEDS = 1000


def names() -> list[str]:
    """The experiments that have a declaration."""
    return sorted(path.stem for path in paths.EXPERIMENTS.glob("*.yaml"))


def load(experiment: str | Path) -> Declaration:
    """Load and check a declaration, by the experiment's name or, for a Path, from that file.

    Raises DeclarationError naming the file and every wrong, unknown or missing key.
    """
    path = experiment
    if not isinstance(path, Path):
        if experiment not in names():
            raise DeclarationError(f"no experiment {experiment!r}; known: {', '.join(names())}")
        path = paths.EXPERIMENTS / f"{experiment}.yaml"
    content = yaml_file.read(path)
    with named(path):
        _take_entries(content, path.parent)
        try:
            declaration = Declaration.model_validate(content)
        except pydantic.ValidationError as error:
            raise DeclarationError(explain(error)) from error
        if declaration.name != path.stem:
            raise DeclarationError(f"name: is {declaration.name!r}, expected {path.stem!r}")
        everything = Profile(description="every trial as declared")
        once = dict.fromkeys(declaration.sweeps, 1)
        trials = _expand_profile(declaration, everything, once)
        checks.check(declaration, trials)
        for name, profile in declaration.profiles.items():
            with named(f"profiles.{name}"):
                left = _expand_profile(declaration, profile, once)
                checks.check_profile(profile, trials, left)
    return declaration


def _take_entries(content: Any, folder: Path) -> None:
    """Fill in the entries of sweeps that name a JSON file beside the declaration for them."""
    sweeps = content.get("sweeps") if isinstance(content, dict) else None
    for name, sweep in sweeps.items() if isinstance(sweeps, dict) else ():
        file = sweep.pop("entries_from", None) if isinstance(sweep, dict) else None
        if file is not None:
            if not isinstance(file, str) or Path(file).name != file:
                raise DeclarationError(f"sweeps.{name}.entries_from: {file!r} is no file's name")
            sweep["entries"] = json_file.read(folder / file, sweep.get("base") or {})


def expand(
    declaration: Declaration,
    profile: str,
    seeds: int = 0,
    resolve: Callable[[DataSpec], DataSpec] | None = None,
) -> list[Trial]:
    """All trials of an experiment in one profile, `seeds` replicates of each.

    For 0 each sweep has as many as it declares; other numbers are for trying things.
    Replicate i has the declared seed plus i, so more seeds never change the first. `resolve`
    says which data set a declared one is here. Raises DeclarationError for an unknown profile, or
    a number of seeds that nobody can mean.
    """
    if not isinstance(profile, str) or profile not in declaration.profiles:
        known = ", ".join(declaration.profiles)
        raise DeclarationError(f"{declaration.name} has no profile {profile!r}; known: {known}")
    if type(seeds) is not int or not 0 <= seeds <= MOST_SEEDS:
        raise DeclarationError(
            f"seeds is {seeds!r}; give a whole number from 1 to {MOST_SEEDS}, or 0 for as many as "
            "are declared"
        )
    counts = {name: seeds or each.replicates(profile) for name, each in declaration.sweeps.items()}
    trials = _expand_profile(declaration, declaration.profiles[profile], counts)
    resolved = cache(resolve or partial(sets.resolve, data_dir=None))
    return _link([trial.model_copy(update={"data": resolved(trial.data)}) for trial in trials])


def _expand_profile(
    declaration: Declaration, profile: Profile, seeds: dict[str, int]
) -> list[Trial]:
    trials = []
    for name, sweep in declaration.sweeps.items():
        cut = profile.of(name)
        count = 0 if cut.skip else min(seeds[name], cut.max_seeds or seeds[name])
        for replicate in range(count):
            seed = declaration.seed + replicate
            trials += _expand_sweep(declaration, name, sweep, profile, cut, seed)
    return trials


def _link(trials: list[Trial]) -> list[Trial]:
    """Tell trials that start from another's weights where that one's run directory will be.

    It is the one of the same seed or, where that is repeated less often, the first. A directory's
    name depends on where its own weights come from, so in a sequence each is linked in turn.
    """
    sources: defaultdict[str, dict[int, Trial]] = defaultdict(dict)
    for trial in trials:
        sources[trial.name][trial.seed] = trial
    linked = []
    for trial in trials:
        for field in ("pretrained", "carried_over"):
            start = getattr(trial, field)
            if start and start.trial:
                found = sources[start.trial]
                source = found.get(trial.seed, next(iter(found.values())))
                start = start.model_copy(update={"run": str(source.directory)})
                trial = trial.model_copy(update={field: start})
        sources[trial.name][trial.seed] = trial
        linked.append(trial)
    return linked


def _carry_over(name: str, sweep: Sweep, trials: list[Trial]) -> list[Trial]:
    """Let each trial of a sequence start from the one before it, unless a restart lies between."""
    assert sweep.carry_over is not None
    restarts = set(sweep.carry_over.restarts)
    order = [entry.get("name") for entry in _entries(name, sweep, Cut())]
    if strangers := sorted(restarts - set(order)):
        raise DeclarationError(
            f"sweeps.{name}.carry_over.restarts: the sweep has no trial {strangers[0]!r}"
        )
    left = {trial.name: trial for trial in trials}
    carried, previous = [], ""
    for label in order:
        if label in restarts:
            previous = ""
        if label in left:
            start = CarriedOver(trial=previous) if previous else None
            changes = {"carried_over": start, "keep_weights": True}
            carried.append(left[label].model_copy(update=changes))
            previous = label
    return carried


def _expand_sweep(
    declaration: Declaration, name: str, sweep: Sweep, profile: Profile, cut: Cut, seed: int
) -> list[Trial]:
    trials = []
    for entry in _entries(name, sweep, cut):
        settings = _overlay(_overlay({"data": declaration.data}, sweep.base), entry)
        settings = _overlay(settings, cut.changes)
        with named(f"sweeps.{name}, trial {entry.get('name')!r}"):
            if given := [key for key in GIVEN if key in settings]:
                raise DeclarationError(f"{given[0]}: cannot be set here")
            repetition = settings.pop("repetition", 0)
            if type(repetition) is not int or not 0 <= repetition < SEED_STEP:
                raise DeclarationError(f"repetition: {repetition!r} is not a small whole number")
            settings |= {"published_epochs": 1, "sweep": name, "altered": bool(cut.changes)}
            settings["seed"] = seed + SEED_STEP * repetition
            settings["data"] = _cut_data(settings["data"], profile, cut, settings["seed"])
            try:
                trials.append(_cut_epochs(Trial.model_validate(settings), cut))
            except pydantic.ValidationError as error:
                raise DeclarationError(explain(error)) from error
    return _carry_over(name, sweep, trials) if sweep.carry_over else trials


def _cut_epochs(trial: Trial, cut: Cut) -> Trial:
    """A trial of the published epochs, cut, with the switch to fine-tuning moved as they are."""
    # Rounded first, because 70 * 0.1 is a little more than 7.
    epochs = max(1, math.ceil(round(trial.epochs * cut.epoch_fraction, 9)))
    epochs = min(epochs, cut.max_epochs or epochs)
    changes: dict[str, Any] = {"published_epochs": trial.epochs, "epochs": epochs}
    if tuning := trial.fine_tuning:
        after = max(1, math.floor(round(tuning.after * epochs / trial.epochs, 9)))
        changes["fine_tuning"] = tuning.model_copy(update={"after": after})
    return Trial.model_validate(dict(trial) | changes)


def _cut_data(settings: Any, profile: Profile, cut: Cut, seed: int) -> Any:
    """A trial's data settings as the profile changes them; what is no mapping is left alone.

    Where the profile leaves some of the images, the seed draws them: else all replicates would
    share the luck of one choice.
    """
    if not isinstance(settings, dict):
        return settings
    name = settings.get("name")
    replaced = profile.data_sets.get(name) if isinstance(name, str) else None
    changes = {"name": replaced} if replaced else {}
    drawn = {"draw_seed": seed} if LIMITS & {*profile.data, *cut.data} else {}
    return _overlay(_overlay(settings | changes, profile.data), cut.data) | drawn


def _entries(name: str, sweep: Sweep, cut: Cut) -> list[dict[str, Any]]:
    """The entries of a list, or the points of a grid, each with its name, that a cut leaves."""
    for axis, values in cut.grid.items():
        if strangers := [value for value in values if value not in sweep.grid.get(axis, [])]:
            raise DeclarationError(
                f"grid.{axis}: the profile names {strangers}, which sweep {name} lacks"
            )
    whole = [(entry, {}) for entry in sweep.entries] or list(_grid_entries(name, sweep))
    known = [entry.get("name") for entry, _ in whole]
    for key, names in (("keep", cut.keep), ("only", cut.only)):
        if strangers := [label for label in names if label not in known]:
            raise DeclarationError(f"{key}: sweep {name} has no trial {strangers[0]!r}")
    return [
        entry
        for entry, point in whole
        if entry.get("name") in cut.keep
        or (
            all(value in cut.grid.get(axis, [value]) for axis, value in point.items())
            and (not cut.only or entry.get("name") in cut.only)
        )
    ]


def titles(declaration: Declaration) -> dict[str, str]:
    """The title of every trial, by name, also of those that a profile leaves out."""
    sweeps = declaration.sweeps.items()
    entries = [entry for name, sweep in sweeps for entry in _entries(name, sweep, Cut())]
    return {entry["name"]: entry["title"] for entry in entries}


def _grid_entries(name: str, sweep: Sweep) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for point in points(sweep.grid):
        label = point_name(name, sweep, point)
        title = point_name(name, sweep, point, "titles") or label
        entry: dict[str, Any] = {"name": label, "title": title}
        for axis, value in point.items():
            for part in reversed(axis.split(".")):
                value = {part: value}
            entry = _overlay(entry, value)
        yield entry, point


def points(axes: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """The points of a grid in the declared order of its axes, the last one fastest, as the reports
    number theirs."""
    return (dict(zip(axes, values, strict=True)) for values in product(*axes.values()))


def point_name(sweep_name: str, sweep: Sweep, point: dict[str, Any], pattern: str = "name") -> str:
    """The name of the trial at a point of a sweep's grid; by the pattern `titles`, its title."""
    parts = {axis.split(".")[-1]: value for axis, value in point.items()}
    try:
        return filled(getattr(sweep, pattern), parts)
    except ValueError as error:
        raise DeclarationError(f"sweeps.{sweep_name}.{pattern}: {error}") from error


def _overlay(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with `changes` laid over it, mappings merged key by key.

    A mapping whose `name` changes is replaced whole: the options of one optimizer or network mean
    nothing to another.
    """
    merged = deepcopy(base)
    for key, value in changes.items():
        old = merged.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        if both and (key == "data" or value.get("name", old.get("name")) == old.get("name")):
            merged[key] = _overlay(old, value)
        else:
            merged[key] = deepcopy(value)
    return merged
