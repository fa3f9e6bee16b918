"""Run the trials that have no result yet: isolated, in parallel, and so that stopping is safe.

Every trial gets a process of its own, forked from a server that has imported Keras once, so a crash
or a full memory costs one trial and importing TensorFlow is paid once per run.
"""

import contextlib
import fcntl
import importlib
import importlib.util
import multiprocessing
import os
import signal
import subprocess
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass, field
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pebble
import psutil

from refit import data, events, paths, storage, weights
from refit.data import DataSpec
from refit.errors import DataError, DeclarationError, TrialError, UnavailableError
from refit.progress import Progress
from refit.settings import AUTOKERAS
from refit.storage import RESULT
from refit.timing import Times
from refit.trial import Trial

FAILURE = "failure.json"
# What the training processes print; useful when one of them dies.
TRAINING_LOG = "training.log"
# Trials take seconds to days, so the limit only ends those that hang.
TIME_LIMIT = 24 * 3600.0


@dataclass(frozen=True)
class Summary:
    """What a run did: trials that were done before, trained now, and failed now by kind."""

    total: int
    done_before: int
    trained: int
    failures: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        text = f"{self.total} trials: {self.done_before} done before, {self.trained} trained"
        if not self.failures:
            return text
        lines = [f"  {trial}: {reason}" for trial, reason in self.failures.items()]
        return "\n".join([f"{text}, {len(self.failures)} failed:", *lines])


def result_of(trial: Trial, folder: Path) -> dict[str, Any] | None:
    """The stored result of a trial, or None while there is no whole one.

    A result counts only if it belongs to this very trial.
    """
    result = storage.read_json(folder / trial.directory / RESULT)
    if isinstance(result, dict) and result.get("digest") == trial.digest and "metrics" in result:
        return result
    return None


def run(
    trials: Sequence[Trial],
    folder: Path,
    workers: int | None = None,
    time_limit: float = TIME_LIMIT,
    data_dir: Path | None = None,
    earlier: Mapping[Trial, Trial] | None = None,
    keep_checkpoints: bool = False,
    describe: bool = True,
) -> Summary:
    """Train the trials that have no result in `folder`, `workers` at a time.

    `workers` defaults to one per core; `time_limit` is in seconds per trial. A failed trial leaves
    its kind and reason in `failure.json` and is tried again by the next run. Ctrl-C leaves all
    finished epochs; the next run goes on from them. With `keep_checkpoints` the last state of a
    training that was not stopped early stays too, and `earlier` names for a trial one of the same
    settings but fewer epochs, from whose last state it goes on. With `describe` the trials are the
    experiment's, and TensorBoard's table gets their columns. Where a data set cannot be
    loaded its trials fail; raises DataError where none can, before anything is trained.
    """
    workers = _check_workers(workers)
    missing = [trial for trial in trials if result_of(trial, folder) is None]
    before = len(trials) - len(missing)
    if not missing:
        return Summary(len(trials), before, 0)
    sizes, unloaded = _sizes(missing, data_dir)
    failures = _obstacles(missing, folder, data_dir, unloaded)
    missing = [trial for trial in missing if trial.directory.name not in failures]
    if not missing:
        return Summary(len(trials), before, 0, failures)
    if describe:
        _describe_to_tensorboard(trials, folder)
    facts = {"git_revision": _git_revision(), "workers": min(workers, len(missing))}
    expected = _expected(missing, sizes)
    waiting = {trial for trial in missing if trial.pretrained and trial.pretrained.trial}
    jobs = {}
    trained = 0
    with Progress(len(trials), expected, folder) as progress, _pool(workers) as pool:
        # Trials that start from others' weights come when those are done.
        for stage in (set(missing) - waiting, waiting):
            # Starting with the longest keeps all workers busy to the end.
            for trial in sorted(stage, key=expected.__getitem__, reverse=True):
                shorter = (earlier or {}).get(trial)
                start = folder / shorter.directory if shorter else None
                plain = trial.model_dump(mode="json")
                arguments = (plain, folder, data_dir, paths.cache(), facts, os.getpid())
                options = {"earlier": start, "keep_checkpoint": keep_checkpoints}
                job = pool.schedule(_train, args=arguments, kwargs=options, timeout=time_limit)
                jobs[job] = trial
            pending = {job for job in jobs if jobs[job] in stage}
            while pending:
                finished, pending = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
                for job in finished:
                    kind, reason = _outcome(job, jobs[job], folder, time_limit)
                    if kind:
                        failures[jobs[job].directory.name] = f"{kind}: {reason}"
                    trained += not kind
                    progress.finished(jobs[job], kind)
                progress.show([jobs[job] for job in pending if job.running()])
    return Summary(len(trials), before, trained, failures)


