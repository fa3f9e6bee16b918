"""Tuners over a finished grid: their suggestions are refit's trials, paid for only on paper."""

import json

import pandas as pd
import pytest

from conftest import tiny
from refit.experiments.declaration import Search
from refit.run_directory import directory
from refit.run_directory import log as run_log
from refit.running import runner
from refit.searches import tuner

AXES = {"model.units": [1, 2], "optimizer.learning_rate": [0.0001, 0.001, 0.01]}
BY_SIZE = {1: "lenet", 2: "lenet_wide"}
# A LeNet or a wide one, at three learning rates.
TRIALS = {
    (size, rate): tiny(
        name=f"size{size}-rate{rate}",
        model={"name": BY_SIZE[size]},
        optimizer={"name": "adam", "learning_rate": rate},
    )
    for size in AXES["model.units"]
    for rate in AXES["optimizer.learning_rate"]
}
GRID = tuner.Grid("tests", AXES, TRIALS)


def make_spec(**changes):
    settings = {
        "tuners": ["random"],
        "trials": 4,
        "initial_points": 2,
        "hyperband_epochs": 3,
        "repeats": 2,
    }
    return Search.model_validate(settings | changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the grid was trained."""
    folder = tmp_path_factory.mktemp("grid")
    runner.check(runner.run(list(TRIALS.values()), folder))
    return folder


def test_project_of_keras_tuner_is_kept_for_its_own_tools(folder, capsys):
    trace = tuner.run(GRID, make_spec(), folder)
    import keras_tuner

    kept = keras_tuner.RandomSearch(
        lambda settings: None, keras_tuner.Objective("score", "max"), max_trials=3,
        directory=folder / directory.SEARCH, project_name=f"{GRID.sweep}-random-1",
    )  # fmt: skip
    kept.reload()
    scores = [trial.score for trial in kept.oracle.trials.values()]
    assert sorted(scores) == pytest.approx(sorted(trace.query("repeat == 1")["score"]))
    kept.results_summary()
    assert f"Score: {max(scores)}" in capsys.readouterr().out


def test_a_search_scores_what_is_trained_and_counts_what_it_would_have_cost(folder):
    trace = tuner.run(GRID, make_spec(tuners=["random", "bayesian", "hyperband"]), folder)
    log = run_log.read(list(TRIALS.values()), folder)
    for row in trace.itertuples():
        curve = log.curve(row.trial, "val_accuracy").squeeze()
        assert row.score == curve[row.reached]
    random = trace[trace["tuner"] == "random"]
    assert random.groupby("repeat")["digest"].nunique().eq(4).all()
    assert (random["epochs"] == 3).all()
    # Hyperband goes on with what it has trained; a Bayesian search may ask for a point again.
    promoted = set(trace.loc[trace["epochs"] < trace["reached"], "tuner"])
    assert {"hyperband"} <= promoted <= {"hyperband", "bayesian"}

    table = tuner.summary(trace, log.done, "val_accuracy").set_index("search")
    assert table.loc["exhaustive grid", "epochs"] == 18
    assert table.loc["random", "epochs, share"] == pytest.approx(12 / 18)
    assert table.loc["random", "short of best"] >= 0
    assert tuner.progress(trace)["epochs"].max() <= 2 * 18


def test_a_search_is_the_same_from_its_record_and_without(folder):
    spec = make_spec(tuners=["random", "bayesian"], repeats=1)
    first = tuner.run(GRID, spec, folder)
    pd.testing.assert_frame_equal(tuner.run(GRID, spec, folder), first)
    record = folder / directory.SEARCH / "tests-bayesian-1.json"
    content = record.read_text()
    whole = json.loads(content)
    step, name, digest, reached, added, score = whole["rows"][0]
    no_such = [(name, reached, score + 0.1), (name, 99, score), ("none", reached, score)]
    wrong = [None, *([[step, name, digest, at, added, value]] for name, at, value in no_such)]
    for damaged in ["{", *(json.dumps(whole | {"rows": rows}) for rows in wrong)]:
        record.write_text(damaged)
        pd.testing.assert_frame_equal(tuner.run(GRID, spec, folder), first)
        assert record.read_text() == content
    # Of a whole one everything is taken as it stands: another processor may ask for other points.
    record.write_text(json.dumps(whole | {"rows": whole["rows"][:1]}))
    assert len(tuner.run(GRID, spec, folder)) == len(first) - 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": "test_accuracy"}, "an accuracy with a curve"),
        ({"metric": "val_loss"}, "an accuracy with a curve"),
        ({"initial_points": 9}, "9 initial points for 4 trials"),
        ({"tuners": ["grid"]}, "random"),
        ({"tuners": []}, "at least 1"),
    ],
)
def test_a_wrong_search_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make_spec(**changes)
