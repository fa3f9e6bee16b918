"""Declarations: what the file may say, what it expands to, and what gives a trial its identity."""

import copy
import hashlib
import json
import re
import subprocess
import sys
from itertools import pairwise

import pytest
import yaml

from refit import paths
from refit.errors import DeclarationError
from refit.experiments import expand as experiments
from refit.experiments.declaration import Declaration

NAME = "fmnist_zoo"
SOURCE = paths.EXPERIMENTS / f"{NAME}.yaml"


@pytest.fixture(scope="module")
def zoo() -> Declaration:
    return experiments.load(NAME)


@pytest.fixture(scope="module")
def content() -> dict:
    """The file as plain data, with one claim of every kind and one example of other lists."""
    whole = yaml.safe_load(SOURCE.read_text())
    kinds = {}
    for claim in whole["claims"]:
        for predicate in claim.get("holds", [{"is": "undecidable"}]):
            kinds.setdefault(predicate["is"], claim)
    whole["claims"] = list({claim["id"]: claim for claim in kinds.values()}.values())
    tables = whole["published"]["tables"]
    whole["published"]["tables"] = [tables[0], next(t for t in tables if "trial" in t)]
    for notes in ("assumptions", "anomalies"):
        whole[notes] = whole[notes][:1]
    whole["published"]["readings"] = whole["published"]["readings"][:2]
    # Through JSON, so that what YAML's aliases share is not changed in two places.
    return json.loads(json.dumps(whole), object_hook=_with_numbers)


def _with_numbers(mapping: dict) -> dict:
    """JSON turns the epochs that are keys of a table into text."""
    return {int(key) if key.isdigit() else key: value for key, value in mapping.items()}


@pytest.fixture
def load(tmp_path):
    """A function that stores plain data, or text, as a declaration and loads it."""

    def load(changed, name=NAME) -> Declaration:
        path = tmp_path / f"{name}.yaml"
        if not isinstance(changed, bytes):
            text = changed if isinstance(changed, str) else yaml.safe_dump(changed, sort_keys=False)
            changed = text.encode()
        path.write_bytes(changed)
        return experiments.load(path)

    return load


def expand(declaration, profile="full", seeds=1):
    return experiments.expand(declaration, profile, seeds)


# --- the declaration of fmnist_zoo -----------------------------------------------------------


def test_zoo_declares_the_whole_report(zoo):
    published = [sweep.trials for sweep in zoo.sweeps.values() if sweep.published]
    assert sum(published) == 20
    assert len(zoo.claims) == 100
    assert len(zoo.published.figures) == 367
    assert {profile: len(expand(zoo, profile)) for profile in zoo.profiles}.items() >= {
        ("smoke", 16),
        ("full", 34),
    }
    assert experiments.names().count(NAME) == 1


# --- the declaration of fmnist_grid ----------------------------------------------------------


def test_grid_declares_every_published_training():
    grid = experiments.load("fmnist_grid")
    published = {name: sweep.trials for name, sweep in grid.sweeps.items() if sweep.published}
    assert published == {"baseline": 1, "grid1": 72, "grid2": 48, "special": 4, "overfit": 1}
    full = {trial.name: trial for trial in expand(grid)}
    assert sum(full[name].sweep in published for name in full) == 126
    assert len(full) == sum(sweep.trials for sweep in grid.sweeps.values())
    for profile in ("smoke", "small"):
        trials = expand(grid, profile)
        assert {trial.name for trial in trials} <= set(full)
        assert {trial.sweep for trial in trials} >= set(published)
    assert {trial.data.validation for trial in expand(grid)} == {"test", "split"}
    small = {trial.name for trial in expand(grid, "small")}
    best = {"c16k5-c32k5-d100", "c16k5-c32k5-d64", "c8k3-c8k3-d64"}
    fastest = {"c8k3-c8k3-d100", "c8k5-c8k3-d64", "c8k3-c8k5-d100"}
    assert best | fastest <= small


# --- wrong declarations ----------------------------------------------------------------------


def change(*path, to=None, key=None):
    """A change of a declaration: the value at `path`, or, with `key`, the name of the last key."""

    def apply(content):
        target = content
        for part in path[:-1]:
            target = target[part]
        if key is not None:
            target[key] = target.pop(path[-1])
        elif to is None:
            del target[path[-1]]
        else:
            target[path[-1]] = to(target[path[-1]]) if callable(to) else to

    return apply


def claim(**changes):
    return change("claims", 0, to=lambda claim: claim | changes)


def predicate(**changes):
    return change("claims", 0, "holds", 0, to=lambda predicate: predicate | changes)


CNN1 = ("sweeps", "cnn", "entries", 0)
TABLE = ("published", "tables", 0)
READING = ("published", "readings", 0)
VALUE = {"is": "value", "metric": "val_accuracy", "trial": "cnn1", "low": 0.5}
EFFECT = {
    "is": "effect", "metric": "val_accuracy", "low": 0, "sweep": "vgg_sgd",
    "axis": "optimizer.momentum",
    "a": 0.9, "b": 0.0,
}  # fmt: skip
SEPARATES = {
    "is": "separates", "metric": "val_accuracy", "sweep": "vgg_sgd",
    "strong": ["optimizer.momentum"], "weak": ["optimizer.learning_rate"],
}  # fmt: skip
MOMENTUM = {"grid": {"optimizer.momentum": [0.9]}}


