"""Finished trials stand in a local MLflow store as they are, once each, and go nowhere else."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from refit import files
from refit.cli import main
from refit.run_directory import directory, events
from refit.study import Study

NAME = "fmnist_tuning"  # which has trials of the report and others
STARTED = "2026-05-04T10:00:00+00:00"
MILLISECONDS = 1_777_888_800_000
# Halves stay exact in event files. An epoch takes two seconds, the first one four.
LOSSES, ACCURACIES, SECONDS = [2.0, 1.5, 0.5], [0.25, 0.5, 0.75], [4.0, 2.0, 2.0]


@pytest.fixture
def study(tmp_path, monkeypatch):
    """An experiment without results, in a folder of its own."""
    monkeypatch.setenv("REFIT_RUNS", str(tmp_path / "runs"))
    return Study.open(NAME)


@pytest.fixture(scope="session")
def empty(tmp_path_factory):
    """An empty MLflow database, because making its tables takes seconds."""
    mlflow = pytest.importorskip("mlflow", reason="mlflow is optional; `make extras` installs it")
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    mlflow.MlflowClient(tracking_uri=f"sqlite:///{path}")
    return path


@pytest.fixture
def store(study, empty):
    """The default store, still empty, of the study's folder."""
    folder = study.runs.parents[1] / "mlflow"
    folder.mkdir(parents=True)
    shutil.copy(empty, folder)
    return folder


def leave(study, trial, losses=LOSSES, **metrics):
    """Leave behind what a training would: curves, result, files to copy and files not to copy."""
    folder = study.runs / trial.directory
    for group, extra in (("train", {"epoch_seconds": SECONDS}), ("validation", {})):
        writer = events.EventWriter(folder / group)
        curves = {"epoch_loss": losses, "epoch_accuracy": ACCURACIES} | extra
        for epoch in range(len(losses)):
            writer.scalars({tag: curve[epoch] for tag, curve in curves.items()}, epoch)
        writer.close()
    files.write_json(folder / "trial.json", trial.model_dump(mode="json"))
    files.write_json(folder / "failure.json", {"kind": "killed"})
    np.save(folder / directory.PREDICTIONS, np.zeros(60, np.uint8))
    for name in ("best.weights.h5", ".best.weights.h5", "network.keras", "checkpoint.npz", "lock"):
        (folder / name).write_bytes(b"weights")
    measured = {
        "train_accuracy": 0.75, "val_accuracy": 0.7, "train_loss": losses[-1], "val_loss": 0.5,
        "best_val_accuracy": 0.75, "epochs": len(losses), "diverged": False, "classes": 5,
        "seconds": 8.5, "total_seconds": 8.5, "seconds_per_epoch": 2.0, "total_params": 61706,
    }  # fmt: skip
    images = {"train_images": 160, "validation_images": 60, "test_images": 60}
    result = {
        "trial": trial.model_dump(mode="json"),
        "digest": trial.digest,
        "layers": [],
        "metrics": measured | metrics,
        "data": images
        | {"source": "digits", "stand_in": "pairs", "embedded": True, "classes": list("abcde")},
        "environment": {"git_revision": "0123abc", "keras": "3.12.4", "tensorflow": "2.21.0"}
        | {"processor": "a processor", "gpus": ["one", "two"], "cores": 2, "workers": None},
        "confusion_matrix": None,
        "started": STARTED,
    }
    files.write_json(folder / directory.RESULT, result)


def export(*arguments):
    """The command as a user gives it."""
    result = CliRunner().invoke(main, ["export", "mlflow", NAME, *map(str, arguments)])
    assert isinstance(result.exception, SystemExit | None), result.exception
    return result


def exported(*arguments):
    result = export(*arguments)
    assert result.exit_code == 0, result.output
    return result.output.strip()


def client(store):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{store / 'mlflow.db'}")


def runs_in(store):
    """The runs that people see, by the names of their trials."""
    reader = client(store)
    experiment = reader.get_experiment_by_name(f"refit/{NAME}/smoke")
    runs = [
        run for run in reader.search_runs([experiment.experiment_id]) if "trial" in run.data.tags
    ]
    named = {run.data.tags["trial"]: run for run in runs}
    assert len(named) == len(runs)
    return named


def stored_files(store, run, folder=None):
    for file in client(store).list_artifacts(run.info.run_id, folder):
        yield from stored_files(store, run, file.path) if file.is_dir else [file.path]


@pytest.fixture
def run(study, store):
    """The only finished trial of a study, written into the store."""
    leave(study, study.trials[0])
    count = len(study.trials)
    expected = f"{NAME} (smoke): {count} trials, 1 written, 0 there already, {count - 1} not done"
    assert exported() == expected
    (only,) = runs_in(store).values()
    return only


