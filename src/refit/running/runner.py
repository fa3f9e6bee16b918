"""Run the trials that have no result yet: isolated, in parallel, and so that stopping is safe.

Every trial gets a process of its own, forked from a server that has imported Keras once, so a crash
or a full memory costs one trial and importing TensorFlow is paid once per run and machine.
"""

import importlib
import importlib.util
import multiprocessing
import os
import signal
import subprocess
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from refit import paths
from refit.data import sets
from refit.data.spec import DataSpec
from refit.errors import DataError, DeclarationError, TrialError, UnavailableError
from refit.experiments.trial import (
    AUTOKERAS,
    EXECUTORS,
    LOCAL,
    RAY,
    Trial,
)
from refit.run_directory import directory, events, failures
from refit.run_directory.directory import damage_of, result_of
from refit.running.order import Schedule
from refit.running.pool import Outcome, TrainingPool
from refit.running.progress import Progress
from refit.running.ray_pool import RayPool
from refit.running.timing import Times
from refit.training import weights

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


@failures.told()
def run(
    trials: Sequence[Trial],
    folder: Path,
    workers: int | None = None,
    time_limit: float = TIME_LIMIT,
    data_dir: Path | None = None,
    earlier: Mapping[Trial, Trial] | None = None,
    keep_checkpoints: bool = False,
    describe: bool = True,
    executor: str = LOCAL,
) -> Summary:
    """Train the trials that have no result in `folder`, `workers` at a time.

    `workers` defaults to one per core; `time_limit` is in seconds per trial. With the `executor`
    ray they are trained on the nodes of a Ray cluster, to which `folder`, the cache and the data
    are one and the same, and `workers` defaults to what has room there. A failed trial leaves its
    kind and reason in `failure.json` and is tried again by the next run. Ctrl-C leaves all finished
    epochs; the next run goes on from them. With `keep_checkpoints` the last state of a training
    that was not stopped early stays too, and `earlier` names for a trial one of the same settings
    but fewer epochs, from whose last state it goes on. With `describe` the trials are the
    experiment's, and TensorBoard's table gets their columns. Where a data set cannot be loaded its
    trials fail; raises DataError where none can, before anything is trained, and TrialError where
    the folder cannot be written.
    """
    _check_choice("executor", executor, EXECUTORS)
    workers = check_workers(workers, executor)
    missing = [trial for trial in trials if result_of(trial, folder) is None]
    before = len(trials) - len(missing)
    if not missing:
        return Summary(len(trials), before, 0)
    notes = {trial.directory.name: damage_of(trial, folder) for trial in missing}
    notes = {name: f"trained again: {damage}" for name, damage in notes.items() if damage}
    sizes, unloaded = _sizes(missing, data_dir)
    failed = _obstacles(missing, folder, data_dir, unloaded)
    missing = [trial for trial in missing if trial.directory.name not in failed]
    if not missing:
        return Summary(len(trials), before, 0, failed)
    if describe:
        _describe_to_tensorboard(trials, folder)
    expected = _expected(missing, sizes)
    revision, begun, obstacles = git_revision(), len(missing), len(failed)
    places = folder, data_dir, paths.cache()
    with (
        Progress(len(trials), expected, folder) as progress,
        _pool(executor, folder, workers, time_limit) as pool,
    ):
        single = SingleTrials(pool, progress, places, revision, earlier or {}, keep_checkpoints)
        single.train(missing, Schedule(missing, expected))
    failed |= single.failed
    notes = {name: note for name, note in notes.items() if name not in failed}
    return Summary(len(trials), before, begun - len(failed) + obstacles, failed, notes)


@dataclass
class SingleTrials:
    """Trials that are trained one by one, each in a process of its own.

    `places` are the folders of the runs, the data and the cache. Gathers failures by the names of
    run directories.
    """

    pool: TrainingPool | RayPool
    progress: Progress
    places: tuple[Path, Path | None, Path]
    revision: str
    earlier: Mapping[Trial, Trial]
    keep_checkpoints: bool
    failed: dict[str, str] = field(default_factory=dict)

    def train(self, trials: Sequence[Trial], schedule: Schedule) -> None:
        """Train all trials, in the order of their schedule."""
        pool = self.pool
        while True:
            workers = min(pool.places, len(trials))
            while len(pool) < pool.places + pool.spare and (found := schedule.start()):
                self._start(found, workers)
            if not len(pool):
                return
            for trial, told in pool.ended(0.5):
                kind, reason = _judged(told, trial, self.places[0], pool.delay)
                self._count(trial, kind, reason)
                schedule.ended(trial)
            self.progress.show(pool.running)

    def _start(self, trial: Trial, workers: int) -> None:
        shorter = self.earlier.get(trial)
        start = self.places[0] / shorter.directory if shorter else None
        facts = {"git_revision": self.revision, "workers": workers}
        options = {"earlier": start, "keep_checkpoint": self.keep_checkpoints}
        plain = trial.model_dump(mode="json")
        self.pool.start(trial, _train, plain, *self.places, facts, **options)

    def _count(self, trial: Trial, kind: str, reason: str) -> None:
        if kind:
            self.failed[trial.directory.name] = f"{kind}: {reason}"
        self.progress.finished(trial, kind)