def callback(**settings):
    return change(*CNN1, "callbacks", to=[settings])


def target(**settings):
    return callback(**{"name": "stop_at_target"} | settings)


# What is changed, and what the message says besides the file.
WRONG = {
    "other name": (change("name", to="fmnist_zoom"), "name.*'fmnist_zoom'.*'fmnist_zoo'"),
    "name of a folder elsewhere": (change("name", to="../zoo"), "name: .*cannot name a folder"),
    "count of trials": (change("sweeps", "cnn", "trials", to=8), "sweeps.cnn.trials.* 8.* 7"),
    "no trials": (change("sweeps", "cnn", "trials", to=0), "sweeps.cnn.trials"),
    "entries and grid": (change("sweeps", "cnn", "grid", to={"epochs": [1]}), "entries or a grid"),
    "neither": (change("sweeps", "cnn", "entries"), "sweeps.cnn.*entries or a grid"),
    "grid without pattern": (change("sweeps", "vgg_sgd", "name"), "sweeps.vgg_sgd.*name pattern"),
    "pattern of other axes": (
        change("sweeps", "vgg_sgd", "name", to="vgg-{rate}"),
        "sweeps.vgg_sgd.name: .*learning_rate, momentum",
    ),
    "titles of other axes": (
        change("sweeps", "vgg_sgd", "titles", to="VGG {rate}"),
        "sweeps.vgg_sgd.titles: .*learning_rate, momentum",
    ),
    "titles of a list": (change("sweeps", "vgg", "titles", to="VGG"), "only a grid has titles"),
    "broken pattern": (change("sweeps", "vgg_sgd", "name", to="vgg-{"), "sweeps.vgg_sgd.name"),
    "pattern that names twice": (
        change("sweeps", "vgg_sgd", "name", to="vgg-{momentum}"),
        "sweeps.vgg_sgd.*'vgg-0.0' stands twice",
    ),
    "same name twice": (change(*CNN1, "name", to="cnn2"), "sweeps.cnn.*'cnn2' stands twice"),
    "same name in two sweeps": (change(*CNN1, "name", to="vgg1"), "'vgg1' stands twice"),
    "trial without a name": (change(*CNN1, "name"), "sweeps.cnn.*name: missing key"),
    "no epochs": (change("sweeps", "cnn", "base", "epochs"), r"cnn1.*epochs: missing key"),
    "epochs in words": (change(*CNN1, "epochs", to="many"), "cnn1.*epochs: .*valid integer"),
    "epochs as text": (change(*CNN1, "epochs", to="5"), "cnn1.*epochs: .*valid integer"),
    "epochs that are true": (change(*CNN1, "epochs", to=True), "cnn1.*epochs: .*valid integer"),
    "zero epochs": (change(*CNN1, "epochs", to=0), "cnn1.*: epochs: .*than 0"),
    "half an epoch": (change(*CNN1, "epochs", to=0.5), "cnn1.*epochs: .*integer"),
    "negative rate": (change(*CNN1, "optimizer", to={"learning_rate": -1}), "cnn1.*learning_rate"),
    "infinite rate": (
        change(*CNN1, "optimizer", to={"learning_rate": float("inf")}),
        "cnn1.*learning_rate: .*finite",
    ),
    "rho for SGD": (
        change(*CNN1, "optimizer", to={"name": "sgd", "learning_rate": 0.1, "rho": 0.9}),
        "cnn1.*optimizer: rho belongs to adadelta",
    ),
    "a seed of its own": (change(*CNN1, "seed", to=7), "cnn1.*seed: cannot be set here"),
    "data as text": (change(*CNN1, "data", to="digits"), "cnn1.*data"),
    "data without a name": (change("data", "name"), "cnn1.*data.name: missing key"),
    "unknown data": (change("data", "name", to="mnist"), "data.name: 'mnist' is unknown.*digits"),
    "image size in words": (change("data", "image_size", to="28"), "data.image_size"),
    "unknown network": (
        change("sweeps", "cnn", "base", "model", "name", to="cnm"),
        "sweeps.cnn, trial 'cnn1': model: 'cnm' is unknown; known: cnn, vgg, alexnet",
    ),
    "option that the network lacks": (
        change("sweeps", "cnn", "base", "model", "options", to={"kernel_siez": 3}),
        "sweeps.cnn, trial 'cnn1': model 'cnn' has no option 'kernel_siez'; its options are: .*k",
    ),
    "search that the sweep lacks": (
        change("profiles", "full", "sweeps", to={"vgg_sgd": {"search": {"trials": 3}}}),
        "profiles.full.sweeps.vgg_sgd.search: .*sweep vgg_sgd declares no search",
    ),
    "sweep of a name in use": (change("sweeps", "cnn", key="search"), "sweeps.search: .*name"),
    "unknown profile": (change("profiles", "small", key="tiny"), "profiles.tiny"),
    "unknown sweep in a profile": (
        change("profiles", "small", "sweeps", "vgg", key="vvg"),
        "profiles?.*small cuts unknown sweeps .'vvg'.*known: cnn, vgg",
    ),
    "grid value that the sweep lacks": (
        change("profiles", "full", "sweeps", to={"vgg_sgd": {"grid": {"optimizer.momentum": [1]}}}),
        r"profiles.full: grid.optimizer.momentum.*\[1\].*vgg_sgd",
    ),
    "grid axis that the sweep lacks": (
        change("profiles", "full", "sweeps", to={"vgg_sgd": {"grid": {"momentum": [0.9]}}}),
        "profiles.full: grid.momentum.*vgg_sgd",
    ),
    "grid of a list": (
        change("profiles", "full", "sweeps", to={"cnn": {"grid": {"epochs": [50]}}}),
        "profiles.full: grid.epochs.*cnn",
    ),
    "grid for all sweeps": (
        change("profiles", "full", "cut", to={"grid": {"optimizer.momentum": [0.9]}}),
        "profiles.full: grid.optimizer.momentum",
    ),
    "kept trial that the sweep lacks": (
        change("profiles", "full", "sweeps", to={"vgg_sgd": MOMENTUM | {"keep": ["vgg2-lr9"]}}),
        "profiles.full: keep: sweep vgg_sgd has no trial 'vgg2-lr9'",
    ),
    "kept trial of another sweep": (
        change("profiles", "full", "sweeps", to={"vgg_sgd": MOMENTUM | {"keep": ["cnn1"]}}),
        "profiles.full: keep: sweep vgg_sgd has no trial 'cnn1'",
    ),
    "kept trial that is no name": (
        change("profiles", "full", "sweeps", to={"vgg_sgd": {"keep": ["../vgg"]}}),
        "profiles.full.sweeps.vgg_sgd.keep.0: .*cannot name a folder",
    ),
    "target above one": (target(target=90), r"cnn1.*callbacks.0.stop_at_target.target: .*1"),
    "target of nothing": (target(target=0), r"cnn1.*callbacks.0.stop_at_target.target: .*0"),
    "no target": (target(), r"cnn1.*callbacks.0.stop_at_target.target: missing key"),
    "target for a loss": (
        target(target=0.9, monitor="val_loss"),
        r"cnn1.*callbacks.0.stop_at_target.monitor: .*'accuracy' or 'val_accuracy'",
    ),
    "setting of another callback": (
        target(target=0.9, patience=3),
        r"cnn1.*callbacks.0.stop_at_target.patience: unknown key",
    ),
    "unknown callback": (target(name="stop"), r"cnn1.*callbacks.0: .*'stop_at_target'"),
    "patience of no epoch": (
        callback(name="stop_when_stagnant", patience=0),
        r"cnn1.*callbacks.0.stop_when_stagnant.patience: .*greater than 0",
    ),
    "no patience": (
        callback(name="stop_when_stagnant"),
        r"cnn1.*callbacks.0.stop_when_stagnant.patience: missing key",
    ),
    "stagnation of a loss": (
        callback(name="stop_when_stagnant", patience=3, monitor="val_loss"),
        r"cnn1.*callbacks.0.stop_when_stagnant.monitor: .*'val_accuracy'",
    ),
    "best weights above a whole": (
        callback(name="keep_best", at_least=75),
        r"cnn1.*callbacks.0.keep_best.at_least: .*1",
    ),
    "weight decay for Adam": (
        change(*CNN1, "optimizer", to={"weight_decay": 0.01}),
        "cnn1.*optimizer: weight_decay belongs to sgd, not to adam",
    ),
    "negative weight decay": (
        change(*CNN1, "optimizer", to={"name": "sgd", "learning_rate": 1, "weight_decay": -1}),
        "cnn1.*optimizer.weight_decay: .*0",
    ),
    "evaluation in words": (change(*CNN1, "evaluate_train", to="often"), "cnn1.*evaluate_train"),
    "repetition in words": (change(*CNN1, "repetition", to="again"), "cnn1.*repetition: 'again'"),
    "half a repetition": (change(*CNN1, "repetition", to=0.5), "cnn1.*repetition: 0.5 is not a"),
    "negative repetition": (change(*CNN1, "repetition", to=-1), "cnn1.*repetition: -1 is not a"),
    "repetition as large as its step": (
        change(*CNN1, "repetition", to=10_000),
        "cnn1.*repetition: 10000 is not a small whole number",
    ),
    "selection of the best by no metric": (
        claim(holds=[VALUE | {"trial": {"sweep": "cnn", "take": "of_best", "by": "accuracy"}}]),
        r"claims.0.holds.0.*by: unknown metric 'accuracy'",
    ),
    "batches of no test image": (change(*CNN1, "test_batch_size", to=0), "cnn1.*test_batch_size"),
    "shuffle in words": (change(*CNN1, "shuffle", to="always"), "cnn1.*shuffle"),
    "other validation images": (
        change("data", "validation", to="train"),
        "cnn1.*data.validation: .*'split' or 'test'",
    ),
    "data set that no sweep uses": (
        change("profiles", "smoke", "data_sets", to={"fashion_mnist_fiv": "digits"}),
        "profiles.smoke: data_sets.fashion_mnist_fiv",
    ),
    "data set that is not known": (
        change("profiles", "smoke", "data_sets", "fashion_mnist_five", to="digit"),
        "profiles.smoke: .*data.name: 'digit' is unknown",
    ),
    "fraction of 20": (change("profiles", "small", "cut", to={"epoch_fraction": 20}), "fraction"),
    "figure of an unknown trial": (
        change(*TABLE, "rows", "cnn1", key="cnn8"),
        "published, CNN models 1 to 7.*'cnn8'",
    ),
    "reading of an unknown trial": (change(*READING, "trial", to="cnn8"), "published, .*'cnn8'"),
    "unquoted number": (
        change(*TABLE, "rows", "cnn1", to=[0.9, "1", "1"]),
        "published.tables.0.rows.cnn1.0: 0.9 is not a number in quotes",
    ),
    "number in words": (
        change(*READING, "text", to="about 3"),
        "published.readings.0.text: 'about 3' is not a number in quotes",
    ),
    "short row": (change(*TABLE, "rows", "cnn1", to=["1", "1"]), "row 'cnn1' has 2 numbers for 3"),
    "trials in a table of epochs": (
        change("published", "tables", 1, "rows", 1, key="cnn1"),
        "published.tables.1: row 'cnn1'",
    ),
    "unknown metric": (change(*TABLE, "columns", 0, to="accuracy"), "unknown metric 'accuracy'"),
    "metric of a whole trial in an epoch": (
        change(*READING, to=lambda reading: reading | {"metric": "seconds"}),
        "published.readings.0: seconds has one value",
    ),
    "statistic of one value": (
        change(*READING, to={
            "place": "text", "trial": "cnn1", "metric": "seconds", "text": "1", "statistic": "min",
        }),
        "published.readings.0: seconds has one value",
    ),
    "epochs backwards": (change(*READING, "epochs", to=[5, 2]), "published.readings.0: .*backward"),
    "epoch after the last": (
        change(*READING, "epochs", to=[1, 51]),
        "published, CNN 7.*epochs: cnn7 is trained for 50 epochs, not 51",
    ),
    "epoch 0": (change(*READING, "epochs", to=[0, 2]), "published.readings.0.epochs.0"),
    "claim about an unknown trial": (predicate(trial="cnn8"), "claims.Z01a: .*'cnn8'"),
    "claim after the last epoch": (predicate(epochs=[1, 60]), "claims.Z01a: epochs: .* 50 .*60"),
    "claim about an unknown sweep": (
        claim(holds=[VALUE | {"trial": {"sweep": "cmm", "take": "max"}}]),
        "claims.Z01a: no sweep is called 'cmm'",
    ),
    "claim about an unknown setting": (
        claim(holds=[VALUE | {"trial": {"where": {"learning_rate": 0.1}, "take": "max"}}]),
        "claims.Z01a: where: no trial has learning_rate: 0.1",
    ),
    "claim about a setting that no trial has": (
        claim(holds=[VALUE | {"trial": {"where": {"batch_size": [31, 33]}, "take": "max"}}]),
        r"claims.Z01a: where: no trial has batch_size: \[31, 33\]",
    ),
    "effect of an unknown setting": (
        claim(holds=[EFFECT | {"axis": "momentum"}]),
        "claims.Z01a: where: no trial has momentum: 0.9",
    ),
    "effect of a value that the grid lacks": (
        claim(holds=[EFFECT | {"b": 0.5}]),
        "claims.Z01a: where: no trial has optimizer.momentum: 0.5",
    ),
    "effect in an unknown sweep": (
        claim(holds=[EFFECT | {"sweep": "vgg_sdg"}]),
        "claims.Z01a: no sweep is called 'vgg_sdg'",
    ),
    "unknown setting that separates": (
        claim(holds=[SEPARATES | {"strong": ["momentum"]}]),
        r"claims.Z01a: sweep vgg_sgd does not vary .momentum.; it varies .*optimizer.momentum",
    ),
    "unknown setting that does not separate": (
        claim(holds=[SEPARATES | {"weak": ["optimizer.learning_rate", "width"]}]),
        r"claims.Z01a: sweep vgg_sgd does not vary .width.",
    ),
    "confusions of an unknown trial": (
        claim(holds=[VALUE | {"is": "confuses", "trial": "cnn8", "actual": "a", "predicted": "b"}]),
        "claims.Z01a: no trial is called 'cnn8'",
    ),
    "unknown key of a selection": (
        claim(holds=[VALUE | {"trial": {"typo": 1, "take": "max"}}]),
        "claims.0.holds.0.*typo: unknown key",
    ),
    "claim of two minds": (
        claim(undecidable={"needs": "size", "why": "no numbers"}),
        "claims.0: .*needs a size cannot have predicates",
    ),
    "claim without predicates": (claim(holds=[], undecidable=None), "claims.0: .*or a reason why"),
    "unknown predicate": (predicate(**{"is": "louder"}), "claims.0.holds.0: .*'louder'"),
    "predicate with an unknown metric": (predicate(metric="accuracy"), "claims.0.holds.0.*metric"),
    "the same claim twice": (
        change("claims", to=lambda claims: [*claims, claims[0]]),
        "claims: id 'Z01a' stands twice",
    ),
    "negative seed": (change("seed", to=-1), "seed"),
    "no classes": (change("classes", to=0), "classes"),
}  # fmt: skip


