"""Faults: nothing complete is lost, nothing half-written counts, and a sentence says what to do.

The expensive ones, for real and at random moments, are in `stress/`: `make stress`.
"""

import errno
import math
import multiprocessing
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections import Counter
from functools import partial
from multiprocessing import forkserver
from pathlib import Path
from unittest.mock import Mock

import click
import pandas as pd
import pytest
from click.testing import CliRunner

import fault_tools
from conftest import tiny
from refit import cli, files
from refit.errors import TrialError
from refit.run_directory import directory, events, failures
from refit.run_directory import log as run_log
from refit.run_directory.directory import (
    BATCHES,
    CHECKPOINT,
    PREDICTIONS,
    PROGRESS,
    RESULT,
    result_of,
    write_result,
)
from refit.running import pool, runner

TRIAL = tiny(epochs=2, keep_weights=True, **fault_tools.RECORDED)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A trial that was trained while its run could not tell of it."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "progress.log").symlink_to("/dev/full")
    (folder / PROGRESS).mkdir()
    runner.check(runner.run([TRIAL], folder, workers=1))
    return folder


def tables(trial, folder) -> dict[str, pd.DataFrame]:
    """Those of a copy, by the names of the original."""
    found = fault_tools.tables([trial], folder)
    labels = {"sweep": TRIAL.sweep, "title": TRIAL.title}
    return {
        name: frame.assign(**{key: value for key, value in labels.items() if key in frame})
        for name, frame in found.items()
    }


# --- damaged run directories -----------------------------------------------------------------


def test_a_damaged_result_never_counts_and_says_what_will_happen(finished, tmp_path):
    """Whatever file or folder is removed, cut, emptied, changed, replaced or unreadable."""
    run_dir = finished / TRIAL.directory
    copies = fault_tools.copies(TRIAL, run_dir, tmp_path, fault_tools.DAMAGES)
    whole = fault_tools.tables([TRIAL], finished)
    results = run_log.read(copies, tmp_path).results.set_index("title")
    for copy in copies:
        row = results.loc[copy.title]
        if row["status"] == "done":
            assert fault_tools.difference(tables(copy, tmp_path), whole) == ""
        elif row["status"] == "failed":
            assert "the next run trains this trial again" in row["reason"]
    # What tables are not made of may be lost; all else would be missed.
    spared = {
        title.partition(" ")[2]
        for title in results.index[results["status"] == "done"]
    }  # fmt: skip
    log = events.event_files(run_dir)[0].name
    assert spared == {log, "lock", "trial.json"}
    missing = set(results.index[results["status"] == "missing"])
    assert missing == {"replaced .", "removed .", f"removed {RESULT}"}


def test_damaged_results_are_trained_again_to_the_same_tables(finished, tmp_path):
    whole, run_dir = fault_tools.tables([TRIAL], finished), finished / TRIAL.directory
    damage = {
        RESULT: fault_tools.halved,
        "train": fault_tools.replaced,
        PREDICTIONS: fault_tools.replaced,
    }
    copies = []
    for target, change in damage.items():
        copy = TRIAL.model_copy(update={"sweep": f"sweep{len(copies)}"})
        shutil.copytree(run_dir, tmp_path / copy.directory)
        change(tmp_path / copy.directory / target)
        copies.append(copy)
    again, *blocked = copies
    summary = runner.run([again], tmp_path)
    assert (summary.trained, summary.failures) == (1, {})
    assert "trained again: " in summary.notes[TRIAL.directory.name]
    assert fault_tools.difference(tables(again, tmp_path), whole) == ""
    log = run_log.read([again], tmp_path)  # of the first attempt's curves nothing is left
    assert log.results["seconds"][0] == pytest.approx(log.curves["seconds_per_epoch"].sum(), 1e-5)
    # What lies in the way of a file stays there.
    for copy in blocked:
        failure = runner.run([copy], tmp_path).failures[TRIAL.directory.name]
        assert failure.startswith("storage: ")
        assert "move that away" in failure


def encrypted(path: Path) -> None:
    """Change one bit, which makes its members seem so."""
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)


def test_damaged_state_of_an_interrupted_training_costs_epochs_and_nothing_else(finished, tmp_path):
    whole = fault_tools.tables([TRIAL], finished)
    run_dir = fault_tools.interrupted(TRIAL, tmp_path / "interrupted", after=1)
    logged = finished / TRIAL.directory / "train"
    damage = [
        (CHECKPOINT, encrypted, 0),
        ("train", fault_tools.unreadable, 1),
        (BATCHES, shutil.rmtree, 0),
        # Epochs that were logged, and then lost with the checkpoint that had them.
        ("train", partial(shutil.copytree, logged, dirs_exist_ok=True), 1),
    ]
    copies = []
    for target, change, _ in damage:
        copy = TRIAL.model_copy(update={"sweep": f"sweep{len(copies)}"})
        shutil.copytree(run_dir, tmp_path / copy.directory)
        change(tmp_path / copy.directory / target)
        copies.append(copy)
    runner.check(runner.run(copies, tmp_path))
    for copy, (_, _, kept) in zip(copies, damage, strict=True):
        assert result_of(copy, tmp_path)["resumed_at_epoch"] == kept
        assert fault_tools.difference(tables(copy, tmp_path), whole) == ""
        log = run_log.read([copy], tmp_path)  # of no epoch two attempts are mixed
        seconds = log.curves["seconds_per_epoch"].sum()
        assert log.results["seconds"].tolist() == pytest.approx([seconds], 1e-5)
        hidden = [path.name for path in (tmp_path / copy.directory).glob(".*")]
        assert hidden == [], "what was half written is gone"


