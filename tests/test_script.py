"""Scripts without refit: run where it cannot be imported, they train what the trial trained."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from refit import paths
from refit.cli import main
from refit.data.cache import folder_of
from refit.experiments.trial import Trial
from refit.pages import script
from refit.run_directory import log as run_log
from refit.running import runner
from refit.study import Study

# LeNet, the two convolutions, a perceptron after an untrained evaluation, the handwritten CNN, a
# network that is evaluated on its training images, decaying rates, and two phases of a transfer.
TRIALS = [
    ("fmnist_zoo", "lenet1"),
    ("fmnist_grid", "baseline"),
    ("cifar10", "mlp-3x32-lr0.05"),
    ("fmnist_tuning", "handwritten"),
    ("cifar10", "mlp-l2-0.1"),
    ("transfer", "transferred-125"),
]
# Runs scripts where refit is not, one after another, and tells of each its curves.
ALONE = """
import json, runpy, sys
sys.modules["refit"] = None
for arguments in json.loads(sys.argv[1]):
    sys.argv = arguments
    found = runpy.run_path(arguments[0])
    print("found", json.dumps([found["history"], found["accuracy"]]))
"""


def trained(experiment: str, name: str) -> tuple[Study, Trial]:
    study = Study.open(experiment)
    trial = study.trial(name)
    sources = [each for each in study.trials if str(each.directory) == trial.starts_from]
    runner.check(runner.run([*sources, trial], study.runs, workers=2, describe=False))
    return study, trial


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> list[tuple[Study, Trial, str, dict, float]]:
    """Of every trial what its script says, and the curves and test accuracy that it leads to."""
    folder = tmp_path_factory.mktemp("scripts")
    made, arguments = [], []
    for experiment, name in TRIALS:
        study, trial = trained(experiment, name)
        told = CliRunner().invoke(main, ["script", experiment, name], catch_exceptions=False).output
        file = folder / f"{name}.py"
        file.write_text(told, encoding="utf-8")
        given = []
        if trial.starts_from:
            weights = study.runs / trial.starts_from / "base.weights.h5"
            given = [str(folder_of(trial.data, paths.cache())), str(weights)]
            assert all(each in told for each in given), "the script says what it is to be given"
        made.append((study, trial, told))
        arguments.append([str(file), *given])
    command = [sys.executable, "-c", ALONE, json.dumps(arguments)]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    lines = [line[6:] for line in run.stdout.splitlines() if line.startswith("found ")]
    return [(*each, *json.loads(line)) for each, line in zip(made, lines, strict=True)]


@pytest.mark.parametrize("number", range(len(TRIALS)), ids=[name for _, name in TRIALS])
def test_script_trains_what_the_trial_trained(number, found):
    study, trial, told, history, accuracy = found[number]
    log = run_log.read([trial], study.runs)
    for ours, theirs in (("train", ""), ("val", "val_"), ("evaluated_train", "evaluated_")):
        for kind in ("accuracy", "loss"):
            if f"{theirs}{kind}" in history:
                curve = log.curves[f"{ours}_{kind}"].tolist()
                assert history[f"{theirs}{kind}"] == pytest.approx(curve, abs=1e-6)
    assert accuracy == pytest.approx(log.done["test_accuracy"].item(), abs=1e-6)
    assert script.training(trial) in told, "the page shows the middle of this very script"


def test_search_says_why_it_has_no_script():
    told = CliRunner().invoke(main, ["script", "fmnist_tuning", "autokeras"])
    assert told.exit_code == 1
    assert "which no plain script repeats" in told.stderr
