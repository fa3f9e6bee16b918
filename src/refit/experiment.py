"""Experiments: a declaration loaded, checked, and expanded into trials.

A trial is one training with every setting fixed. Its identity is a hash of what the training
means, so that a result is found again wherever the trial stands in a list, and is never taken for
another after a setting has changed.
"""

import contextlib
import hashlib
import json
import math
from collections.abc import Hashable, Iterable, Iterator
from copy import deepcopy
from itertools import product
from pathlib import Path
from typing import Any

import pydantic
import yaml
from pydantic import PositiveInt

from refit import data, paths
from refit.data import DataSpec
from refit.declaration import Callback, Cut, Declaration, Model, Optimizer, Profile, Sweep
from refit.errors import DeclarationError
from refit.predicates import Effect, Epochs, Selection, Separates, Trials
from refit.vocabulary import Name, Strict

# Part of every trial's identity: raise it when the same settings come to mean another training.
TRAINING_VERSION = 1
# An entry's `repetition` moves its seeds by so much, beyond any number of replicates.
SEED_STEP = 10_000
# What a trial gets from its place in the declaration; an entry cannot set it.
GIVEN = ("sweep", "seed", "published_epochs", "altered")


class Trial(Strict):
    """One training with everything fixed. Plain data: it travels to other processes as JSON.

    `sweep`, `name`, `title`, `published_epochs` and whether the profile `altered` it say where it
    belongs; the rest is what the training means and enters its identity. Settings at their default
    do not, so that a setting added later leaves old results valid.

    With `shuffle` every epoch has an order of its own, drawn from the seed; `record_batches` keeps
    loss and accuracy of every training batch; `test_batch_size` also measures the mean of the test
    accuracies of batches of that size, which some reports take for the accuracy;
    `evaluate_untrained` measures the network before its first step, and `evaluate_train` the
    training images after every epoch, with dropout off.
    """

    sweep: Name
    name: Name
    title: str
    published_epochs: PositiveInt
    altered: bool = False
    data: DataSpec
    model: Model
    optimizer: Optimizer
    callbacks: tuple[Callback, ...] = ()
    epochs: PositiveInt
    batch_size: PositiveInt
    seed: int
    shuffle: bool = False
    record_batches: bool = False
    test_batch_size: PositiveInt | None = None
    evaluate_untrained: bool = False
    evaluate_train: bool = False

    @property
    def digest(self) -> str:
        """Ten hexadecimal digits of the hash of what the training means."""
        labels = {"sweep", "name", "title", "published_epochs", "altered"}
        meaning = self.model_dump(mode="json", exclude_defaults=True, exclude=labels)
        text = json.dumps([TRAINING_VERSION, meaning], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    def __hash__(self) -> int:
        return int(self.digest, 16)

    @property
    def directory(self) -> Path:
        """The run directory, relative to the experiment's folder of one profile."""
        return Path(self.sweep) / f"{self.name}-seed{self.seed}-{self.digest}"

    def hyper_parameters(self) -> dict[str, bool | int | float | str]:
        """The settings, flat, for tables and for TensorBoard's HParams tab."""
        flat: dict[str, Any] = {"trial": self.name, "model": self.model.name}
        flat |= {f"model.{name}": value for name, value in self.model.options.items()}
        optimizer = self.optimizer.model_dump(exclude_none=True)
        flat |= {"optimizer": optimizer.pop("name")}
        flat |= {f"optimizer.{name}": value for name, value in optimizer.items()}
        used = {callback.name: callback for callback in self.callbacks}
        flat |= {"reduce_lr_on_plateau": "reduce_lr_on_plateau" in used}
        if "stop_at_target" in used:
            flat |= {"target": used["stop_at_target"].target}
        flat |= {name: getattr(self, name) for name in ("epochs", "batch_size", "seed")}
        return {
            name: value if isinstance(value, bool | int | float | str) else json.dumps(value)
            for name, value in flat.items()
        }


def is_setting(name: str) -> bool:
    """Whether a hyper-parameter, by its name in `Trial.hyper_parameters`, is one to compare by."""
    return name.split(".")[0] in ("model", "optimizer") or name == "batch_size"


def names() -> list[str]:
    """The experiments that have a declaration."""
    return sorted(path.stem for path in paths.EXPERIMENTS.glob("*.yaml"))


def load(experiment: str | Path) -> Declaration:
    """Load and check a declaration, by the experiment's name or from a file.

    Raises DeclarationError naming the file and every wrong, unknown or missing key.
    """
    path = Path(experiment)
    if path.suffix != ".yaml":
        path = paths.EXPERIMENTS / f"{experiment}.yaml"
        if not path.is_file():
            raise DeclarationError(f"no experiment {experiment!r}; known: {', '.join(names())}")
    try:
        content = yaml.load(path.read_text("utf-8"), _UniqueKeyLoader)  # noqa: S506 - a SafeLoader
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise DeclarationError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(content, dict):
        raise DeclarationError(f"{path}: is not a mapping of keys to values")
    with _named(path):
        try:
            declaration = Declaration.model_validate(content)
        except pydantic.ValidationError as error:
            raise DeclarationError(_explain(error)) from error
        if declaration.name != path.stem:
            raise DeclarationError(f"name: is {declaration.name!r}, expected {path.stem!r}")
        _check(declaration)
    return declaration


def expand(
    declaration: Declaration, profile: str, seeds: int = 1, data_dir: Path | None = None
) -> list[Trial]:
    """All trials of an experiment in one profile, `seeds` replicates of each.

    Replicate i has the declared seed plus i, so more seeds never change the first. Data sets are
    resolved against `data_dir`, because the same name can mean other data there. Raises
    DeclarationError for an unknown profile or a number of seeds below one.
    """
    if profile not in declaration.profiles:
        known = ", ".join(declaration.profiles)
        raise DeclarationError(f"{declaration.name} has no profile {profile!r}; known: {known}")
    if seeds < 1:
        raise DeclarationError(f"seeds is {seeds}; give a whole number of at least 1")
    settings = declaration.profiles[profile]
    trials = []
    for name, sweep in declaration.sweeps.items():
        cut = settings.sweeps.get(name, settings.cut)
        if cut.skip:
            continue
        for replicate in range(min(seeds, cut.max_seeds or seeds)):
            seed = declaration.seed + replicate
            trials += _expand_sweep(declaration, name, sweep, settings, cut, seed)
    resolved: dict[DataSpec, DataSpec] = {}
    for trial in trials:
        if trial.data not in resolved:
            resolved[trial.data] = data.resolve(trial.data, data_dir)
    return [trial.model_copy(update={"data": resolved[trial.data]}) for trial in trials]


def _expand_sweep(
    declaration: Declaration, name: str, sweep: Sweep, profile: Profile, cut: Cut, seed: int
) -> list[Trial]:
    trials = []
    for entry in _entries(name, sweep, cut):
        settings = _overlay(_overlay({"data": declaration.data}, sweep.base), entry)
        settings = _overlay(settings, cut.changes)
        with _named(f"sweeps.{name}, trial {entry.get('name')!r}"):
            if given := [key for key in GIVEN if key in settings]:
                raise DeclarationError(f"{given[0]}: cannot be set here")
            settings["data"] = _cut_data(settings["data"], profile, cut)
            repetition = settings.pop("repetition", 0)
            if not isinstance(repetition, int) or not 0 <= repetition < SEED_STEP:
                raise DeclarationError(f"repetition: {repetition!r} is not a small whole number")
            published = settings.get("epochs", 1)
            if not isinstance(published, int) or published < 1:
                raise DeclarationError(f"epochs: {published!r} is not a whole number from 1")
            # Rounded first, because 70 * 0.1 is a little more than 7.
            epochs = max(1, math.ceil(round(published * cut.epoch_fraction, 9)))
            if "epochs" in settings:
                settings["epochs"] = min(epochs, cut.max_epochs or epochs)
            settings |= {"published_epochs": published, "sweep": name}
            settings["altered"] = bool(cut.changes)
            settings["seed"] = seed + SEED_STEP * repetition
            try:
                trials.append(Trial.model_validate(settings))
            except pydantic.ValidationError as error:
                raise DeclarationError(_explain(error)) from error
    return trials


def _cut_data(settings: Any, profile: Profile, cut: Cut) -> Any:
    """A trial's data settings as the profile changes them; what is no mapping is left alone."""
    if not isinstance(settings, dict):
        return settings
    name = settings.get("name")
    replaced = profile.data_sets.get(name) if isinstance(name, str) else None
    changes = {"name": replaced} if replaced else {}
    return _overlay(_overlay(settings | changes, profile.data), cut.data)


def _entries(name: str, sweep: Sweep, cut: Cut) -> list[dict[str, Any]]:
    """The entries of a list, or the points of a grid, each with its name."""
    for axis, values in cut.grid.items():
        if strangers := [value for value in values if value not in sweep.grid.get(axis, [])]:
            raise DeclarationError(
                f"grid.{axis}: the profile names {strangers}, which sweep {name} lacks"
            )
        if twice := [value for value in values if values.count(value) > 1]:
            raise DeclarationError(f"sweeps.{name}: grid.{axis}: {twice[0]!r} stands twice")
    if not sweep.grid:
        if cut.keep:
            raise DeclarationError(f"keep: sweep {name} has no grid, so nothing is left out of it")
        return _chosen(name, sweep.entries, cut.only)
    if cut.only:
        raise DeclarationError(f"only: sweep {name} is a grid; cut its values instead")
    entries = []
    dropped = set()
    for point in points(sweep.grid):
        label = point_name(name, sweep, point)
        inside = all(value in cut.grid.get(axis, [value]) for axis, value in point.items())
        if not inside and label not in cut.keep:
            dropped.add(label)
            continue
        entry: dict[str, Any] = {"name": label, "title": label}
        for axis, value in point.items():
            for part in reversed(axis.split(".")):
                value = {part: value}
            entry = _overlay(entry, value)
        entries.append(entry)
    known = dropped | {entry["name"] for entry in entries}
    if strangers := sorted(set(cut.keep) - known):
        raise DeclarationError(f"keep: sweep {name} has no trial {strangers[0]!r}")
    return entries


def _chosen(name: str, entries: list[dict[str, Any]], only: list[str]) -> list[dict[str, Any]]:
    known = [entry.get("name") for entry in entries]
    if strangers := sorted(set(only) - set(known)):
        raise DeclarationError(f"only: sweep {name} has no trial {strangers[0]!r}")
    return [entry for entry in entries if not only or entry.get("name") in only]


def points(axes: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """The points of a grid in the declared order of its axes, the last one fastest, as the reports
    number theirs."""
    return (dict(zip(axes, values, strict=True)) for values in product(*axes.values()))


def point_name(sweep_name: str, sweep: Sweep, point: dict[str, Any]) -> str:
    """The name of the trial at a point of a sweep's grid."""
    parts = {axis.split(".")[-1]: value for axis, value in point.items()}
    try:
        return sweep.name.format(**parts)
    except (LookupError, ValueError, AttributeError) as error:
        raise DeclarationError(
            f"sweeps.{sweep_name}.name: {sweep.name!r} does not fit; in braces may stand "
            f"{', '.join(parts)}"
        ) from error


def _overlay(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with `changes` laid over it, mappings merged key by key.

    A mapping whose `name` changes is replaced whole: the options of one optimizer or network mean
    nothing to another.
    """
    merged = deepcopy(base)
    for key, value in changes.items():
        old = merged.get(key)
        renamed = (
            key != "data"
            and isinstance(old, dict)
            and isinstance(value, dict)
            and value.get("name", old.get("name")) != old.get("name")
        )
        if isinstance(old, dict) and isinstance(value, dict) and not renamed:
            merged[key] = _overlay(old, value)
        else:
            merged[key] = deepcopy(value)
    return merged


def _check(declaration: Declaration) -> None:
    """Check what only the expanded trials show: counts, unique names, trials spoken of."""
    full = Profile(description="every trial as declared")
    trials = []
    for name, sweep in declaration.sweeps.items():
        found = _expand_sweep(declaration, name, sweep, full, Cut(), declaration.seed)
        if len(found) != sweep.trials:
            raise DeclarationError(
                f"sweeps.{name}.trials: declared are {sweep.trials}, but there are {len(found)}"
            )
        trials += found
    _check_names(trials)
    data_sets = {trial.data.name for trial in trials}
    for profile, settings in declaration.profiles.items():
        with _named(f"profiles.{profile}"):
            if strangers := sorted(set(settings.data_sets) - data_sets):
                raise DeclarationError(f"data_sets.{strangers[0]}: no sweep uses this data set")
            cuts = {name: settings.sweeps.get(name, settings.cut) for name in declaration.sweeps}
            _check_names(
                trial
                for name, cut in cuts.items()
                for trial in _expand_sweep(
                    declaration, name, declaration.sweeps[name], settings, cut, declaration.seed
                )
            )
    for figure in declaration.published.figures:
        with _named(f"published, {figure.place}"):
            _check_subject(figure.trial, figure.epochs, trials)
    for claim in declaration.claims:
        with _named(f"claims.{claim.id}"):
            for predicate in claim.holds:
                for subject in predicate.subjects():
                    _check_subject(subject, predicate.epochs, trials)
                if isinstance(predicate, Effect | Separates):
                    _check_axes(predicate, trials)


def _check_axes(predicate: Effect | Separates, trials: list[Trial]) -> None:
    """Whether a predicate about settings names some that its sweep varies, and values of theirs."""
    rows = [t.hyper_parameters() for t in trials if t.sweep == predicate.sweep]
    values = {name: {row.get(name) for row in rows} for row in rows for name in row}
    varied = [name for name in values if is_setting(name) and len(values[name]) > 1]
    for axis in predicate.axes():
        if axis not in varied:
            raise DeclarationError(
                f"sweep {predicate.sweep} does not vary {axis!r}; it varies {', '.join(varied)}"
            )
    for level in predicate.levels():
        if level not in values[predicate.axes()[0]]:
            raise DeclarationError(f"sweep {predicate.sweep} has no {predicate.axes()[0]}: {level}")


def _check_names(trials: Iterable[Trial]) -> None:
    """Names must be unique across sweeps, and data sets registered."""
    known = set()
    for trial in trials:
        if trial.name in known:
            raise DeclarationError(f"sweeps.{trial.sweep}: trial {trial.name!r} stands twice")
        known.add(trial.name)
        if trial.data.name not in {*data.SOURCES, *data.ALIASES}:
            raise DeclarationError(
                f"sweeps.{trial.sweep}, trial {trial.name!r}: data.name: {trial.data.name!r} is "
                f"unknown; known: {', '.join([*data.ALIASES, *data.SOURCES])}"
            )


def _check_subject(subject: Trials, epochs: Epochs | None, trials: list[Trial]) -> None:
    """Whether a published number or a claim speaks of trials, and epochs, that there are."""
    if isinstance(subject, Selection):
        chosen = [trial for trial in trials if subject.sweep in (None, trial.sweep)]
        if not chosen:
            raise DeclarationError(f"no sweep is called {subject.sweep!r}")
        for setting, wanted in subject.where.items():
            values = wanted if isinstance(wanted, list) else [wanted]
            chosen = [t for t in chosen if t.hyper_parameters().get(setting) in values]
            if not chosen:
                raise DeclarationError(f"where: no trial has {setting}: {wanted}")
    else:
        chosen = [trial for trial in trials if trial.name == subject]
        if not chosen:
            raise DeclarationError(f"no trial is called {subject!r}")
    if epochs and epochs[1] > (most := min(trial.published_epochs for trial in chosen)):
        raise DeclarationError(f"epochs: {subject} is trained for {most} epochs, not {epochs[1]}")


@contextlib.contextmanager
def _named(place: Path | str) -> Iterator[None]:
    """Put a place before every line of a DeclarationError that comes from inside."""
    try:
        yield
    except DeclarationError as error:
        lines = str(error).splitlines()
        raise DeclarationError("\n".join(f"{place}: {line}" for line in lines)) from error


def _explain(error: pydantic.ValidationError) -> str:
    """One line per wrong key, with the path to it."""
    lines = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"]) or "the file"
        message = {
            "extra_forbidden": "unknown key; check the spelling",
            "missing": "missing key",
        }.get(item["type"], item["msg"].removeprefix("Value error, "))
        lines.append(f"{key}: {message}")
    return "\n".join(lines)


class _UniqueKeyLoader(yaml.SafeLoader):
    """A SafeLoader that refuses a key given twice, which YAML's own silently lets win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            problem = "" if isinstance(key, Hashable) else "is not a plain value"
            if problem or key in keys:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} {problem or 'stands twice'}", key_node.start_mark
                )
            keys.add(key)
        return super().construct_mapping(node, deep=deep)
