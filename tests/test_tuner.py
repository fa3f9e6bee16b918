"""Tuners over a grid: their suggestions are refit's trials, and nothing is paid for twice."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from refit.errors import TrialError
from refit.experiments.declaration import Search
from refit.run_directory import directory
from refit.run_directory import log as run_log
from refit.running import runner
from refit.searches import tuner

AXES = {"model.units": [1, 2], "optimizer.learning_rate": [0.0001, 0.001, 0.01]}


def make_spec(**changes):
    settings = {
        "tuners": ["random"],
        "trials": 3,
        "initial_points": 2,
        "hyperband_epochs": 3,
        "repeats": 1,
    }
    return Search.model_validate(settings | changes)


@pytest.fixture
def grid(make_tiny):
    """Six trials: a LeNet or a wide one, at three learning rates."""
    trials = {}
    for size in AXES["model.units"]:
        for rate in AXES["optimizer.learning_rate"]:
            trials[size, rate] = make_tiny(
                name=f"size{size}-rate{rate}",
                model={"name": {1: "lenet", 2: "lenet_wide"}[size]},
                optimizer={"name": "adam", "learning_rate": rate},
            )
    return tuner.Grid("tests", AXES, trials)


def trained(folder):
    """When each result below a folder was written."""
    return {path: path.stat().st_mtime_ns for path in folder.glob("*/*/result.json")}


def test_suggestions_are_trials_and_a_repeated_search_trains_nothing(grid, tmp_path):
    spec = make_spec(tuners=["random", "bayesian"])
    first = tuner.run(grid, spec, tmp_path)
    by_digest = {trial.digest: trial for trial in grid.trials.values()}
    assert set(first["tuner"]) == {"random", "bayesian"}
    for row in first.itertuples():
        result = directory.result_of(by_digest[row.digest], tmp_path)
        assert row.score == pytest.approx(result["metrics"]["val_accuracy"], abs=1e-6)
    results = trained(tmp_path)
    assert len(results) == first["digest"].nunique()

    pd.testing.assert_frame_equal(tuner.run(grid, spec, tmp_path), first)
    # Without its record a search is repeated, on the results that are there.
    for number, record in enumerate((tmp_path / tuner.FOLDER).iterdir()):
        whole = json.loads(record.read_text())
        record.write_text(["{", json.dumps(whole | {"rows": None})][number])
    pd.testing.assert_frame_equal(tuner.run(grid, spec, tmp_path), first)
    assert trained(tmp_path) == results


def test_after_the_exhaustive_grid_a_search_costs_only_on_paper(grid, tmp_path):
    runner.check(runner.run(list(grid.trials.values()), tmp_path))
    results = trained(tmp_path)
    spec = make_spec(tuners=["random", "bayesian", "hyperband"], repeats=2, trials=4)
    trace = tuner.run(grid, spec, tmp_path)
    assert trained(tmp_path) == results
    random = trace[trace["tuner"] == "random"]
    assert random.groupby("repeat")["digest"].nunique().eq(4).all()
    assert (random["epochs"] == 3).all()

    exhaustive = run_log.read(list(grid.trials.values()), tmp_path).done
    table = tuner.summary(trace, exhaustive, "val_accuracy").set_index("search")
    assert table.loc["exhaustive grid", "epochs"] == 18
    assert table.loc["random", "epochs, share"] == pytest.approx(12 / 18)
    assert table.loc["random", "short of best"] >= 0
    assert tuner.progress(trace)["epochs"].max() <= 2 * 18


def test_hyperband_goes_on_with_what_it_has_trained(grid, tmp_path):
    spec = make_spec(tuners=["hyperband"])
    trace = tuner.run(grid, spec, tmp_path / "searched")
    promoted = trace[trace["epochs"] < trace["reached"]]
    assert len(promoted), "no network was trained on"
    by_name = {trial.name: trial for trial in grid.trials.values()}
    for row in promoted.itertuples():
        trial = by_name[row.trial]
        result = directory.result_of(trial, tmp_path / "searched")
        assert result["resumed_at_epoch"] == row.reached - row.epochs
        runner.check(runner.run([trial], tmp_path / "alone"))
        curves = [
            run_log.read([trial], tmp_path / folder).curves["val_loss"]
            for folder in ("searched", "alone")
        ]
        np.testing.assert_array_equal(*curves)

    # The same search on the finished grid scores the same and costs the same.
    runner.check(runner.run(list(grid.trials.values()), tmp_path / "grid"))
    replayed = tuner.run(grid, spec, tmp_path / "grid")
    pd.testing.assert_frame_equal(
        replayed.drop(columns="digest"), trace.drop(columns="digest"), check_exact=True
    )


SCRIPT = """
import pickle, sys
from pathlib import Path
from refit.searches import tuner; from refit.run_directory import directory
if __name__ == "__main__":
    grid, spec = pickle.loads(bytes.fromhex(sys.stdin.read()))
    tuner.run(grid, spec, Path(sys.argv[1]))
"""


def test_a_killed_search_ends_as_an_undisturbed_one(grid, tmp_path):
    import pickle

    spec = make_spec(tuners=["bayesian"], trials=4)
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    folder = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, str(script), str(folder)],
        stdin=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        text=True,
    )
    process.stdin.write(pickle.dumps((grid, spec)).hex())
    process.stdin.close()
    end = time.monotonic() + 600  # where others take all cores, a start alone takes minutes
    while not trained(folder):
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = trained(folder)
    resumed = tuner.run(grid, spec, folder)
    assert finished.items() <= trained(folder).items()
    pd.testing.assert_frame_equal(resumed, tuner.run(grid, spec, tmp_path / "undisturbed"))


def test_a_failed_training_ends_the_search(make_tiny, tmp_path):
    broken = make_tiny(model={"name": "lenet", "options": {"activation": "no such"}})
    grid = tuner.Grid("tests", {"x": [1]}, {(1,): broken})
    with pytest.raises(TrialError, match="no such"):
        tuner.run(grid, make_spec(trials=1, initial_points=1), tmp_path)
    assert not (tmp_path / tuner.FOLDER).exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": "test_accuracy"}, "an accuracy with a curve"),
        ({"metric": "val_loss"}, "an accuracy with a curve"),
        ({"initial_points": 9}, "9 initial points for 3 trials"),
        ({"tuners": ["grid"]}, "random"),
        ({"tuners": []}, "at least 1"),
    ],
)
def test_a_wrong_search_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make_spec(**changes)
