"""Winners of grids, trained again with seeds that had no part in choosing them."""

import pytest

from refit.errors import DeclarationError
from refit.experiments import expand
from refit.experiments.declaration import Retrain
from refit.run_directory import directory
from refit.run_directory import log as run_log
from refit.running import runner
from refit.searches import retrain
from refit.study import Study

SPEC = Retrain(default="slow", repetitions=2)


@pytest.fixture(scope="module")
def grid(tmp_path_factory, request):
    make = request.getfixturevalue("make_tiny")
    folder = tmp_path_factory.mktemp("retrain")
    rates = {"slow": 1e-6, "fast": 0.003}
    trials = [
        make(name=name, sweep="grid", optimizer={"name": "adam", "learning_rate": rate}, epochs=4)
        for name, rate in rates.items()
    ]
    runner.check(runner.run(trials, folder))
    return trials, folder


def test_winner_and_default_are_trained_with_new_seeds(grid):
    trials, folder = grid
    rows = retrain.run(trials, "grid", SPEC, folder)
    assert rows["trial"].tolist() == ["slow", "fast", "slow", "slow", "fast", "fast"]
    assert rows["role"].tolist() == ["default", "winner", "default", "default", "winner", "winner"]
    assert rows["seed"].nunique() == 3  # paired: the same new seeds for both
    by_trial = {trial.name: directory.result_of(trial, folder) for trial in trials}
    for row in rows[rows["repetition"] == 0].itertuples():
        assert row.value == by_trial[row.trial]["metrics"]["test_accuracy"]
    again = retrain.scores(rows)
    assert {name: list(values.index) for name, values in again.items()} == {
        "slow": [1, 2], "fast": [1, 2],
    }  # fmt: skip
    assert again["fast"].mean() > again["slow"].mean()


def test_second_time_trains_nothing(grid, monkeypatch):
    trials, folder = grid
    rows = retrain.run(trials, "grid", SPEC, folder)
    monkeypatch.setattr(runner, "TrainingPool", None)  # nothing may be started
    assert retrain.run(trials, "grid", SPEC, folder).equals(rows)


def test_default_that_wins_is_held_against_the_second(grid):
    trials, folder = grid
    spec = SPEC.model_copy(update={"default": "fast"})
    rows = retrain.run(trials, "grid", spec, folder, train=False)
    assert rows.drop_duplicates("role")["trial"].tolist() == ["fast", "slow"]


def test_without_results_nothing_is_retrained(grid, tmp_path):
    trials, _ = grid
    assert retrain.run(trials, "grid", SPEC, tmp_path).empty
    assert retrain.run([], "grid", SPEC, tmp_path).empty, "as of a sweep that the profile skips"


def test_without_training_the_missing_have_no_value(grid):
    trials, folder = grid
    spec = SPEC.model_copy(update={"repetitions": 3})
    rows = retrain.run(trials, "grid", spec, folder, train=False)
    assert rows.loc[rows["repetition"] == 3, "value"].isna().all()


def test_scores_of_a_search_are_those_of_its_first_seed(grid, make_tiny, tmp_path):
    trials, folder = grid
    again = [trial.model_copy(update={"seed": trial.seed + 1}) for trial in trials]
    runner.check(runner.run(again, folder))
    log = run_log.read([*again, *trials], folder)
    assert log.first("grid", "test_accuracy") == {
        trial.name: directory.result_of(trial, folder)["metrics"]["test_accuracy"]
        for trial in trials
    }
    assert log.first("nothing", "test_accuracy") == {}
    assert run_log.read(trials, tmp_path).first("grid", "test_accuracy") == {}


def test_sweep_that_declares_nothing_is_an_error(tmp_path):
    declaration = expand.load("fmnist_tuning")
    trials = expand.expand(declaration, "smoke")
    study = Study(declaration, "smoke", trials, tmp_path, tmp_path, None)
    with pytest.raises(DeclarationError, match="optimizers declares no retrain"):
        study.retrain("optimizers")


def test_combinations_have_the_report_s_numbers(tmp_path):
    declaration = expand.load("fmnist_tuning")
    study = Study(declaration, "smoke", [], tmp_path, tmp_path, None)
    activations, filters = study.numbers("activations"), study.numbers("filters")
    assert len(activations) == len(filters) == 81
    assert activations["selu-relu-relu-relu"] == 68
    assert filters["filters-32-64-64-64"] == 54