def check_refusal(message, tmp_path, *expected):
    """The message has a line for each expectation, and every line begins with the file."""
    for line in message.splitlines():
        assert line.startswith(f"{tmp_path / NAME}.yaml: "), line
    for pattern in expected:
        assert re.search(pattern, message), message


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_declaration_is_refused_with_the_file_and_the_key(kind, content, load, tmp_path):
    mutate, expected = WRONG[kind]
    changed = copy.deepcopy(content)
    mutate(changed)
    with pytest.raises(DeclarationError) as caught:
        load(changed)
    check_refusal(str(caught.value), tmp_path, expected)


def mappings(value, path=()):
    """The paths of all mappings in plain data."""
    if isinstance(value, dict):
        yield path
    if isinstance(value, dict | list):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from mappings(child, (*path, key))


def at(content, path):
    for key in path:
        content = content[key]
    return content


# Mappings and lists whose items are alike.
ALIKE = {"sweeps", "profiles", "tables", "readings", "entries", "claims", "holds"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"trails": 3}, "trails: unknown key"), ({"trials": 2, "initial_points": 3}, "3 initial")],
)
def test_a_search_that_a_profile_changes_is_checked_beforehand(changes, message, load):
    whole = yaml.safe_load((paths.EXPERIMENTS / "fmnist_grid.yaml").read_text("utf-8"))
    whole["profiles"]["small"]["sweeps"]["grid2"]["search"] = changes
    with pytest.raises(DeclarationError, match=f"profiles.small.sweeps.grid2.search: .*{message}"):
        load(whole, "fmnist_grid")


