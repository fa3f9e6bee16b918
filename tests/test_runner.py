"""The runner: what is done stays done, what fails says why, and TensorBoard sees every trial."""

import functools
import io
import json
import os
import shutil
import signal
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from PIL import Image

from refit import files
from refit.data import sets
from refit.data.spec import DataSpec
from refit.errors import DataError, DeclarationError, ReportError, TrialError
from refit.run_directory import directory, events, failures
from refit.run_directory import log as run_log
from refit.run_directory.directory import RESULT, result_of
from refit.running import runner

ENDLESS = 5000


@pytest.fixture(scope="module")
def four(tmp_path_factory, request):
    """Four short trainings that several tests look at."""
    make = request.getfixturevalue("make_tiny")
    folder = tmp_path_factory.mktemp("four")
    trials = [make(name=f"lenet{seed}", seed=seed, epochs=2) for seed in (1, 2)]
    trials += [
        make(name="wide", model={"name": "lenet_wide"}, epochs=2),
        make(name="sgd", optimizer={"name": "sgd", "learning_rate": 0.01}, epochs=2),
    ]
    summary = runner.run(trials, folder, workers=2)
    return trials, folder, summary


def test_all_trials_are_trained_and_told(four):
    trials, folder, summary = four
    assert (summary.total, summary.trained, summary.failures) == (4, 4, {})
    assert str(summary) == "4 trials: 0 done before, 4 trained"
    log = (folder / "progress.log").read_text()
    assert all(trial.directory.name in log for trial in trials)
    assert "4 of 4 trials done, finished" in log


def test_second_run_trains_nothing_and_touches_nothing(four):
    trials, folder, _ = four
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    started = time.monotonic()
    summary = runner.run(trials, folder)
    assert (summary.done_before, summary.trained) == (4, 0)
    assert time.monotonic() - started < 1
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_results_of_other_trials_and_garbage_do_not_count(four, tmp_path):
    trials, folder, _ = four
    good = (folder / trials[0].directory / RESULT).read_text()
    for content in ("", "{", "[]", "null", json.dumps({"digest": "another", "metrics": {}})):
        path = tmp_path / trials[0].directory / RESULT
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        assert directory.result_of(trials[0], tmp_path) is None
    path.write_text(good)
    assert directory.result_of(trials[0], tmp_path) is None  # the files that it names are not there
    shutil.copytree(folder / trials[0].directory, path.parent, dirs_exist_ok=True)
    assert directory.result_of(trials[0], tmp_path) is not None


def test_events_hold_the_curves(four):
    trials, folder, _ = four
    for trial in trials:
        train = events.read_scalars(folder / trial.directory / "train")
        assert set(train["epoch_loss"]) == {0, 1}
        result = directory.result_of(trial, folder)
        assert train["epoch_loss"][1] == pytest.approx(result["metrics"]["train_loss"])


def test_settings_are_those_in_which_the_trials_of_a_sweep_differ(four, make_tiny):
    trials, folder, _ = four
    late = make_tiny(name="late", model={"name": "lenet", "options": {"activation": "relu"}})
    elsewhere = make_tiny(name="elsewhere", sweep="other", batch_size=8)
    log = run_log.read([*trials, late, elsewhere], folder)
    settings = log.settings("tests")
    assert settings.index.tolist() == ["lenet1", "lenet2", "wide", "sgd", "late"]
    columns = {"model", "model.activation", "optimizer", "optimizer.learning_rate"}
    assert set(settings) == columns, "neither a seed nor what all have in common"
    assert settings.loc["sgd", ["model", "optimizer"]].tolist() == ["lenet", "sgd"]
    assert settings["optimizer.learning_rate"].tolist() == [0.001] * 3 + [0.01, 0.001]
    assert settings["model.activation"].dropna().to_dict() == {"late": "relu"}
    for sweep, names in (("other", ["elsewhere"]), ("nowhere", [])):
        assert log.settings(sweep).index.tolist() == names
        assert log.settings(sweep).columns.empty, "one trial does not differ"


def test_tables_survive_storage(make_tiny, tmp_path):
    """Those of a training that never reached its target, and of one that is not done."""
    target = make_tiny(epochs=1, callbacks=[{"name": "stop_at_target", "target": 1}])
    runner.check(runner.run([target], tmp_path))
    log = run_log.read([target, make_tiny(name="missing")], tmp_path)
    log.save(tmp_path)
    stored = run_log.read_csv(tmp_path)
    for name in ("results", "curves", "confusions"):
        kept = getattr(stored, name).fillna({"reason": ""})
        pd.testing.assert_frame_equal(kept, getattr(log, name), check_dtype=False, check_exact=True)
    assert log.confusions["count"].sum() == 60
    assert stored.measure("tiny", "seconds_to_target").tolist() == [np.inf]


