"""Trainings in bfloat16: trials of their own, with float32 variables, that earn no verdict."""

import math
from pathlib import Path

import keras
import numpy as np
import pytest
from pydantic import ValidationError

from refit import fused
from refit.errors import DeclarationError
from refit.experiments import expand
from refit.models import networks
from refit.run_directory import directory, run_log
from refit.run_directory.directory import CHECKPOINT
from refit.running import runner
from refit.running.timing import Times
from refit.study import Study
from refit.training import fit

SHAPE, CLASSES = (28, 28, 1), 5
WITH_DROPOUT = {"model": {"name": "cnn", "options": {"last_dropout": 0.4}}}


def losses(trial, folder: Path) -> list[list[float]]:
    return run_log.read([trial], folder).curves[["train_loss", "val_loss"]].values.tolist()


# --- identity --------------------------------------------------------------------------------


def test_a_trial_in_bfloat16_is_another_one(make_tiny):
    plain, half = make_tiny(), make_tiny(precision="bfloat16")
    assert make_tiny(precision="float32").digest == plain.digest
    assert half.digest != plain.digest
    assert half.directory != plain.directory
    assert half.hyper_parameters() == plain.hyper_parameters() | {"precision": "bfloat16"}
    assert "precision" not in plain.hyper_parameters()
    assert fused.groups([plain, half, make_tiny(seed=1)]) == [[plain, make_tiny(seed=1)], [half]]
    with pytest.raises(ValidationError, match="precision"):
        make_tiny(precision="float8")


@pytest.mark.parametrize("name", ["gesture", "transfer"])
def test_all_trials_of_a_study_have_its_precision_and_so_have_those_they_start_from(name):
    plain, half = Study.open(name), Study.open(name, precision="bfloat16")
    assert {(t.precision, t.altered) for t in half.trials} == {("bfloat16", True)}
    assert {t.precision for t in plain.trials} == {"float32"}
    assert plain.trials == Study.open(name, precision="float32").trials
    directories = [{str(trial.directory) for trial in study.trials} for study in (plain, half)]
    assert not directories[0] & directories[1]
    assert half.pages == plain.pages.parents[1] / "bfloat16" / "smoke" / name
    sources = [trial.source for trial in half.trials if trial.source]
    assert sources
    assert set(sources) <= directories[1]


@pytest.mark.parametrize("value", ["float8", "mixed_bfloat16", "", None, 16])
def test_an_unknown_precision_is_refused_with_the_known_ones(value):
    with pytest.raises(DeclarationError, match=r"precision is .*; known: float32, bfloat16"):
        Study.open("fmnist_zoo", precision=value)


def test_in_float32_only_what_the_profile_changes_is_altered():
    declaration = expand.load("cifar10")
    trials = expand.expand(declaration, "small", precision="float32")
    cuts = declaration.profiles["small"].sweeps
    changed = {sweep for sweep, cut in cuts.items() if cut.changes}
    assert {trial.sweep for trial in trials if trial.altered} == changed != set()


# --- networks --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cnn", "resnet", "conv_pair", "mlp"])
def test_a_network_computes_in_bfloat16_but_where_rounding_would_harm(make_tiny, name):
    trial = make_tiny(model={"name": name}, precision="bfloat16")
    model = fit.build_model(trial, SHAPE, CLASSES)
    assert {v.dtype for v in model.trainable_variables} == {"float32"}
    assert {v.dtype for v in model.optimizer.variables} <= {"float32", "int32", "int64"}
    for layer in model.layers[1:]:
        exact = layer is model.layers[-1] or isinstance(layer, keras.layers.Dropout)
        assert layer.compute_dtype == ("float32" if exact else "bfloat16"), layer.name
    assert model.predict(np.zeros((2, *SHAPE), np.float32), verbose=0).dtype == np.float32


def test_networks_that_are_made_otherwise_stay_in_float32(make_tiny):
    fit.build_model(make_tiny(precision="bfloat16"), SHAPE, CLASSES)
    with pytest.raises(DeclarationError):
        fit.build_model(make_tiny(model={"name": "vgg"}, precision="bfloat16"), SHAPE, CLASSES)
    for model in (
        networks.build("cnn", SHAPE, CLASSES),
        fit.build_model(make_tiny(**WITH_DROPOUT), SHAPE, CLASSES),
    ):
        assert {layer.compute_dtype for layer in model.layers} == {"float32"}
        plain = keras.layers.Dense(CLASSES, activation="softmax", name="predictions")
        assert model.layers[-1].get_config() == plain.get_config()