def test_unknown_key_is_refused_at_every_level(content, load, tmp_path):
    examples = {}
    for path in mappings(content):
        shape = ["*" if above in ALIKE else key for above, key in pairwise((None, *path))]
        kind = at(content, path).get("is")
        # The options of a network are known to its factory only, which needs Keras.
        if path[-1:] != ("options",):
            examples.setdefault((*shape, kind), path)
    assert len(examples) > 35
    taken = []
    for path in examples.values():
        changed = copy.deepcopy(content)
        at(changed, path)["typo"] = 1
        try:
            load(changed)
        except DeclarationError as error:
            check_refusal(str(error), tmp_path, "typo")
        else:
            taken.append(path)
    assert not taken


@pytest.mark.parametrize(
    "key",
    [key for key, field in Declaration.model_fields.items() if field.is_required()],
)
def test_missing_key_is_refused(key, content, load, tmp_path):
    with pytest.raises(DeclarationError) as caught:
        load({name: value for name, value in content.items() if name != key})
    check_refusal(str(caught.value), tmp_path, f"{key}: missing key")


def test_every_wrong_key_is_named_at_once(content, load, tmp_path):
    changed = copy.deepcopy(content) | {"typo": 1}
    del changed["title"]
    changed["claims"][0]["by"] = "somebody"
    with pytest.raises(DeclarationError) as caught:
        load(changed)
    check_refusal(str(caught.value), tmp_path, "typo", "title", "claims.0.by")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"name: fmnist_zoo\nname: fmnist_zoo\n", "key 'name' stands twice.*\n*.*line 2"),
        (b"a: {b: {c: 1, c: 2}}", "key 'c' stands twice"),
        (b"a: {1: x, 1: y}", "key '1' stands twice"),
        (b"? [a, b]\n: c", "unhashable key"),
        (b"a: [1, 2", "cannot be read as YAML"),
        (b"a: 2020-13-45", "cannot be read as YAML"),
        (b"a: 2020-12-24", "cannot be read as YAML: .* date is not"),
        (b"a: &a [*a]", "cannot be read as YAML: Circular"),
        (b"a: \xff\xfe", "cannot be read as YAML"),
        (b"a: \x00", "cannot be read as YAML"),
        (b"[" * 100_000, "cannot be read as YAML"),
        (b"a: *nobody", "cannot be read as YAML"),
        (b"a: !!python/object/apply:os.system [exit]", "cannot be read as YAML.*\n*.*os.system"),
        (b"a: !!python/object:refit.errors.RefitError {}", "cannot be read as YAML"),
        (b"a: !!python/name:os.system", "cannot be read as YAML"),
        (b"- a\n- b\n", "not a mapping"),
        (b"fmnist_zoo", "not a mapping"),
        (b"", "not a mapping"),
    ],
)
def test_what_is_no_plain_mapping_is_refused(text, expected, load, tmp_path):
    with pytest.raises(DeclarationError, match=expected) as caught:
        load(text)
    assert str(caught.value).startswith(f"{tmp_path / NAME}.yaml: ")