def test_confusions_are_the_cells_of_the_matrix_that_occur(four):
    trials, folder, _ = four
    log = run_log.read(trials, folder)
    assert set(log.confusions["trial"]) == {trial.name for trial in trials}
    for trial in trials:
        result = directory.result_of(trial, folder)
        matrix, names = result["confusion_matrix"], result["data"]["classes"]
        rows = log.confusions[log.confusions["trial"] == trial.name]
        assert (rows["count"] > 0).all()
        assert set(rows["seed"]) == {trial.seed}
        cells = rows.pivot(index="true", columns="predicted", values="count")
        cells = cells.reindex(index=names, columns=names).fillna(0)
        np.testing.assert_array_equal(cells, matrix)


def test_tables_without_one_of_them_are_no_log(four, tmp_path):
    trials, folder, _ = four
    run_log.read(trials, folder).save(tmp_path)
    (tmp_path / run_log.CONFUSIONS_FILE).unlink()
    with pytest.raises(ReportError, match=r"confusions\.csv: cannot be read"):
        run_log.read_csv(tmp_path)


def stored(trial, folder, train, val, accuracy=None, best=0.5, classes=5):
    """Leave behind what a training with these losses would; halves stay exact in event files."""
    accuracy = accuracy or [0.5] * len(val)
    for group, losses in (("train", train), ("validation", val)):
        writer = events.EventWriter(folder / trial.directory / group)
        for epoch, values in enumerate(zip(losses, accuracy, strict=True)):
            writer.scalars(dict(zip(("epoch_loss", "epoch_accuracy"), values, strict=True)), epoch)
        writer.close()
    metrics = {
        "train_accuracy": 0.5, "val_accuracy": 0.5, "seconds_per_epoch": 1.0, "classes": classes,
        "train_loss": train[-1], "val_loss": val[-1], "epochs": len(val),
        "best_val_accuracy": best, "seconds": float(len(val)),
        "diverged": not np.isfinite(train[-1]),
    }  # fmt: skip
    facts = {
        "train_images": 160,
        "stand_in": "",
        "embedded": True,
        "classes": list("abcde"[:classes]),
    }
    facts |= {"source": "", "validation_images": 60, "test_images": 60}
    result = {
        "trial": {},
        "digest": trial.digest,
        "metrics": metrics,
        "data": facts,
        "environment": {},
    }
    result |= {"confusion_matrix": None, "layers": [], "started": "2026-01-01T00:00:00Z"}
    files.write_json(folder / trial.directory / RESULT, result)


OF_CURVES = (
    "min_train_loss", "train_loss_at_min_val_loss", "train_loss_rise", "val_loss_rise",
    "largest_train_loss_rise", "loss_gap",
)  # fmt: skip
NONE = np.nan  # a difference of two infinite numbers, which measures nothing


@pytest.mark.parametrize(
    ("train", "val", "expected"),
    [
        ([4, 2, 1], [4, 3, 2.5], (1, 1, 0, 0, -1, 1.5)),
        ([4, 2, 1, 0.5], [4, 1.5, 2, 3], (0.5, 2, 0, 1.5, -0.5, 2.5)),
        ([3, 1, 2.5, 2], [2, 2.5, 1, 1.5], (1, 2.5, 1, 0.5, 1.5, -0.5)),
        # The first of two equal minima.
        ([3, 2, 1], [2, 1, 1], (1, 2, 0, 0, -1, 0)),
        ([2], [3], (2, 2, 0, 0, 0, 1)),
        ([2, 1, np.nan], [3, 2, np.nan], (1, 1, np.inf, np.inf, np.inf, NONE)),
        ([2, np.inf], [3, np.inf], (2, 2, np.inf, np.inf, np.inf, NONE)),
        ([2, 1.5, np.nan], [3, 2, 4], (1.5, 1.5, np.inf, 2, np.inf, -np.inf)),
        ([2, 1, 0.5], [3, np.nan, np.inf], (0.5, 2, 0, np.inf, -0.5, np.inf)),
        ([np.nan], [np.nan], (np.inf, np.inf, NONE, NONE, NONE, NONE)),
    ],
)  # fmt: skip
def test_curves_give_the_metrics_of_their_shape(make_tiny, tmp_path, train, val, expected):
    trial = make_tiny(epochs=4)
    stored(trial, tmp_path, train, val)
    log = run_log.read([trial], tmp_path)
    assert log.results[list(OF_CURVES)].iloc[0].tolist() == pytest.approx(expected, nan_ok=True)
    for name, value in zip(OF_CURVES, expected, strict=True):
        assert log.measure("tiny", name).tolist() == ([] if np.isnan(value) else [value])
    log.save(tmp_path)
    kept = run_log.read_csv(tmp_path)
    pd.testing.assert_frame_equal(
        kept.results[list(OF_CURVES)], log.results[list(OF_CURVES)], check_dtype=False
    )


