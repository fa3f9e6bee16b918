"""Several machines: two Ray nodes on this one, of which one dies while it trains."""

import importlib.util
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import psutil
import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.hparams import metadata

from refit.errors import DeclarationError, UnavailableError
from refit.files import read_json
from refit.run_directory import directory
from refit.run_directory import log as run_log
from refit.run_directory.directory import PROGRESS
from refit.running import ray_pool, runner

# Where all cores are taken by others, starting a node alone takes minutes.
PATIENCE = 600
EPOCHS = 60
PRELOAD = ["refit.running.runner"]


class Node:
    """A machine of its own, as far as Ray can tell: an address, a folder, and a session."""

    def __init__(self, address: str, folder: Path, *options: str) -> None:
        self.log = folder.parent / f"{address}.log"
        command = [Path(sys.executable).parent / "ray", "start", "--block", "--num-cpus=1"]
        command += [f"--node-ip-address={address}", "--object-store-memory=80000000"]
        command += [f"--temp-dir={folder}", *options]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )

    def started(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return "Ray runtime started" in self.log.read_text()

    def has(self, process: int) -> bool:
        try:
            return os.getsid(process) == self.process.pid and runs(process)
        except ProcessLookupError:
            return False

    def processes(self) -> list[int]:
        return [number for number in psutil.pids() if self.has(number)]

    def trains(self) -> bool:
        """Whether one of its processes is a training, or the server that such are forked from."""
        for number in self.processes():
            try:
                if any("refit.training.fit" in part for part in psutil.Process(number).cmdline()):
                    return True
            except psutil.NoSuchProcess:
                continue
        return False

    def die(self) -> None:
        """End all of its processes at once, as when the power fails."""
        while found := self.processes():
            for number in found:
                try:
                    os.kill(number, signal.SIGKILL)
                except ProcessLookupError:
                    continue


def runs(process: int) -> bool:
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(condition, seconds: float = PATIENCE) -> None:
    latest = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < latest, "waited in vain"
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def cluster():
    """The head, which has a GPU by its own account, and a second node."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("ray is optional; `make extras` installs it")
    if " " in sys.prefix:
        pytest.skip("Ray starts no node by a Python whose path has a blank")
    # Ray puts sockets there, whose paths must be short.
    folder = Path(tempfile.mkdtemp(prefix="r-", dir="/tmp"))
    address = f"127.0.0.2:{free_port()}"
    nodes: list[Node] = []
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_ADDRESS", address)
        # The ports are open to the network; only who knows the word may use them.
        environment.setenv("RAY_AUTH_MODE", "token")
        environment.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        environment.setenv("RAY_worker_niceness", "0")
        environment.setenv("RAY_health_check_period_ms", "500")
        environment.setenv(ray_pool.GPUS_PER_TRIAL, "0")
        try:
            client = f"--ray-client-server-port={free_port()}"
            head = [f"--port={address.partition(':')[2]}", "--include-dashboard=false", client]
            head += ["--head", "--num-gpus=1", "--disable-usage-stats"]
            nodes.append(Node("127.0.0.2", folder / "a", *head))
            wait_until(nodes[0].started)
            nodes.append(Node("127.0.0.3", folder / "b", f"--address={address}", "--num-gpus=0"))
            wait_until(nodes[1].started)
            # A driver goes to the node of its own machine; here both have written down theirs.
            (own,) = folder.glob("a/session_2*/node_ip_address.json")
            own.write_text(json.dumps({"node_ip_address": "127.0.0.2"}))
            yield nodes
        finally:
            for node in nodes:
                node.die()
                node.process.wait()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def trials(make_tiny):
    """Two long ones, and one that starts from another's weights."""
    first = make_tiny(name="first", keep_weights=True)
    start = {"trial": "first", "run": str(first.directory)}
    return [
        *(make_tiny(name=f"long{seed}", seed=seed, epochs=EPOCHS) for seed in (1, 2)),
        first,
        make_tiny(name="second", carried_over=start),
    ]


def trainer(run_dir: Path) -> int:
    """The process that last wrote events of the training curves of a trial, or 0."""
    found = sorted((run_dir / "train").glob("events*"))
    return int(found[-1].name.split(".")[-2]) if found else 0


def epochs_done(run_dir: Path) -> int:
    return (read_json(run_dir / PROGRESS) or {}).get("epoch", 0)


DRIVER = """
import json, sys
from pathlib import Path
from refit.running import runner
from refit.experiments.trial import Trial

if __name__ == "__main__":
    trials = [Trial.model_validate(trial) for trial in json.loads(sys.argv[1])]
    runner.run(trials, Path(sys.argv[2]), executor="ray")
"""


@pytest.fixture(scope="module")
def two_deaths(cluster, trials, tmp_path_factory):
    """A run whose driver dies and, when it was begun again, one of its nodes too."""
    folder = tmp_path_factory.mktemp("shared")
    plain = json.dumps([trial.model_dump(mode="json") for trial in trials[:2]])
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, plain, str(folder)])
    long = [folder / trial.directory for trial in trials[:2]]
    try:
        wait_until(lambda: driver.poll() is not None or any(map(epochs_done, long)))
        assert driver.poll() is None, "it ended before it could be killed"
    finally:
        driver.kill()
        driver.wait()
    wait_until(lambda: not any(node.trains() for node in cluster))
    pids = [trainer(run_dir) for run_dir in long]
    before = [epochs_done(run_dir) for run_dir in long]
    lost = {}

    def kill() -> None:
        def found() -> list[Path]:
            again = [path for path in long if trainer(path) not in pids]
            return [path for path in again if cluster[1].has(trainer(path))]

        wait_until(found)
        lost["run"] = found()[0]
        cluster[1].die()
        lost["epochs"] = epochs_done(lost["run"])

    thread = threading.Thread(target=kill)
    thread.start()
    summary = runner.run(trials, folder, executor="ray")
    thread.join()
    return folder, summary, before, lost