def test_unknown_experiment_or_file_is_refused(tmp_path):
    with pytest.raises(DeclarationError, match=r"no experiment 'zoo'; known: .*fmnist_zoo"):
        experiments.load("zoo")
    with pytest.raises(DeclarationError, match=r"nothing\.yaml: cannot be read"):
        experiments.load(tmp_path / "nothing.yaml")


def test_the_example_itself_is_a_declaration(content, load):
    assert load(content).name == NAME


# --- expanding -------------------------------------------------------------------------------


def test_unknown_profile_or_number_of_seeds_is_refused(zoo):
    with pytest.raises(DeclarationError, match="no profile 'tiny'; known: smoke, small, full"):
        expand(zoo, "tiny")
    for seeds in (1001, -1):
        with pytest.raises(DeclarationError, match=f"seeds is {seeds}"):
            expand(zoo, "smoke", seeds)


def test_without_a_number_each_sweep_has_the_seeds_it_declares(content, load):
    content["sweeps"]["vgg"]["seeds"] = {"full": 5}
    declaration = load(content)
    for profile, vgg, cnn in (("full", 5, 3), ("small", 1, 1), ("smoke", 1, 1)):
        trials = expand(declaration, profile, seeds=0)
        found = {name: len({t.seed for t in trials if t.sweep == name}) for name in ("vgg", "cnn")}
        assert found == {"vgg": vgg, "cnn": cnn}