def _sizes(
    trials: Sequence[Trial], data_dir: Path | None
) -> tuple[dict[DataSpec, int], dict[DataSpec, DataError]]:
    """How many images each data set trains on, and those that cannot be loaded.

    Raises DataError where none can be.
    """
    sizes, unloaded = {}, {}
    for spec in {trial.data for trial in trials}:
        try:
            sizes[spec] = len(data.load(spec, data_dir, paths.cache()).train)
        except DataError as error:
            unloaded[spec] = error
    if unloaded and not sizes:
        raise next(iter(unloaded.values()))
    return sizes, unloaded


def _obstacles(
    trials: Sequence[Trial],
    folder: Path,
    data_dir: Path | None,
    unloaded: Mapping[DataSpec, DataError],
) -> dict[str, str]:
    """Failures of trials that need what this machine lacks, found before anything is started."""
    failures = {}
    for trial in trials:
        try:
            if trial.data in unloaded:
                raise unloaded[trial.data]
            if trial.pretrained and trial.pretrained.weights:
                weights.find(trial, data_dir)
            if trial.model.name == AUTOKERAS and importlib.util.find_spec(AUTOKERAS) is None:
                raise UnavailableError("autokeras is not installed; `make setup` installs it")
        except (UnavailableError, DataError) as error:
            kind, reason = _kind(error), str(error)
            (folder / trial.directory).mkdir(parents=True, exist_ok=True)
            _store_failure(folder / trial.directory / FAILURE, kind, reason, "")
            failures[trial.directory.name] = f"{kind}: {reason}"
    return failures


def _check_workers(workers: int | None) -> int:
    available = os.cpu_count() or 1
    if workers is None:
        return available
    if not 1 <= workers <= 8 * available:
        raise DeclarationError(
            f"workers is {workers}; give 1 to {8 * available} on this machine of {available} cores"
        )
    return workers


@contextlib.contextmanager
def _pool(workers: int) -> Iterator[pebble.ProcessPool]:
    """A pool that forks one process per trial from a server with Keras loaded.

    Leaving it by an exception, Ctrl-C included, ends the trainings at once; they resume later.
    """
    _start_server()
    context = multiprocessing.get_context("forkserver")
    pool = pebble.ProcessPool(max_workers=workers, max_tasks=1, context=context)
    try:
        yield pool
        pool.close()
    except BaseException:
        pool.stop()
        raise
    finally:
        pool.join()


def _start_server() -> None:
    """Start the fork server, unless it runs, with its standard error in a file.

    TensorFlow greets every process with lines that no setting silences; they would bury the
    progress bar.
    """
    multiprocessing.set_forkserver_preload(["refit.training", "refit.runner"])
    path = paths.runs() / TRAINING_LOG
    path.parent.mkdir(parents=True, exist_ok=True)
    terminal = os.dup(2)
    try:
        with path.open("ab") as log:
            os.dup2(log.fileno(), 2)
            forkserver.ensure_running()
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)


