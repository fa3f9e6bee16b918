"""What a run will take: judged by finished trainings, without reading any data."""

import math
import re

import pytest
from click.testing import CliRunner

from refit import cli, files
from refit.data import sets
from refit.errors import DeclarationError
from refit.run_directory import directory
from refit.run_directory.directory import PROGRESS
from refit.running import machine, order, progress, runner

HOUR = 3600
TARGET = {"callbacks": [{"name": "stop_at_target", "target": 0.9}]}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The runs of an experiment, below those of all."""
    monkeypatch.setenv("REFIT_RUNS", str(tmp_path))
    monkeypatch.setattr(sets, "load", None)  # no data may be read
    return tmp_path / "full" / "experiment"


def finish(trial, folder, epochs, seconds=2.0, fixed=10.0, content="", **times) -> None:
    """Leave what a training of so many epochs would that took so many seconds each."""
    names = ("train_accuracy", "train_loss", "val_accuracy", "val_loss", "best_val_accuracy")
    metrics = dict.fromkeys(names, 0.5) | {"epochs": epochs, "diverged": False, "classes": 5}
    metrics |= {
        "seconds": seconds * epochs,
        "seconds_per_epoch": seconds,
    } | times
    images = {"train_images": 160, "validation_images": 60, "test_images": 60}
    result = {
        "trial": trial.model_dump(mode="json"),
        "digest": trial.digest,
        "metrics": metrics,
        "data": images
        | {
            "source": "",
            "stand_in": "",
            "embedded": True,
            "classes": [*"abcde"],
            "content": content,
        },
        "environment": {},
        "layers": [],
        "confusion_matrix": None,
        "started": "2026-01-01T00:00:00+00:00",
        "wall_seconds": fixed + seconds * epochs,
    }
    directory.write_result(folder / trial.directory, result)


def test_plan_counts_and_scales_what_is_known(make_tiny, folder):
    done = make_tiny(epochs=5)
    finish(done, folder, epochs=5)
    twice = make_tiny(seed=2, epochs=7, data=done.data.model_copy(update={"train_images": 320}))
    unlike = make_tiny(sweep="unlike", model={"name": "cnn"})
    unread = make_tiny(sweep="unread", data={"name": "cifar10", "fingerprint": "not there"})
    table = order.plan([done, twice, unlike, unread], folder, workers=2).set_index("sweep")
    assert table[["trials", "done", "to train"]].loc["tests"].tolist() == [2, 1, 1]
    assert table["hours"]["tests"] * HOUR == pytest.approx((7 * 2 * 2.0 + 10) / 2)
    assert table["hours"][["unlike", "unread"]].isna().all()


def test_trainings_that_may_stop_early_take_what_is_usual_in_their_sweep(make_tiny, folder):
    for seed, epochs in enumerate((3, 4, 9)):
        finish(make_tiny(**TARGET, seed=seed, epochs=50), folder, epochs, fixed=0.0)
    finish(make_tiny(**TARGET, epochs=50), folder.with_name("other"), 40, fixed=0.0)
    times = order.Times(folder)
    assert times.seconds(make_tiny(**TARGET, seed=7, epochs=50)) == pytest.approx(4 * 2.0)
    assert times.seconds(make_tiny(**TARGET, seed=7, epochs=2)) == pytest.approx(2 * 2.0)
    elsewhere = make_tiny(**TARGET, sweep="elsewhere", epochs=50)
    assert times.seconds(elsewhere) == pytest.approx(4 * 2.0), "as usual in the experiment"
    assert order.Times(folder.with_name("third")).seconds(elsewhere) == pytest.approx(50 * 2.0)
    assert times.seconds(make_tiny(seed=7, epochs=50)) == 50 * 2.0, "it cannot stop early"
    assert math.isnan(order.Times(folder).seconds(make_tiny(model={"name": "mlp"})))


def test_time_left_expects_no_more_epochs_than_are_usual(make_tiny, folder, monkeypatch):
    finish(make_tiny(**TARGET, epochs=50), folder, 4, fixed=0.0)
    running = make_tiny(**TARGET, seed=2, epochs=50)
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.0)
    clock = iter(range(1000, 2000, 60))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with progress.Progress(2, order.expected([running], folder), folder) as shown:
        files.write_json(folder / running.directory / PROGRESS, {"epoch": 2, "epochs": 50})
        shown.show([running])
    told = (folder / progress.LOG).read_text()
    assert re.search(r"tiny 2/50; about 02:00 left", told), "as long as the two before it"


def test_time_is_that_of_the_processor_because_trainings_of_record_ran_beside_others(
    make_tiny, folder
):
    finish(make_tiny(), folder, epochs=3, processor_seconds=0.5, train_seconds=2.0)
    assert order.Times(folder).seconds(make_tiny(seed=2)) == pytest.approx((3 * 2.0 + 10) / 4)


def test_unseen_sizes_and_unread_data_are_judged_by_what_is_known_of_others(make_tiny, folder):
    unread = {"name": "cifar10", "fingerprint": "not there"}
    finish(make_tiny(data=unread), folder, epochs=3, fixed=0.0)
    larger = make_tiny(sweep="larger", data=unread | {"image_size": 56}, epochs=5)
    table = order.plan([make_tiny(data=unread, seed=2), larger], folder, workers=1)
    assert (table["hours"] * HOUR).tolist() == pytest.approx([3 * 2.0, 4 * 5 * 2.0])
    assert table["by finished trainings"].tolist() == [
        "1 with the same settings",
        "1 with the same network on images of another size",
    ]


def test_plan_of_what_was_never_trained_here_rests_on_the_results_of_record(folder, monkeypatch):
    monkeypatch.setattr(runner, "run", None)
    found = CliRunner().invoke(cli.main, ["plan", "fmnist_grid", "--profile", "small"])
    assert found.exit_code == 0, found.output
    assert re.search(r"ordinary +\d+ +0 +\d+ +\d+\.\d\d +\d+ with the same", found.output)
    assert "to train, about" in found.output


def test_plan_goes_on_where_the_data_of_one_experiment_are_missing(folder, tmp_path):
    command = ["plan", "transfer", "fmnist_tuning", "--profile", "full", "--data-dir"]
    found = CliRunner().invoke(cli.main, [*command, str(tmp_path)])
    assert found.exit_code == 0, found.output
    assert re.search(r"mobilenet_v2 +\d+ +1 ", found.output), "by the results that are here"
    assert "fmnist_tuning, profile full" in found.output
    assert re.search(r"optimizers +24 +0 +24 .* [1-9]\d* ", found.output), "claims wait for it"
    command[4] = "small"
    found = CliRunner().invoke(cli.main, [*command, str(tmp_path)])
    assert found.exit_code == 0, found.output
    assert "transfer: left out. " in found.output


# --- what a job may use ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("granted", "cores"), [("1", 1), ("64", None), ("", None), ("0", None), ("2(x3)", None)]
)
def test_workers_are_as_many_as_the_cores_of_the_job(monkeypatch, granted, cores):
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    own = runner.check_workers(None)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", granted)
    assert runner.check_workers(None) == min(own, cores or own)


def test_workers_follow_the_affinity(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {3})
    assert runner.check_workers(None) == 1
    with pytest.raises(DeclarationError, match="give 1 to 8 for the 1 cores of this job"):
        runner.check_workers(9)


@pytest.mark.parametrize(
    ("visible", "found"), [(None, ["0", "1"]), ("2,GPU-5", ["2", "GPU-5"]), ("", [])]
)
def test_gpus_are_those_that_are_visible_or_that_the_driver_lists(
    tmp_path, monkeypatch, visible, found
):
    command = tmp_path / "nvidia-smi"
    command.write_text("#!/bin/sh\necho 'GPU 0: A100 (UUID: x)\n  MIG 1g\nGPU 1: A100'\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv(machine.VISIBLE_GPUS, raising=False)
    if visible is not None:
        monkeypatch.setenv(machine.VISIBLE_GPUS, visible)
    assert machine.local_gpus() == found