@pytest.mark.parametrize("profile", ["smoke", "small", "full"])
def test_more_seeds_never_change_the_first(zoo, profile):
    counts = {}
    for seeds in (1, 3):
        for trial in expand(zoo, profile, seeds):
            counts.setdefault(trial.sweep, {}).setdefault(seeds, set()).add(trial.directory)
            assert trial.seed in range(1337, 1337 + seeds)
    cuts = zoo.profiles[profile].sweeps
    for sweep, found in counts.items():
        assert found[1] < found[3] or (cuts[sweep].max_seeds == 1 and found[1] == found[3])
        bound = cuts[sweep].max_seeds if sweep in cuts else None
        assert len(found[3]) == len(found[1]) * min(3, bound or 3)


def test_max_seeds_bounds_the_replicates_of_its_sweep_only(content, load):
    content = copy.deepcopy(content)
    content["profiles"]["full"]["sweeps"] = {"vgg": {"max_seeds": 2}}
    trials = expand(load(content), "full", 5)
    assert {t.seed for t in trials if t.sweep == "vgg"} == {1337, 1338}
    assert {t.seed for t in trials if t.sweep == "cnn"} == {1337, 1338, 1339, 1340, 1341}


def test_a_repetition_is_the_same_trial_with_seeds_of_its_own(content, load):
    content = copy.deepcopy(content)
    cnn = content["sweeps"]["cnn"]
    for repetition in (0, 1, 2):
        changes = {"name": f"again{repetition}", "repetition": repetition}
        cnn["entries"].append(cnn["entries"][0] | changes)
        cnn["trials"] += 1
    trials = [trial for trial in expand(load(content), seeds=2) if trial.sweep == "cnn"]
    seeds, digests = (
        {name: [getattr(t, field) for t in trials if t.name == name] for name in REPEATED}
        for field in ("seed", "digest")
    )
    assert seeds == {
        "cnn1": [1337, 1338], "again0": [1337, 1338], "again1": [11_337, 11_338],
        "again2": [21_337, 21_338],
    }  # fmt: skip
    assert digests["again0"] == digests["cnn1"]
    assert len({digest for name in REPEATED for digest in digests[name]}) == 6
    first, again = (next(t for t in trials if t.name == name) for name in ("cnn1", "again1"))
    assert again.model_copy(update={"name": "cnn1", "seed": 1337}) == first


REPEATED = ("cnn1", "again0", "again1", "again2")


def test_trials_come_in_the_order_of_the_declaration(zoo):
    trials = expand(zoo, "full", 2)
    assert [trial.name for trial in trials[:8]] == [f"cnn{i}" for i in range(1, 8)] + ["cnn1"]
    assert list(dict.fromkeys(trial.sweep for trial in trials)) == list(zoo.sweeps)
    assert [trial.name for trial in trials if trial.sweep == "vgg_sgd"][:4] == [
        "vgg2-lr0.001-m0.0", "vgg2-lr0.001-m0.9", "vgg2-lr0.1-m0.0", "vgg2-lr0.1-m0.9",
    ]  # fmt: skip


def test_grid_of_a_profile_leaves_the_order_and_the_other_axes(content, load):
    content = copy.deepcopy(content)
    cut = {"grid": {"optimizer.momentum": [0.9]}}
    content["profiles"]["full"]["sweeps"] = {"vgg_sgd": cut}
    declaration = load(content)
    found = [trial for trial in expand(declaration) if trial.sweep == "vgg_sgd"]
    assert [(t.name, t.optimizer.learning_rate, t.optimizer.momentum) for t in found] == [
        ("vgg2-lr0.001-m0.9", 0.001, 0.9),
        ("vgg2-lr0.1-m0.9", 0.1, 0.9),
    ]


def test_a_profile_can_keep_single_trials_of_a_grid_it_cuts(content, load):
    content = copy.deepcopy(content)
    cut = content["profiles"]["full"]["sweeps"] = {"vgg_sgd": dict(MOMENTUM)}
    names = ["vgg2-lr0.001-m0.9", "vgg2-lr0.1-m0.0", "vgg2-lr0.1-m0.9"]
    for keep, expected in [
        (["vgg2-lr0.1-m0.0"], names),
        (["vgg2-lr0.1-m0.9", "vgg2-lr0.1-m0.0"], names),  # the first one is there anyhow
        ([], [names[0], names[2]]),
    ]:
        cut["vgg_sgd"]["keep"] = keep
        found = [trial for trial in expand(load(content)) if trial.sweep == "vgg_sgd"]
        assert [trial.name for trial in found] == expected, "in the order of the grid"
    whole = {t.name: t.digest for t in expand(load(SOURCE.read_text()))}
    assert all(whole[trial.name] == trial.digest for trial in found)