@pytest.mark.parametrize("content", ["[1]", '"text"', "7", '{"a": 1}', "[" * 100_000, "\x00"])
def test_files_that_are_not_what_they_should_be_are_as_good_as_missing(tmp_path, content):
    run_dir = tmp_path / TRIAL.directory
    run_dir.mkdir(parents=True)
    for name in (RESULT, PROGRESS, failures.FAILURE):
        (run_dir / name).write_text(content)
    row = run_log.read([TRIAL], tmp_path).results.iloc[0]
    assert (row["status"], row["reason"]) == (
        "failed",
        "damaged: result.json is missing, or not as it was written; the next run trains this "
        "trial again",
    )
    (run_dir / RESULT).unlink()
    assert run_log.read([TRIAL], tmp_path).results["status"].tolist() == ["missing"]
    failures.store(run_dir, "bug", "a reason", "")
    assert files.read_json(run_dir / failures.FAILURE)["kind"] == "bug"


def test_resume_check_of_500_finished_trials_takes_at_most_a_second(finished, tmp_path):
    """Of processor time, with curves of 100 epochs: the goal of an idle machine."""
    source = tmp_path / "source"
    values = {f"epoch_{name}": 0.5 for name in ("loss", "accuracy", "learning_rate", "seconds")}
    for group in ("train", "validation"):
        writer = events.EventWriter(source / group)
        for epoch in range(100):
            writer.scalars(values, epoch)
        writer.close()
    result = result_of(TRIAL, finished)
    trials = [tiny(seed=seed) for seed in range(500)]
    for trial in trials:
        run_dir = tmp_path / trial.directory
        shutil.copytree(source, run_dir)
        logged = [path for path in run_dir.rglob("*") if path.is_file()]
        named = {"files": files.identify(run_dir, logged)}
        write_result(run_dir, result | {"digest": trial.digest} | named)
    files._digest.cache_clear()  # as in a new process
    started, worked = time.perf_counter(), time.process_time()
    summary = runner.run(trials, tmp_path)
    worked = time.process_time() - worked
    print(f"500 finished: {time.perf_counter() - started:.2f} s, processor {worked:.2f} s")
    assert summary.done_before == 500
    assert worked < 1


# --- processes -------------------------------------------------------------------------------


def workers() -> list:
    return [one for one in multiprocessing.active_children() if one.name == pool.WORKER]


