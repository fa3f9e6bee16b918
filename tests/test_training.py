"""Trainings: the same trial gives the same curve, whatever interrupts it or runs beside it."""

import fcntl
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from refit import runlog, runner
from refit.storage import RESULT

DROPOUT_AND_PLATEAU = {
    "model": {"name": "cnn", "options": {"batch_normalization": True}},
    "optimizer": {
        "name": "sgd", "learning_rate": 0.01, "momentum": 0.9, "nesterov": True, "decay": 1e-6,
    },
    "callbacks": [
        {"name": "reduce_lr_on_plateau", "factor": 0.5, "patience": 1, "min_lr": 1e-5}
    ],
}  # fmt: skip


def losses(trial, folder: Path) -> list[float]:
    curves = runlog.read([trial], folder).curves
    assert curves["epoch"].tolist() == list(range(1, trial.epochs + 1))
    return curves[["train_loss", "val_loss", "train_accuracy", "val_accuracy"]].values.tolist()


def test_same_trial_gives_the_same_curve_alone_and_beside_others(make_tiny, tmp_path):
    trial = make_tiny(**DROPOUT_AND_PLATEAU)
    others = [make_tiny(seed=seed) for seed in (1, 2)]
    runner.check(runner.run([trial], tmp_path / "alone", workers=1))
    runner.check(runner.run([trial, *others], tmp_path / "beside", workers=2))
    assert losses(trial, tmp_path / "alone") == losses(trial, tmp_path / "beside")


def test_training_killed_in_the_middle_of_an_epoch_resumes_exactly(make_tiny, tmp_path):
    trial = make_tiny(**DROPOUT_AND_PLATEAU, epochs=8)
    runner.check(runner.run([trial], tmp_path / "whole", workers=1))

    run_dir = tmp_path / "killed" / trial.directory
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, trial.model_dump_json(), str(tmp_path / "killed")],
    )
    wait_for(lambda: epochs_done(run_dir) in range(2, 7))
    time.sleep(0.05)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    wait_for(lambda: lock_is_free(run_dir), seconds=20)  # the orphan noticed and stopped
    assert not (run_dir / RESULT).exists()
    runner.check(runner.run([trial], tmp_path / "killed", workers=1))
    result = json.loads((run_dir / RESULT).read_text())
    assert result["resumed_at_epoch"] >= 2
    assert losses(trial, tmp_path / "killed") == losses(trial, tmp_path / "whole")


DRIVER = """
import sys
from pathlib import Path
from refit import runner
from refit.experiment import Trial
if __name__ == "__main__":
    runner.run([Trial.model_validate_json(sys.argv[1])], Path(sys.argv[2]), workers=1)
"""


def epochs_done(run_dir: Path) -> int:
    try:
        return json.loads((run_dir / "progress.json").read_text())["epoch"]
    except (OSError, ValueError):
        return 0


def lock_is_free(run_dir: Path) -> bool:
    with (run_dir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def wait_for(condition, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def test_result_describes_the_training(make_tiny, tmp_path):
    trial = make_tiny()
    runner.check(runner.run([trial], tmp_path, workers=1))
    result = runner.result_of(trial, tmp_path)
    assert result["metrics"]["total_params"] == 245_601
    assert result["environment"]["intra_op_threads"] == 1
    assert result["environment"]["workers"] == 1
    assert np.sum(result["confusion_matrix"]) == 60
    correct = np.trace(result["confusion_matrix"])
    assert result["metrics"]["test_accuracy"] == pytest.approx(correct / 60)
    curves = runlog.read([trial], tmp_path).curves
    assert result["metrics"]["val_loss"] == pytest.approx(curves["val_loss"].iloc[-1])
    assert result["metrics"]["seconds"] == pytest.approx(curves["seconds_per_epoch"].sum())
    leftovers = {path.name for path in (tmp_path / trial.directory).iterdir()}
    assert not leftovers & {"checkpoint.npz", "progress.json"}


def test_weight_penalty_is_told_apart_from_cross_entropy(make_tiny, tmp_path):
    resnet = make_tiny(model={"name": "resnet", "options": {"max_pool": True}}, epochs=1)
    runner.check(runner.run([resnet], tmp_path, workers=1))
    row = runlog.read([resnet], tmp_path).curves.iloc[0]
    assert row["train_loss"] > row["train_cross_entropy"] + 0.1
    assert row["val_loss"] > row["val_cross_entropy"] + 0.1


def test_divergence_is_a_result(make_tiny, tmp_path):
    wild = make_tiny(optimizer={"name": "sgd", "learning_rate": 1e20}, model={"name": "lenet_wide"})
    runner.check(runner.run([wild], tmp_path, workers=1))
    log = runlog.read([wild], tmp_path)
    assert bool(log.done["diverged"].iloc[0])
    assert log.summary()["diverged"].iloc[0] == 1


def test_plateau_halves_the_rate_and_decay_acts_on_top(make_tiny, tmp_path):
    """With an accuracy that cannot rise, the rate halves every `patience` epochs."""
    trial = make_tiny(
        **{**DROPOUT_AND_PLATEAU, "optimizer": {"name": "sgd", "learning_rate": 1e-9}}, epochs=4
    )
    runner.check(runner.run([trial], tmp_path, workers=1))
    rates = runlog.read([trial], tmp_path).curves["learning_rate"].tolist()
    assert rates == pytest.approx([1e-9] * 4)  # already below min_lr: never reduced

    reduced = make_tiny(
        callbacks=[{"name": "reduce_lr_on_plateau", "factor": 0.5, "patience": 1}],
        optimizer={"name": "sgd", "learning_rate": 1e-7},
        epochs=4,
    )
    runner.check(runner.run([reduced], tmp_path, workers=1))
    rates = runlog.read([reduced], tmp_path).curves["learning_rate"].tolist()
    assert rates == pytest.approx([1e-7, 1e-7, 5e-8, 2.5e-8])