def test_grid_can_go_through_whole_settings(content, load):
    content = copy.deepcopy(content)
    content["sweeps"]["vgg_sgd"] |= {
        "grid": {
            "optimizer": [{"name": "adam", "learning_rate": 0.1}, {"name": "sgd"}],
            "optimizer.learning_rate": [0.1, 0.2],
        },
        "name": "vgg2-{optimizer[name]}-{learning_rate}",
        "titles": "{optimizer[name]} at {learning_rate}",
        "trials": 4,
    }
    found = [trial for trial in expand(load(content)) if trial.sweep == "vgg_sgd"]
    assert [trial.title for trial in found][1:3] == ["adam at 0.2", "sgd at 0.1"]
    assert {t.name: (t.optimizer.name, t.optimizer.learning_rate) for t in found} == {
        "vgg2-adam-0.1": ("adam", 0.1), "vgg2-adam-0.2": ("adam", 0.2),
        "vgg2-sgd-0.1": ("sgd", 0.1), "vgg2-sgd-0.2": ("sgd", 0.2),
    }  # fmt: skip


def test_a_renamed_part_forgets_the_settings_of_the_old_one(zoo):
    """AlexNet's base is SGD; Adadelta does not inherit its rate, nor VGG another's options."""
    trials = {trial.name: trial for trial in expand(zoo)}
    assert trials["alexnet3"].optimizer.model_dump(exclude_defaults=True) == {
        "name": "adadelta", "learning_rate": 1.0, "rho": 0.95,
    }  # fmt: skip
    assert trials["cnn7-ten"].data.model_dump(exclude={"fingerprint"}) == trials[
        "cnn1"
    ].data.model_dump(exclude={"fingerprint"}) | {"name": "fashion_mnist"}
    assert trials["cnn4"].model.options == {"leaky_relu": "after_relu"}
    assert trials["cnn1"].callbacks == ()
    assert trials["vgg1"].data.image_size == 48


@pytest.mark.parametrize(
    ("cut", "expected"),
    [
        ({}, 70),
        ({"epoch_fraction": 0.2}, 14),
        ({"epoch_fraction": 0.1}, 7),  # 70 * 0.1 is 7.000000000000001
        ({"epoch_fraction": 0.11}, 8),
        ({"epoch_fraction": 1e-12}, 1),
        ({"max_epochs": 3}, 3),
        ({"max_epochs": 300}, 70),
        ({"epoch_fraction": 0.5, "max_epochs": 20}, 20),
        ({"epoch_fraction": 0.2, "max_epochs": 20}, 14),
    ],
)
def test_epochs_are_cut_by_a_fraction_rounded_up_and_by_a_cap(cut, expected, content, load):
    content = copy.deepcopy(content)
    content["sweeps"]["lenet"]["base"]["epochs"] = 70
    content["profiles"]["smoke"]["sweeps"]["lenet"] = cut
    trial = next(t for t in expand(load(content), "smoke") if t.name == "lenet1")
    assert (trial.epochs, trial.published_epochs) == (expected, 70)


def test_profile_replaces_data_and_its_sweeps_can_go_further(zoo):
    trials = {trial.name: trial.data for trial in expand(zoo, "smoke")}
    assert {data.name for data in trials.values()} == {"digits_pairs"}
    assert (trials["cnn1"].train_images, trials["vgg1"].train_images) == (128, 16)
    assert all(data.fingerprint for data in trials.values())


def test_where_a_profile_cuts_the_seed_draws_the_images(zoo):
    drawn = {profile: expand(zoo, profile, 2) for profile in ("small", "full")}
    assert all(trial.data.draw_seed == trial.seed for trial in drawn["small"])
    assert {trial.data.draw_seed for trial in drawn["full"]} == {None}
    assert {trial.data.test_images for trial in drawn["small"]} == {None}
    again = [drawn[profile][0].with_seed(7).data.draw_seed for profile in drawn]
    assert again == [7, None]
    transfer = experiments.load("transfer")
    small = experiments.expand(transfer, "small", resolve=lambda spec: spec)
    declared = {trial.data.train_images: trial.data.draw_seed for trial in small}
    assert declared[125] is None  # as declared: the profile leaves it alone
    assert declared[8000] == transfer.seed


# --- identity --------------------------------------------------------------------------------

MEANINGS = {
    "learning rate": {"optimizer": {"name": "adam", "learning_rate": 0.002}},
    "optimizer": {"optimizer": {"name": "adadelta", "learning_rate": 0.001}},
    "momentum": {"optimizer": {"name": "sgd", "learning_rate": 0.001, "momentum": 0.9}},
    "decay": {"optimizer": {"name": "sgd", "learning_rate": 0.001, "decay": 1e-6}},
    "weight decay": {"optimizer": {"name": "sgd", "learning_rate": 0.001, "weight_decay": 1e-6}},
    "epochs": {"epochs": 4},
    "batch size": {"batch_size": 64},
    "seed": {"seed": 1338},
    "network": {"model": {"name": "lenet_wide"}},
    "option": {"model": {"name": "lenet", "options": {"activation": "relu"}}},
    "callback": {"callbacks": [{"name": "reduce_lr_on_plateau", "factor": 0.5, "patience": 3}]},
    "callback's setting": {
        "callbacks": [{"name": "reduce_lr_on_plateau", "factor": 0.5, "patience": 4}]
    },
    "data set": {"data": {"name": "digits"}},
    "source files": {"data": {"name": "digits_pairs", "fingerprint": "other"}},
    "images": {"data": {"name": "digits_pairs", "train_images": 100}},
    "test images": {"data": {"name": "digits_pairs", "test_images": 100}},
    "drawn images": {"data": {"name": "digits_pairs", "train_images": 100, "draw_seed": 1}},
    "split": {"data": {"name": "digits_pairs", "split_seed": 1}},
    "image size": {"data": {"name": "digits_pairs", "image_size": 32}},
    "validation images": {"data": {"name": "digits_pairs", "validation": "test"}},
    "order": {"shuffle": True},
    "recorded batches": {"record_batches": True},
    "test batches": {"test_batch_size": 32},
    "another size of test batches": {"test_batch_size": 16},
    "target": {"callbacks": [{"name": "stop_at_target", "target": 0.9}]},
    "another target": {"callbacks": [{"name": "stop_at_target", "target": 0.8}]},
    "monitor": {
        "callbacks": [{"name": "stop_at_target", "target": 0.9, "monitor": "val_accuracy"}]
    },
    "patience": {"callbacks": [{"name": "stop_when_stagnant", "patience": 3}]},
    "another patience": {"callbacks": [{"name": "stop_when_stagnant", "patience": 4}]},
    "best weights": {"callbacks": [{"name": "keep_best"}]},
    "best weights from a threshold": {"callbacks": [{"name": "keep_best", "at_least": 0.5}]},
    "untrained network": {"evaluate_untrained": True},
    "evaluated training images": {"evaluate_train": True},
}