def wait_for(condition, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


@pytest.fixture
def interruptible():
    """Ctrl-C is ignored by what a shell has started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_second_ctrl_c_leaves_no_process_behind(tmp_path):
    endless = tiny(epochs=100_000)

    def interrupt() -> None:
        wait_for((tmp_path / endless.directory / CHECKPOINT).exists)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.02)

    def run_until_interrupted() -> None:
        try:
            runner.run([endless, TRIAL], tmp_path, workers=1)
        finally:
            thread.join()  # the second may come as late as here, and is not for pytest

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run_until_interrupted()
    wait_for(lambda: not workers(), 10)
    log = (tmp_path / "progress.log").read_text()
    assert log.endswith("0 of 2 trials done, interrupted; the next run goes on from here\n")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert (tmp_path / endless.directory / CHECKPOINT).exists()


def test_ctrl_c_on_the_command_line_says_what_stays(monkeypatch):
    @cli.main.command("pause")
    def pause() -> None:
        raise KeyboardInterrupt

    try:
        found = CliRunner().invoke(cli.main, ["pause"])
    finally:
        del cli.main.commands["pause"]
    assert found.exit_code == 130
    assert found.output == f"refit: {cli.INTERRUPTED}\n"


def test_a_full_disk_on_the_command_line_is_a_sentence():
    @click.command("write")
    def write() -> None:
        with Path("/dev/full").open("w") as file:
            file.write("something")

    cli.main.add_command(write)
    try:
        found = CliRunner().invoke(cli.main, ["write"])
    finally:
        del cli.main.commands["write"]
    assert found.exit_code == 1
    assert found.output.startswith("refit: storage: ")
    assert "the disk is full: free some space there" in found.output


@pytest.mark.parametrize(("gpus", "seen"), [(["3", "GPU-5"], {"3": 2, "GPU-5": 2}), (["3"], {})])
def test_each_call_sees_the_one_of_several_gpus_that_fewest_others_use(gpus, seen):
    ended: list = []
    with pool.TrainingPool(2, 60, fault_tools.PRELOAD, gpus) as found:
        for key in range(4):
            found.start(key, os.getenv, "CUDA_VISIBLE_DEVICES")
        wait_for(lambda: ended.extend(found.ended(0.1)) or len(ended) == 4)
    assert Counter(gpu for _, gpu in ended if gpu in gpus) == seen


def test_processes_that_cannot_be_started_are_told_of(monkeypatch):
    dead = Mock(side_effect=EOFError)
    monkeypatch.setattr(forkserver, "connect_to_new_process", dead)
    with (
        pytest.raises(TrialError, match=r"no process for a training can be .*training\.log"),
        pool.TrainingPool(1, 60, fault_tools.PRELOAD) as found,
    ):
        found.start("key", math.sqrt, 4)


def test_the_end_of_the_fork_server_costs_nothing():
    ended: list = []
    with pool.TrainingPool(2, 60, fault_tools.PRELOAD) as found:
        found.start("before", exec, "import time; time.sleep(1)")
        os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)
        found.start("after", os.getenv, pool.BACKEND)
        wait_for(lambda: ended.extend(found.ended(0.1)) or len(ended) == 2)
    assert sorted(ended) == [("after", "tensorflow"), ("before", None)]


def test_two_drivers_train_each_trial_once(finished, tmp_path):
    trials = [TRIAL, tiny(name="other")]
    other = fault_tools.drive(trials, tmp_path, workers=2)
    wait_for((tmp_path / "progress.log").exists)
    runner.check(runner.run(trials, tmp_path, workers=2))
    output = other.told(120)
    assert (other.returncode, fault_tools.FINISHED in output) == (0, True), output
    for trial in trials:
        assert len(events.event_files(tmp_path / trial.directory / "train")) == 1
    whole = fault_tools.tables([TRIAL], finished)
    assert fault_tools.difference(tables(TRIAL, tmp_path), whole) == ""


# --- what is said ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/a/b"), "storage", "disk is full: free"),
        (RuntimeError("HDF5 (errno = 28, error message ...)"), "storage", "disk is full: free"),
        (PermissionError(errno.EACCES, "Permission denied", "/a"), "storage", "the permissions"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "/a"), "storage", "move that away"),
        (OSError(errno.EIO, "Input/output error", "/a"), "storage", "/a"),
        (ZeroDivisionError("division"), "bug", "ZeroDivisionError: division"),
    ],
)
def test_failures_of_storage_say_what_to_do(error, kind, said):
    assert failures.kind_of(error) == kind
    assert said in failures.describe(error)


def test_a_full_disk_for_pages_is_not_blamed_on_the_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("REFIT_REPORTS", str(tmp_path / "reports"))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    for folder, variable in (("reports", "REFIT_REPORTS"), ("runs", "REFIT_RUNS")):
        said = rf"{folder}/a\.csv: No space left on device; the disk is full.* set {variable} "
        with pytest.raises(TrialError, match=said), failures.told():
            files.write_bytes(tmp_path / folder / "a.csv", b"1")


def test_files_are_as_readable_as_the_user_wants_also_where_no_mode_can_be_changed(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("os.chmod", None)
    before = os.umask(0o027)
    files.write_bytes(tmp_path / "file", b"1")
    os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def refuse_locks(*_: object) -> None:
    raise OSError(errno.ENOSYS, "Function not implemented")


def test_a_file_system_without_flock_has_another_lock(tmp_path, monkeypatch):
    monkeypatch.setattr("fcntl.flock", refuse_locks)
    with directory.held(tmp_path) as mine:
        code = (
            "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'w'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        )
        command = [sys.executable, "-c", code, str(tmp_path / directory.LOCK)]
        other = subprocess.run(command, capture_output=True, check=False)
    assert mine
    assert b"BlockingIOError" in other.stderr


def test_a_file_system_without_locks_is_told_before_anything_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr("fcntl.flock", refuse_locks)
    monkeypatch.setattr("fcntl.lockf", refuse_locks)
    with pytest.raises(TrialError, match=r"lock: this file system has no locks.* let REFIT_RUNS"):
        runner.run([TRIAL], tmp_path, workers=1)
    assert not list(tmp_path.rglob("trial.json"))


def test_a_long_folder_for_temporary_files_stops_no_training(tmp_path):
    long = tmp_path / ("x" * 90)
    long.mkdir()
    found = fault_tools.drive([TRIAL], tmp_path / "runs", {"TMPDIR": str(long)}, workers=1)
    assert "1 trained" in found.told(240)


def test_a_log_that_cannot_be_written_stops_no_training(finished):
    assert result_of(TRIAL, finished) is not None
    assert (finished / "progress.log").is_symlink()


def test_a_folder_that_cannot_be_made_is_named():
    with pytest.raises(TrialError, match=r"storage: /dev/null/runs.*move that away"):
        runner.run([TRIAL], Path("/dev/null/runs"), workers=1)