def _sizes(
    trials: Sequence[Trial], data_dir: Path | None
) -> tuple[dict[DataSpec, int], dict[DataSpec, DataError]]:
    """How many images each data set trains on, and those that cannot be loaded.

    Raises DataError where none can be.
    """
    sizes, unloaded = {}, {}
    for spec in {trial.data for trial in trials}:
        try:
            sizes[spec] = len(sets.load(spec, data_dir, paths.cache()).train)
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
            if trial.model.name == AUTOKERAS:
                _check_autokeras()
        except (UnavailableError, DataError) as error:
            kind, reason = failures.kind_of(error), str(error)
            (folder / trial.directory).mkdir(parents=True, exist_ok=True)
            failures.store(folder / trial.directory, kind, reason, "")
            failed[trial.directory.name] = f"{kind}: {reason}"
    return failed


def _check_choice(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise DeclarationError(f"{name} is {value!r}; known: {', '.join(known)}")


def _check_autokeras() -> None:
    if importlib.util.find_spec(AUTOKERAS) is None:
        raise UnavailableError("autokeras is not installed; `make setup` installs it")


def check_workers(workers: int | None, executor: str = LOCAL) -> int:
    """How many trainings run at once: as asked, or one per core. Raises DeclarationError.

    Where none are asked for on a Ray cluster, 0 stands for as many as it has room for.
    """
    if executor == RAY:
        if workers is not None and (type(workers) is not int or workers < 1):
            raise DeclarationError(f"workers is {workers!r}; give at least 1")
        return workers or 0
    available = os.cpu_count() or 1
    if workers is None:
        return available
    if type(workers) is not int or not 1 <= workers <= 8 * available:
        raise DeclarationError(
            f"workers is {workers!r}; give 1 to {8 * available} on this machine of {available} "
            "cores"
        )
    return workers


def _pool(executor: str, folder: Path, workers: int, time_limit: float) -> TrainingPool | RayPool:
    if executor == RAY:
        return RayPool(folder, workers, time_limit)
    return TrainingPool(workers, time_limit)


def _train(
    plain: dict[str, Any],
    folder: Path,
    data_dir: Path | None,
    cache: Path,
    facts: dict[str, Any],
    **options: Any,
) -> Outcome:
    """In the child: train and return ("", "", ""), or the kind, reason and traceback of a failure.

    The fork server outlives a driver that was killed, so the child watches the process that asked
    for it, which is one of this machine. The lock keeps a second training of the same trial
    waiting; when its turn comes the result is there.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    training = importlib.import_module("refit.training.fit")
    trial = Trial.model_validate(plain)
    run_dir = folder / trial.directory
    try:
        wanted = psutil.Process(multiprocessing.parent_process().pid).is_running
        with directory.held(run_dir):
            if result_of(trial, folder) is None:
                training.use_one_thread(facts["workers"])
                training.train(trial, run_dir, data_dir, cache, facts, wanted, **options)
    except BaseException as error:
        return (
            failures.kind_of(error),
            failures.describe(error),
            traceback.format_exc(),
        )
    return "", "", ""


def _judged(told: Outcome, trial: Trial, folder: Path, delay: float) -> tuple[str, str]:
    """The kind and reason of a failure, which is stored; two empty strings if it is done.

    A result may take `delay` seconds to be seen here.
    """
    kind, reason, trace = told
    latest = time.monotonic() + delay
    while not kind and result_of(trial, folder) is None:
        if time.monotonic() >= latest:
            kind, reason = "bug", "the training ended without a result"
        else:
            time.sleep(1)
    if kind in failures.TOO_LARGE:
        reason += failures.ADVICE
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
    before = events.event_files(folder)
    writer = events.EventWriter(folder)
    writer.summary(events.hparams_experiment(columns, metrics))
    writer.close()
    for old in before:
        old.unlink(missing_ok=True)  # another run may have been faster


def git_revision() -> str:
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