def test_identity_follows_the_meaning(make_tiny):
    plain = make_tiny(data={"name": "digits_pairs"})
    digests = {"plain": plain.digest} | {
        name: make_tiny(**{"data": {"name": "digits_pairs"}} | changes).digest
        for name, changes in MEANINGS.items()
    }
    assert len(set(digests.values())) == len(digests), digests
    assert re.fullmatch("[0-9a-f]{10}", plain.digest)


@pytest.mark.parametrize(
    "changes",
    [
        {"title": "Another title"},
        {"name": "another"},
        {"sweep": "another"},
        {"published_epochs": 50},
        {"callbacks": []},
        {"optimizer": {"name": "adam", "learning_rate": 0.001, "momentum": 0.0, "rho": None}},
        {"optimizer": {"learning_rate": 1e-3, "name": "adam"}},
        {"shuffle": False, "record_batches": False, "test_batch_size": None},
        {"evaluate_untrained": False, "evaluate_train": False},
        {"optimizer": {"name": "adam", "learning_rate": 0.001, "weight_decay": 0.0}},
    ],
)
def test_identity_ignores_names_and_defaults(make_tiny, changes):
    assert make_tiny(**changes).digest == make_tiny().digest
    assert hash(make_tiny(**changes)) == hash(make_tiny())


def test_settings_added_later_leave_old_results_valid(make_tiny):
    """The identity is that of the settings spelt out."""
    meaning = {
        "data": {
            "name": "digits_pairs",
            "train_images": 160,
            "validation_images": 60,
            "test_images": 60,
            "fingerprint": "sklearn-digits",
        },
        "model": {"name": "lenet"},
        "optimizer": {"name": "adam", "learning_rate": 0.001},
        "epochs": 3,
        "batch_size": 32,
        "seed": 1337,
    }
    text = json.dumps([1, meaning], sort_keys=True)
    assert make_tiny().digest == hashlib.sha256(text.encode()).hexdigest()[:10]


def test_options_are_the_same_in_any_order(make_tiny):
    options = {"activation": "relu", "dropout": 0.5}
    back = dict(reversed(options.items()))
    made = [
        make_tiny(model={"name": "lenet", "options": given}).digest for given in (options, back)
    ]
    assert made[0] == made[1]


def test_identity_survives_the_journey_to_another_process(zoo):
    trials = expand(zoo, "smoke", 2)
    script = (
        "import json, sys; from refit.experiments.trial import Trial\n"
        "print(*(Trial.model_validate(plain).digest for plain in json.load(sys.stdin)))"
    )
    plain = json.dumps([trial.model_dump(mode="json") for trial in trials])
    done = subprocess.run(
        [sys.executable, "-c", script], input=plain, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [trial.digest for trial in trials]


def test_run_directory_is_readable_and_ends_in_the_identity(zoo):
    trials = expand(zoo, "full", 2)
    assert len({trial.directory for trial in trials}) == len(trials)
    assert str(trials[0].directory) == f"cnn/cnn1-seed1337-{trials[0].digest}"


def test_hyper_parameters_are_flat_and_plain(zoo):
    trial = next(t for t in expand(zoo) if t.name == "cnn1-3x3")
    settings = trial.hyper_parameters()
    assert settings["model.kernel_sizes"] == "[3, 3]"
    assert (settings["optimizer"], settings["optimizer.learning_rate"]) == ("adam", 0.001)
    assert all(isinstance(value, bool | int | float | str) for value in settings.values())
    assert "target" not in settings


def test_hyper_parameters_name_the_target(make_tiny):
    settings = make_tiny(callbacks=[{"name": "stop_at_target", "target": 0.9}]).hyper_parameters()
    assert (settings["target"], settings["reduce_lr_on_plateau"]) == (0.9, False)


def test_hyper_parameters_name_when_a_training_ends_and_what_it_keeps(make_tiny):
    used = [{"name": "stop_when_stagnant", "patience": 5}, {"name": "keep_best", "at_least": 0.5}]
    settings = make_tiny(callbacks=used).hyper_parameters()
    named = ("stop_when_stagnant.patience", "keep_best.at_least")
    assert [settings[name] for name in named] == [5, 0.5]