# --- trainings -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(make_tiny, tmp_path_factory):
    """The same training in both precisions, and the folder of the runs."""
    folder = tmp_path_factory.mktemp("precision") / "smoke" / "tests"
    best = {"name": "keep_best", "file": "model-{epoch:02d}.h5"}
    both = [
        make_tiny(**WITH_DROPOUT, callbacks=[best], epochs=4, precision=precision)
        for precision in ("float32", "bfloat16")
    ]
    runner.check(runner.run(both, folder, workers=2))
    return *both, folder


def test_a_training_in_bfloat16_learns_about_the_same(trained):
    plain, half, folder = trained
    one, other = np.array(losses(plain, folder)), np.array(losses(half, folder))
    assert (one != other).all()
    np.testing.assert_allclose(other, one, rtol=0.05)
    assert other[-1, 0] < other[0, 0]


def test_the_kept_network_is_the_one_that_was_trained(trained):
    _, half, folder = trained
    (path,) = (folder / half.directory).glob("*.h5")
    model = keras.models.load_model(path, compile=False)
    assert model.layers[-1].compute_dtype == "float32"
    assert model.get_layer("dense1").compute_dtype == "bfloat16"
    assert {v.dtype for v in model.trainable_variables} == {"float32"}


def test_results_and_facts_name_the_precision_where_it_is_not_float32(trained):
    plain, half, folder = trained
    log = run_log.read([plain, half], folder).done.set_index("digest")
    assert log.loc[half.digest, "precision"] == "bfloat16"
    assert "precision" not in run_log.read([plain], folder).results
    facts = run_log.provenance([half], folder).set_index("fact")["value"]
    assert facts["precision"] == "bfloat16, with variables in float32"
    assert "precision" not in set(run_log.provenance([plain], folder)["fact"])


def test_a_training_in_float32_says_nothing_of_the_time_in_bfloat16(trained, tmp_path):
    plain, half, folder = trained
    times = Times(folder.parents[1])
    assert times.seconds(plain, 160) > 0
    assert times.seconds(half, 160) > 0
    other = tmp_path / "smoke" / "tests" / plain.directory
    other.parent.mkdir(parents=True)
    other.symlink_to(folder / plain.directory)
    times = Times(tmp_path)
    assert times.seconds(plain, 160) > 0
    assert math.isnan(times.seconds(half, 160))


def test_a_training_goes_on_exactly_from_its_checkpoint(trained, tmp_path):
    _, half, folder = trained
    shorter = half.model_copy(update={"epochs": 2})
    runner.check(runner.run([shorter], tmp_path, workers=1, keep_checkpoints=True))
    with np.load(tmp_path / shorter.directory / CHECKPOINT) as saved:
        kinds = {saved[name].dtype for name in saved if name != "state"}
    assert {kind for kind in kinds if kind.kind == "f"} == {np.dtype("float32")}
    runner.check(runner.run([half], tmp_path, workers=1, earlier={half: shorter}))
    assert directory.result_of(half, tmp_path)["resumed_at_epoch"] == 2
    assert losses(half, tmp_path) == losses(half, folder)


def test_weights_are_carried_over(make_tiny, tmp_path):
    first = make_tiny(name="first", keep_weights=True, epochs=1, precision="bfloat16")
    start = {"trial": "first", "run": str(first.directory)}
    second = make_tiny(
        name="second", carried_over=start, evaluate_untrained=True, epochs=1, precision="bfloat16"
    )
    runner.check(runner.run([first, second], tmp_path, workers=1))
    one, other = (directory.result_of(trial, tmp_path)["metrics"] for trial in (first, second))
    assert other["untrained_accuracy"] == one["val_accuracy"]


def test_a_search_in_bfloat16_is_refused_and_others_go_on(make_tiny, tmp_path):
    search = make_tiny(
        name="search", model={"name": "autokeras", "options": {}}, precision="bfloat16"
    )
    other = make_tiny(epochs=1, precision="bfloat16")
    summary = runner.run([search, other], tmp_path, workers=1)
    assert summary.failures == {
        search.directory.name: "not available: AutoKeras searches in float32 only, not in bfloat16"
    }
    assert summary.trained == 1