def test_driver_and_node_die_and_every_trial_ends_with_one_result(two_deaths, trials):
    folder, summary, before, lost = two_deaths
    assert (summary.trained, summary.failures) == (4, {})
    results = {trial: directory.result_of(trial, folder) for trial in trials}
    for trial, epochs in zip(trials[:2], before, strict=True):
        assert results[trial]["resumed_at_epoch"] >= epochs, "began anew"
    assert max(before) > 0
    (of_dead_node,) = [trial for trial in trials if folder / trial.directory == lost["run"]]
    assert EPOCHS > results[of_dead_node]["resumed_at_epoch"] >= lost["epochs"]
    for trial in trials:
        # What a training writes at its very end, and once in each epoch.
        assert len(of_tag(folder / trial.directory, metadata.SESSION_END_INFO_TAG)) == 1
        for group in ("train", "validation"):
            steps = of_tag(folder / trial.directory / group, "epoch_loss")
            assert Counter(steps) == dict.fromkeys(range(trial.epochs), 1)
    assert len(list(folder.glob(".shared-*"))) == 1, "that of the driver that was killed"


def of_tag(folder: Path, tag: str) -> list[int]:
    """The steps of all events of a tag in the files of one folder."""
    files = [EventFileLoader(str(path)) for path in folder.glob("events*")]
    events = [event for file in files for event in file.Load()]
    return [event.step for event in events for value in event.summary.value if value.tag == tag]


def test_tables_are_those_of_one_machine(two_deaths, trials, tmp_path):
    runner.check(runner.run(trials, tmp_path, workers=2))
    there, here = (run_log.read(trials, folder) for folder in (two_deaths[0], tmp_path))
    timed = [name for name in here.curves if "seconds" in name]
    pd.testing.assert_frame_equal(there.curves.drop(columns=timed), here.curves.drop(columns=timed))
    pd.testing.assert_frame_equal(there.confusions, here.confusions)


def outcomes(pool: ray_pool.RayPool, count: int) -> dict:
    """How so many calls have ended, by their keys."""
    found: dict = {}
    wait_until(lambda: found.update(pool.ended(0.1)) or len(found) == count)
    return found


def test_ends_of_a_task_are_told_apart(cluster, tmp_path, monkeypatch):
    """Too late, dead, failed, without the shared folder, and on its share of a GPU."""
    with ray_pool.RayPool(tmp_path, 0, 5, PRELOAD) as pool:
        pool.start("late", time.sleep, PATIENCE)
        pool.start("dead", signal.raise_signal, signal.SIGKILL)
        pool.start("failed", runner.check, runner.Summary(1, 0, 0, {"a": "no more"}))
        assert (len(pool), set(pool.running)) == (3, {"late", "dead", "failed"})
        told = outcomes(pool, 3)
        assert len(pool) == 0
        assert told["late"] == ("timed out", "ran longer than 5 s", "")
        assert told["dead"][0] == "killed"
        assert "SIGKILL" in told["dead"][1]
        kind, reason, trace = told["failed"]
        assert (kind, reason.partition(":")[0]) == ("not possible", "TrialError")
        assert "no more" in reason
        assert "in check" in trace
        for mark in tmp_path.glob(".shared-*"):
            mark.unlink()
        pool.start("lost", time.sleep, 0)
        kind, reason, _ = outcomes(pool, 1)["lost"]
        assert kind == "storage"
        assert f"does not see {tmp_path} of the machine that started the run" in reason
    monkeypatch.setenv(ray_pool.GPUS_PER_TRIAL, "0.5")
    with ray_pool.RayPool(tmp_path, 4, PATIENCE, PRELOAD) as pool:
        assert pool.places == 1, "there is one CPU"
        pool.start("number", os.getenv, "CUDA_VISIBLE_DEVICES")
        assert outcomes(pool, 1) == {"number": "0"}
    monkeypatch.setenv(ray_pool.GPUS_PER_TRIAL, "2")
    with (
        pytest.raises(UnavailableError, match=r"no node .* has a CPU and 2 GPU"),
        ray_pool.RayPool(tmp_path, 0, PATIENCE, PRELOAD),
    ):
        pass


@pytest.mark.parametrize("workers", [0, -1, 1.5, True])
def test_workers_on_a_cluster_are_whole_numbers(make_tiny, tmp_path, workers):
    with pytest.raises(DeclarationError, match=f"workers is {workers}; give at least 1"):
        runner.run([make_tiny()], tmp_path, workers=workers, executor="ray")


@pytest.mark.parametrize("share", ["1.5", "-1", "half", "nan", "inf"])
def test_share_of_gpus_that_cannot_be_is_refused(make_tiny, tmp_path, monkeypatch, share):
    monkeypatch.setenv(ray_pool.GPUS_PER_TRIAL, share)
    with pytest.raises(DeclarationError, match=f"REFIT_GPUS_PER_TRIAL is '{share}'; give"):
        runner.run([make_tiny()], tmp_path, executor="ray")


def test_missing_package_is_told(make_tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UnavailableError, match="needs the package ray; `make extras` installs it"):
        runner.run([make_tiny()], tmp_path, executor="ray")


def test_missing_cluster_is_told(make_tiny, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.2")
    with pytest.raises(UnavailableError, match="start one with `ray start --head`"):
        runner.run([make_tiny()], tmp_path, executor="ray")