def test_run_is_the_trial(study, run):
    trial = study.trials[0]
    assert run.info.run_name == trial.directory.name
    assert run.info.status == "FINISHED"
    assert run.info.start_time == MILLISECONDS
    assert run.info.end_time == MILLISECONDS + 8500
    parameters = trial.hyper_parameters()
    assert run.data.params == {name: str(value) for name, value in parameters.items()}


def test_seeds_are_children_of_their_settings_and_verdicts_are_tags(study, store, run):
    first = study.trials[0]
    again = first.with_seed(first.seed + 1)
    leave(study, again)
    exported("--seeds", 2)
    reader = client(store)
    experiment = reader.get_experiment_by_name(f"refit/{NAME}/smoke")
    everything = reader.search_runs([experiment.experiment_id])
    (parent,) = [each for each in everything if "setting" in each.data.tags]
    assert parent.data.tags["setting"] == f"{first.sweep}/{first.name}"
    children = [each for each in everything if "trial" in each.data.tags]
    assert len(children) == 2
    assert {each.data.tags["mlflow.parentRunId"] for each in children} == {parent.info.run_id}
    verdicts = {
        claim.id: experiment.tags[f"verdict/{claim.id}"] for claim in study.declaration.claims
    }
    assert set(verdicts.values()) == {"not_judged"}, "smoke data decide nothing"


def test_metrics_are_those_of_the_result(study, run):
    stored = files.read_json(study.runs / study.trials[0].directory / directory.RESULT)["metrics"]
    found = {name: v for name, v in run.data.metrics.items() if not name.startswith("epoch/")}
    assert found == {name: value for name, value in stored.items() if name != "diverged"}


def test_curves_have_a_value_per_epoch_at_its_end(store, run):
    def history(name):
        points = client(store).get_metric_history(run.info.run_id, f"epoch/{name}")
        return [(point.step, point.timestamp - MILLISECONDS, point.value) for point in points]

    ends = [4000, 6000, 8000]
    for name, curve in (("val_loss", LOSSES), ("train_accuracy", ACCURACIES)):
        assert history(name) == list(zip([1, 2, 3], ends, curve, strict=True))
    assert [value for _, _, value in history("seconds_per_epoch")] == SECONDS


def test_tags_say_what_it_was_and_how_it_came_about(study, run):
    trial = study.trials[0]
    expected = {
        "digest": trial.digest, "sweep": trial.sweep, "trial": trial.name, "title": trial.title,
        "seed": str(trial.seed), "profile": "smoke", "data": "digits", "stand_in": "pairs",
        "git_revision": "0123abc", "keras": "3.12.4", "tensorflow": "2.21.0", "cores": "2",
        "processor": "a processor", "gpus": "one, two", "published": "True", "diverged": "False",
    }  # fmt: skip
    assert expected.items() <= run.data.tags.items()
    assert not {"workers", "not_finite", "note"} & set(run.data.tags)


def test_files_are_those_worth_keeping(study, store, run, tmp_path):
    found = sorted(stored_files(store, run))
    curves = [path for path in found if "tfevents" in path]
    assert [Path(path).parent.name for path in curves] == ["train", "validation"]
    assert sorted(set(found) - set(curves)) == [
        "best.weights.h5", "network.keras", "result.json", "test_predictions.npy", "trial.json",
    ]  # fmt: skip
    assert run.info.artifact_uri.startswith(store.as_uri())
    client(store).download_artifacts(run.info.run_id, "result.json", str(tmp_path))
    original = study.runs / study.trials[0].directory / "result.json"
    assert (tmp_path / "result.json").read_bytes() == original.read_bytes()


def test_what_is_not_finite_is_named_instead(study, store, monkeypatch):
    nan = float("nan")
    facts = {"diverged": True, "val_loss": nan, "seconds_to_target": float("inf")}
    # The log would draw its curve on to the tenth epoch.
    trial = study.trials[0].model_copy(update={"epochs": 10})
    monkeypatch.setattr(Study, "open", lambda *_, **__: replace(study, trials=[trial]))
    leave(study, trial, losses=[2.0, nan], **facts)
    exported()
    (run,) = runs_in(store).values()
    assert run.data.tags["diverged"] == "True"
    assert run.data.tags["not_finite"] == "train_loss, val_loss, seconds_to_target"
    assert not {"train_loss", "val_loss", "seconds_to_target"} & set(run.data.metrics)
    # The loss ends where it was last a number, the accuracy with the training.
    for name, epochs in (("train_loss", [1]), ("train_accuracy", [1, 2])):
        points = client(store).get_metric_history(run.info.run_id, f"epoch/{name}")
        assert [point.step for point in points] == epochs