@pytest.mark.parametrize(
    ("val", "accuracy", "lag", "beyond"),
    [
        ([4, 2, 1], [0.25, 0.5, 0.75], 0, 0),
        # The loss doubles after its best epoch, while the accuracy rises, or loses a quarter.
        ([4, 1, 2], [0.25, 0.5, 0.75], 1, 1),
        ([4, 1, 2], [1, 0.5, 0.75], -1, 0.75),
        ([4, 1, 1], [1, 0.5, 0.75], -1, -0.25),
        ([4, 1, np.nan], [0.5, 0.75, 0.25], 0, np.inf),
        ([4, 2, 1], [0, 0, 0], -2, 0),
    ],
)
def test_accuracy_can_lag_behind_the_loss_and_lose_less(
    make_tiny, tmp_path, val, accuracy, lag, beyond
):
    stored(make_tiny(), tmp_path, [3, 2, 1], val, accuracy)
    log = run_log.read([make_tiny()], tmp_path)
    assert log.measure("tiny", "accuracy_lag").tolist() == [lag]
    assert log.measure("tiny", "loss_rise_beyond_accuracy_fall").tolist() == [beyond]


@pytest.mark.parametrize(
    ("classes", "best", "learned"),
    [(5, 0.2, 0), (5, 0.4, 0), (5, 0.41, 1), (5, 1.0, 1), (2, 0.75, 0), (2, 0.76, 1), (2, 1.0, 1)],
)
def test_learned_is_more_than_twice_guessing(make_tiny, tmp_path, classes, best, learned):
    """Of two classes, where twice would be more than there is, half way from guessing to that."""
    stored(make_tiny(), tmp_path, [1, 1, 1], [1, 1, 1], best=best, classes=classes)
    log = run_log.read([make_tiny(), make_tiny(name="missing")], tmp_path)
    assert log.measure("tiny", "learned").tolist() == [learned]
    assert log.measure("missing", "learned").empty


def test_metrics_of_the_curves_are_those_of_a_training(four):
    trials, folder, _ = four
    log = run_log.read(trials, folder)
    for trial in trials:
        curve = log.curves[log.curves["trial"] == trial.name].set_index("epoch")
        train, val = curve["train_loss"], curve["val_loss"]
        row = log.done.set_index("trial").loc[trial.name]
        assert row["min_train_loss"] == train.min()
        assert row["train_loss_at_min_val_loss"] == train[row["min_val_loss_epoch"]]
        assert row["loss_gap"] == val.iloc[-1] - train.iloc[-1]
        assert row["largest_train_loss_rise"] == train.iloc[1] - train.iloc[0]


def test_truncated_event_file_is_read_up_to_the_cut(four, tmp_path):
    trials, folder, _ = four
    source = next((folder / trials[0].directory / "train").glob("events*"))
    content = source.read_bytes()
    (tmp_path / source.name).write_bytes(content[:-10])
    assert set(events.read_scalars(tmp_path)["epoch_loss"]) == {0}


def test_trial_over_its_time_is_ended_and_others_go_on(four, tmp_path):
    hanging, short = four[0][:2]
    summary = runner.run(
        [hanging, short], tmp_path, 2, time_limit=10, data_dir=four[1], train="hanging:train"
    )
    assert summary.trained == 1
    failure = json.loads((tmp_path / hanging.directory / failures.FAILURE).read_text())
    assert failure["kind"] == "timed out"
    assert "10 s" in failure["reason"]
    with pytest.raises(TrialError, match="timed out"):
        runner.check(summary)
    results = run_log.read([hanging, short], tmp_path).results
    assert results["status"].tolist() == ["failed", "done"]
    assert "timed out" in results["reason"].iloc[0]


def test_killed_child_costs_one_trial_and_is_tried_again(make_tiny, tmp_path):
    trial, other = make_tiny(epochs=ENDLESS), make_tiny(epochs=1, seed=3)
    progress = tmp_path / trial.directory / "progress.json"

    def kill() -> None:
        while not progress.exists():
            time.sleep(0.05)
        for process in psutil.Process(os.getpid()).children(recursive=True):
            files = [file.path for file in process.open_files()]
            if str(tmp_path / trial.directory / "lock") in files:
                process.send_signal(signal.SIGKILL)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    summary = runner.run([trial, other], tmp_path, workers=2)
    thread.join()
    assert summary.trained == 1
    failure = json.loads((tmp_path / trial.directory / failures.FAILURE).read_text())
    assert failure["kind"] == "killed"
    assert "SIGKILL" in failure["reason"]
    again = runner.run([trial, other], tmp_path, workers=1, time_limit=2)
    assert list(again.failures) == [trial.directory.name]
    failure = json.loads((tmp_path / trial.directory / failures.FAILURE).read_text())
    assert failure["kind"] == "timed out"