def _train(
    plain: dict[str, Any],
    folder: Path,
    data_dir: Path | None,
    cache: Path,
    facts: dict[str, Any],
    driver: int,
    **options: Any,
) -> tuple[str, str, str]:
    """In the child: train and return ("", "", ""), or the kind, reason and traceback of a failure.

    The fork server outlives a driver that was killed, so the child watches the driver itself. The
    lock keeps a second training of the same trial waiting; when its turn comes the result is there.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    training = importlib.import_module("refit.training")
    trial = Trial.model_validate(plain)
    run_dir = folder / trial.directory
    try:
        wanted = psutil.Process(driver).is_running
        run_dir.mkdir(parents=True, exist_ok=True)
        with (run_dir / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if result_of(trial, folder) is None:
                training.use_one_thread(facts["workers"])
                training.train(trial, run_dir, data_dir, cache, facts, wanted, **options)
    except BaseException as error:
        return _kind(error), f"{type(error).__name__}: {error}"[:2000], traceback.format_exc()
    return "", "", ""


def _kind(error: BaseException) -> str:
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        return "out of memory"
    if isinstance(error, DataError):
        return "bad data"
    if isinstance(error, UnavailableError):
        return "not available"
    if isinstance(error, TrialError):
        return "not possible"
    if isinstance(error, DeclarationError):
        return "bad declaration"
    if isinstance(error, OSError):
        return "storage"
    return "bug"


def _outcome(job: Any, trial: Trial, folder: Path, time_limit: float) -> tuple[str, str]:
    """The kind and reason of a failure, which is stored; two empty strings if it is done."""
    trace = ""
    try:
        kind, reason, trace = job.result()
    except TimeoutError:
        kind, reason = "timed out", f"ran longer than {time_limit:g} s"
    except pebble.ProcessExpired as error:
        kind, reason = "killed", _death(error.exitcode)
    if not kind and result_of(trial, folder) is None:
        kind, reason = "bug", "the training ended without a result"
    if kind:
        _store_failure(folder / trial.directory / FAILURE, kind, reason, trace)
    return kind, reason


def _store_failure(path: Path, kind: str, reason: str, trace: str) -> None:
    earlier = storage.read_json(path) or {}
    failure = {
        "kind": kind,
        "reason": reason,
        "traceback": trace,
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "attempts": earlier.get("attempts", 0) + 1,
    }
    # Where even this cannot be written, the summary of the run still tells what happened.
    with contextlib.suppress(OSError):
        storage.write_json(path, failure)


def _death(exit_code: int | None) -> str:
    if exit_code == -signal.SIGKILL:
        return "ended by SIGKILL, perhaps by the system because memory ran out"
    if exit_code is not None and exit_code < 0:
        return f"ended by {signal.Signals(-exit_code).name}"
    return f"ended with exit code {exit_code}"


def _expected(trials: Sequence[Trial], sizes: dict[DataSpec, int]) -> dict[Trial, float]:
    """How long each trial will take, in seconds; where nothing tells, as long as the longest."""
    times = Times(paths.runs())
    known = {trial: times.seconds(trial, sizes[trial.data]) for trial in trials}
    longest = max((value for value in known.values() if value > 0), default=1.0)
    return {trial: value if value > 0 else longest for trial, value in known.items()}


def _describe_to_tensorboard(trials: Sequence[Trial], folder: Path) -> None:
    """Write the columns of the HParams tab at the top of the experiment's run folder."""
    rows = [trial.hyper_parameters() for trial in trials]
    columns = {name: [row[name] for row in rows if name in row] for row in rows for name in row}
    metrics = {
        "train/epoch_accuracy": "train accuracy",
        "validation/epoch_accuracy": "validation accuracy",
        "validation/epoch_loss": "validation loss",
        "/test_accuracy": "test accuracy",
    }
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    writer = events.EventWriter(folder)
    writer.summary(events.hparams_experiment(columns, metrics))
    writer.close()


def _git_revision() -> str:
    """The commit of this checkout, marked where files differ from it; empty outside git."""
    command = ["git", "-C", str(paths.ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip()


def check(summary: Summary) -> None:
    """Raise TrialError where a run left failures, so that no page passes for a whole one."""
    if summary.failures:
        raise TrialError(str(summary))
