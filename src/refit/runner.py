"""Run the trials that have no result yet: isolated, in parallel, and so that stopping is safe.

Every trial gets a process of its own, forked from a server that has imported Keras once, so a crash
or a full memory costs one trial and importing TensorFlow is paid once per run and machine.
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
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from refit import data, events, failures, local_pool, paths, ray_pool, storage, weights
from refit.data import DataSpec
from refit.errors import DataError, DeclarationError, TrialError, UnavailableError
from refit.local_pool import LocalPool
from refit.progress import Progress
from refit.ray_pool import RayPool
from refit.schedule import Schedule
from refit.settings import AUTOKERAS, EXECUTORS, FAIL, LOCAL, OUT_OF_MEMORY, RAY
from refit.storage import RESULT
from refit.timing import Times
from refit.trial import Trial

# Trials take seconds to days, so the limit only ends those that hang.
TIME_LIMIT = 24 * 3600.0


@dataclass(frozen=True)
class Summary:
    """What a run did: trials that were done before, trained now, and failed now by kind.

    `notes` has a sentence about each that was trained otherwise than declared.
    """

    total: int
    done_before: int
    trained: int
    failures: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        text = f"{self.total} trials: {self.done_before} done before, {self.trained} trained"
        if self.failures:
            text += f", {len(self.failures)} failed:"
        told = [*self.failures.items(), *self.notes.items()]
        return "\n".join([text, *(f"  {trial}: {sentence}" for trial, sentence in told)])


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
    out_of_memory: str = FAIL,
    executor: str = LOCAL,
) -> Summary:
    """Train the trials that have no result in `folder`, `workers` at a time.

    `workers` defaults to one per core; `time_limit` is in seconds per trial. With the `executor`
    ray they are trained on the nodes of a Ray cluster, to which `folder`, the cache and the data
    are one and the same, and `workers` defaults to what has room there. A failed trial leaves
    its kind and reason in `failure.json` and is tried again by the next run. Ctrl-C leaves all
    finished epochs; the next run goes on from them. With `keep_checkpoints` the last state of a
    training that was not stopped early stays too, and `earlier` names for a trial one of the same
    settings but fewer epochs, from whose last state it goes on. With `describe` the trials are the
    experiment's, and TensorBoard's table gets their columns. `out_of_memory` says what to do where
    a batch does not fit: `fail`; `accumulate` the gradients of parts of it, which is the same
    training but for batch normalisation; or go on with `smaller` batches. Where a data set cannot
    be loaded its trials fail; raises DataError where none can, before anything is trained.
    """
    _check_choice("executor", executor, EXECUTORS)
    _check_choice("out_of_memory", out_of_memory, OUT_OF_MEMORY)
    workers = _check_workers(workers, executor)
    missing = [trial for trial in trials if result_of(trial, folder) is None]
    before = len(trials) - len(missing)
    if not missing:
        return Summary(len(trials), before, 0)
    sizes, unloaded = _sizes(missing, data_dir)
    failed = _obstacles(missing, folder, data_dir, unloaded)
    missing = [trial for trial in missing if trial.directory.name not in failed]
    if not missing:
        return Summary(len(trials), before, 0, failed)
    if describe:
        _describe_to_tensorboard(trials, folder)
    revision = _git_revision()
    expected = _expected(missing, sizes)
    schedule = Schedule(missing, expected)
    options = {"keep_checkpoint": keep_checkpoints, "out_of_memory": out_of_memory}
    jobs: dict[Future, tuple[Trial, int]] = {}
    notes = {}
    trained = 0
    with (
        Progress(len(trials), expected, folder) as progress,
        _pool(executor, folder, workers) as pool,
    ):
        while True:
            places = pool.places()
            facts = {"git_revision": revision, "workers": min(places, len(missing))}
            while len(jobs) < places + pool.spare and (found := schedule.start()):
                trial, parts = found
                shorter = (earlier or {}).get(trial)
                start = folder / shorter.directory if shorter else None
                plain = trial.model_dump(mode="json")
                job = pool.schedule(
                    _train,
                    args=(plain, folder, data_dir, paths.cache(), facts),
                    kwargs=options | {"earlier": start, "parts": parts},
                    timeout=time_limit,
                )
                jobs[job] = found
            if not jobs:
                break
            for job in wait(jobs, timeout=0.5, return_when=FIRST_COMPLETED).done:
                trial, parts = jobs.pop(job)
                kind, reason = _outcome(pool.outcome(job, time_limit), trial, folder, pool.delay)
                smaller = kind in failures.TOO_LARGE and out_of_memory != FAIL
                if smaller and parts < trial.batch_size:
                    schedule.again(trial, 2 * parts)
                    continue
                if kind:
                    failed[trial.directory.name] = f"{kind}: {reason}"
                elif note := (result_of(trial, folder) or {}).get("batch_note"):
                    notes[trial.directory.name] = note
                trained += not kind
                progress.finished(trial, kind)
                schedule.ended(trial)
            progress.show([trial for job, (trial, _) in jobs.items() if job.running()])
    return Summary(len(trials), before, trained, failed, notes)


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
    failed = {}
    for trial in trials:
        try:
            if trial.data in unloaded:
                raise unloaded[trial.data]
            if trial.pretrained and trial.pretrained.weights:
                weights.find(trial, data_dir)
            if trial.model.name == AUTOKERAS and importlib.util.find_spec(AUTOKERAS) is None:
                raise UnavailableError("autokeras is not installed; `make setup` installs it")
        except (UnavailableError, DataError) as error:
            kind, reason = failures.kind_of(error), str(error)
            (folder / trial.directory).mkdir(parents=True, exist_ok=True)
            failures.store(folder / trial.directory, kind, reason, "")
            failed[trial.directory.name] = f"{kind}: {reason}"
    return failed


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise DeclarationError(f"{name} is {value!r}; known: {', '.join(known)}")


def _check_workers(workers: int | None, executor: str) -> int | None:
    """The number of workers on this machine; None leaves it to the size of a Ray cluster."""
    if executor == RAY:
        if workers is not None and workers < 1:
            raise DeclarationError(f"workers is {workers}; give at least 1")
        return workers
    available = os.cpu_count() or 1
    if workers is None:
        return available
    if not 1 <= workers <= 8 * available:
        raise DeclarationError(
            f"workers is {workers}; give 1 to {8 * available} on this machine of {available} cores"
        )
    return workers


def _pool(
    executor: str, folder: Path, workers: int | None
) -> contextlib.AbstractContextManager[LocalPool | RayPool]:
    if executor == RAY:
        return ray_pool.start(folder, workers)
    return local_pool.start(workers or 1)


def _train(
    plain: dict[str, Any],
    folder: Path,
    data_dir: Path | None,
    cache: Path,
    facts: dict[str, Any],
    **options: Any,
) -> tuple[str, str, str]:
    """In the child: train and return ("", "", ""), or the kind, reason and traceback of a failure.

    The fork server outlives a driver that was killed, so the child watches the process that asked
    for it. The lock keeps a second training of the same trial waiting; when its turn comes the
    result is there.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    training = importlib.import_module("refit.training")
    trial = Trial.model_validate(plain)
    run_dir = folder / trial.directory
    try:
        wanted = psutil.Process(multiprocessing.parent_process().pid).is_running
        run_dir.mkdir(parents=True, exist_ok=True)
        with (run_dir / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if result_of(trial, folder) is None:
                training.use_one_thread(facts["workers"])
                training.train(trial, run_dir, data_dir, cache, facts, wanted, **options)
    except BaseException as error:
        return (
            failures.kind_of(error),
            f"{type(error).__name__}: {error}"[:2000],
            traceback.format_exc(),
        )
    return "", "", ""


def _outcome(
    told: tuple[str, str, str], trial: Trial, folder: Path, delay: float
) -> tuple[str, str]:
    """The kind and reason of a failure, which is stored; two empty strings if it is done.

    A result may take `delay` seconds to be seen here.
    """
    kind, reason, trace = told
    latest = time.monotonic() + delay
    while not kind and result_of(trial, folder) is None and time.monotonic() < latest:
        time.sleep(1)
    if kind in failures.TOO_LARGE:
        reason += failures.ADVICE
    if not kind and result_of(trial, folder) is None:
        kind, reason = "bug", "the training ended without a result"
    if kind:
        failures.store(folder / trial.directory, kind, reason, trace)
    return kind, reason


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