def test_wrong_option_is_told_as_such_and_tried_once_by_a_command(make_tiny, tmp_path, monkeypatch):
    trial = make_tiny(model={"name": "lenet", "options": {"widht": 3}})
    monkeypatch.setenv(failures.SINCE, datetime.now(UTC).isoformat())
    summary = runner.run([trial], tmp_path, workers=1)
    assert "bad declaration" in summary.failures[trial.directory.name]
    assert "widht" in summary.failures[trial.directory.name]
    with monkeypatch.context() as patch:
        patch.setattr(runner, "TrainingPool", None)  # nothing may be started
        assert runner.run([trial], tmp_path, workers=1) == summary
        patch.setenv(failures.SINCE, datetime.now(UTC).isoformat())
        with pytest.raises(TypeError):
            runner.run([trial], tmp_path, workers=1)


def test_a_terminal_shows_a_bar_at_once_and_no_lines(make_tiny, tmp_path, monkeypatch, capsys):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    runner.run([make_tiny(epochs=1)], tmp_path, workers=1)
    shown = terminal.getvalue()
    assert shown.index("loading Keras") < shown.index("1/1") < shown.index("finished")
    assert not capsys.readouterr().out


def test_missing_data_stop_the_run_before_anything_is_trained(make_tiny, tmp_path):
    data = {"name": "fashion_mnist_course", "fingerprint": "of files that are not there"}
    with pytest.raises(DataError, match=r"train\.csv"):
        runner.run([make_tiny(data=data)], tmp_path, workers=1)
    assert not list(tmp_path.rglob("trial.json"))


def test_data_that_are_too_few_fail_their_trial_and_no_other(make_tiny, tmp_path):
    greedy = make_tiny(
        name="greedy",
        data={"name": "digits", "train_images": 9000, "fingerprint": "sklearn-digits"},
    )
    modest = make_tiny(name="modest", epochs=1)
    summary = runner.run([greedy, modest], tmp_path, workers=1)
    assert summary.trained == 1
    assert list(summary.failures) == [greedy.directory.name]
    assert summary.failures[greedy.directory.name].startswith("bad data: data.train_images: 9000")
    row = run_log.read([greedy], tmp_path).results.iloc[0]
    assert row["status"] == "failed"
    assert "9000 images are asked for" in row["reason"]


def test_data_that_changed_under_finished_trials_are_told(make_tiny, tmp_path):
    def shades(**grey: int) -> None:
        for name in grey:
            (tmp_path / "photographs" / name).mkdir(parents=True, exist_ok=True)
            for number in range(10):
                image = Image.new("RGB", (32, 32), (grey[name] + number,) * 3)
                image.save(tmp_path / "photographs" / name / f"{number}.bmp")

    shades(dark=10, light=200)
    spec = DataSpec(name="photographs", image_size=28, validation="test")
    trial = make_tiny(data=sets.resolve(spec, tmp_path), epochs=1)
    train = functools.partial(runner.run, [trial], tmp_path, workers=1, data_dir=tmp_path)
    assert not train().notes
    content = result_of(trial, tmp_path)["data"]["content"]
    assert content[:12] in run_log.provenance([trial], tmp_path)["value"].tolist()
    assert str(train()) == "1 trials: 1 done before, 0 trained"
    shades(dark=200, light=10)
    for _ in range(2):
        told = train()
        assert told.trained == 0
        assert told.notes["photographs"].startswith("1 finished trials were made from files of the")


@pytest.mark.parametrize("workers", [0, -1, 10_000])
def test_impossible_number_of_workers_is_refused(make_tiny, tmp_path, workers):
    with pytest.raises(DeclarationError, match=f"workers is {workers}; give 1 to"):
        runner.run([make_tiny()], tmp_path, workers=workers)


def test_reasons_on_a_page_do_not_tell_whose_machine_it_was(make_tiny, tmp_path):
    trial = make_tiny()
    reason = f"{Path.home() / '.keras' / 'models'} cannot be written"
    failures.store(tmp_path / trial.directory, "storage", reason, "")
    row = run_log.read([trial], tmp_path).results.iloc[0]
    assert (row["status"], row["reason"]) == (
        "failed", "storage: ~/.keras/models cannot be written"
    )  # fmt: skip