def everything(store):
    """All that the store holds but the lock: rows of its tables, and files."""
    import sqlite3

    database = sqlite3.connect(store / "mlflow.db")
    rows = list(database.iterdump())
    database.close()
    return rows, sorted(store.rglob("*"))


def test_second_export_adds_nothing(study, store):
    for trial in study.trials:
        leave(study, trial)
    count = len(study.trials)
    assert exported() == f"{NAME} (smoke): {count} trials, {count} written, 0 there already"
    before = everything(store)
    assert exported() == f"{NAME} (smoke): {count} trials, 0 written, {count} there already"
    assert everything(store) == before
    assert len(runs_in(store)) == count


def test_twins_that_differ_in_name_only_are_a_run_each(study, store, monkeypatch):
    trial = study.trials[0]
    twins = [trial, trial.model_copy(update={"name": "twin"})]
    assert twins[0].digest == twins[1].digest
    monkeypatch.setattr(Study, "open", lambda *_, **__: replace(study, trials=twins))
    for twin in twins:
        leave(study, twin, val_accuracy=len(twin.name) / 100)
    assert exported().endswith("2 written, 0 there already")
    before = everything(store)
    assert exported().endswith("0 written, 2 there already")
    assert everything(store) == before


def test_half_written_run_is_written_again(study, store, run):
    writer = client(store)
    writer.update_run(run.info.run_id, status="RUNNING")
    assert ", 1 written, 0 there already" in exported()
    (new,) = runs_in(store).values()
    assert new.info.run_id != run.info.run_id
    assert (new.info.status, new.data.metrics) == ("FINISHED", run.data.metrics)


def test_run_of_an_older_result_is_replaced(study, store, run):
    leave(study, study.trials[0], val_accuracy=0.9)
    assert ", 1 written, 0 there already" in exported()
    (new,) = runs_in(store).values()
    assert new.data.metrics["val_accuracy"] == 0.9
    # Nothing is destroyed: MLflow's trash holds the older one.
    assert client(store).get_run(run.info.run_id).info.lifecycle_stage == "deleted"


def test_nothing_finished_is_an_error_that_says_what_to_do(study):
    result = export()
    assert result.exit_code == 1
    assert f"no trial of {NAME} in profile smoke is done yet" in result.stderr
    assert f"refit reproduce {NAME} --profile smoke" in result.stderr
    assert not (study.runs.parents[1] / "mlflow").exists()


@pytest.mark.parametrize("missing", ["mlflow", "alembic"])
def test_missing_package_is_named_with_what_installs_it(study, monkeypatch, missing):
    leave(study, study.trials[0])
    monkeypatch.setitem(sys.modules, missing, None)
    result = export()
    assert result.exit_code == 1
    assert result.stderr.startswith("refit: mlflow cannot be used (")
    assert "`make extras` installs what it needs" in result.stderr


@pytest.mark.parametrize(
    "name",
    [
        "http://127.0.0.1:5000", "HTTPS://example.org/store", "databricks", "sqlite:///elsewhere.db",
        "a?mode=memory", "a%2e%2e", "a\nb", "a\0b",
    ],
)  # fmt: skip
def test_store_is_never_an_address_nor_what_means_something_in_one(study, name):
    result = export("--store", name)
    assert result.exit_code == 1
    assert f"store: {name!r} is not a folder on this machine" in result.stderr


def test_files_stay_in_the_store_whatever_a_database_says(study, store, run, tmp_path):
    shutil.move(store, tmp_path / "moved")
    leave(study, study.trials[1])
    result = export("--store", tmp_path / "moved")
    assert result.exit_code == 1
    assert "was moved, or made elsewhere" in result.stderr
    assert not store.exists()


def test_nothing_leaves_the_machine(study, store, tmp_path):
    """In a process that MLflow cannot take for a test, with settings that name a server."""
    leave(study, study.trials[0])
    program = (
        "import sys\n"
        "names = ('socket.connect', 'socket.getaddrinfo', 'socket.sendto', 'urllib.Request')\n"
        "seen = []\n"
        "sys.addaudithook(lambda name, _: seen.append(name) if name in names else None)\n"
        "from refit.cli import main\n"
        f"main(['export', 'mlflow', '{NAME}'], standalone_mode=False)\n"
        "from mlflow.telemetry.client import get_telemetry_client\n"
        "import json; print(json.dumps([seen, get_telemetry_client() is None]))\n"
    )
    hidden = ("CI", "PYTEST_", "MLFLOW_", "DO_NOT_TRACK", "GITHUB_ACTIONS")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
    environment |= {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_RUN_ID": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, env=environment, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [[], True]
    assert len(runs_in(store)) == 1
