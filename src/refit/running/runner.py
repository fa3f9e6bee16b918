"""Run the trials that have no result yet: isolated, in parallel, and so that stopping is safe.

Every trial gets a process of its own, forked from a server that has imported Keras once, so a crash
or a full memory costs one trial and importing TensorFlow is paid once per run and machine. What
trains is handed to the runner by name, because only those processes need it.
"""

import functools
import multiprocessing
import pkgutil
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from refit import paths
from refit.data import sets
from refit.errors import DataError, DeclarationError, TrialError
from refit.experiments import factories
from refit.experiments.trial import EXECUTORS, LOCAL, RAY, Trial
from refit.run_directory import directory, events, failures
from refit.run_directory.directory import damage_of, result_of
from refit.running import machine, order
from refit.running.pool import Outcome, TrainingPool
from refit.running.progress import Progress
from refit.running.ray_pool import RayPool

# Trials take seconds to days, so the limit only ends those that hang.
TIME_LIMIT = 24 * 3600.0
# What trains a trial, which may be a search.
TRAIN = "refit.searches.autokeras:train"


@dataclass(frozen=True)
class Summary:
    """What a run did: trials that were done before, trained now, and failed now by kind.

    `notes` has a sentence about each that was trained again because its result was damaged, and
    about data that are others now than those that finished trials were made from.
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
        sentences = [*self.failures.items(), *self.notes.items()]
        return "\n".join([text, *(f"  {trial}: {sentence}" for trial, sentence in sentences)])


@failures.told()
def run(
    trials: Sequence[Trial],
    folder: Path,
    workers: int | None = None,
    time_limit: float = TIME_LIMIT,
    data_dir: Path | None = None,
    describe: bool = True,
    executor: str = LOCAL,
    train: str = TRAIN,
) -> Summary:
    """Train the trials that have no result in `folder`, `workers` at a time.

    `workers` defaults to as many as the cores that this job may use; `time_limit` is in seconds per
    trial. With the `executor` ray they are trained on the nodes of a Ray cluster, to which
    `folder`, the cache and the data are one and the same, and `workers` defaults to what has room
    there. A failed trial leaves its kind and reason in `failure.json` and is tried again by the
    next run. Ctrl-C leaves all finished epochs; the next run goes on from them. With
    `describe` the trials are the experiment's, and TensorBoard's table gets their columns. `train`
    is `module:function`, called as `refit.training.fit.train`. Where a data set
    cannot be loaded its trials fail; raises DataError where none can, before anything is trained,
    and TrialError where the folder cannot be written.
    """
    workers = check_workers(workers, executor)
    results = {trial: result_of(trial, folder) for trial in trials}
    missing = [trial for trial in trials if results[trial] is None]
    before, others = len(trials) - len(missing), other_data(results, data_dir, decode=True)
    if not missing:
        return Summary(len(trials), before, 0, notes=others)
    with directory.held(folder):  # tells of a file system without locks before anything is trained
        pass
    notes = {trial.directory.name: damage_of(trial, folder) for trial in missing}
    failed = _failed_beforehand(missing, folder, data_dir)
    ready = [trial for trial in missing if trial.directory.name not in failed]
    if not ready:
        return Summary(len(trials), before, 0, failed, others)
    if describe:
        describe_to_tensorboard(trials, folder)
    expected = order.expected(ready, folder)
    with (
        Progress(len(trials), expected, folder) as progress,
        _pool(executor, folder, workers, time_limit, train) as pool,
    ):
        call = partial(_train, train, folder, data_dir, paths.cache())
        failed |= _train_all(order.Schedule(ready, expected), pool, progress, call, folder)
    notes = {
        name: f"trained again: {damage}"
        for name, damage in notes.items()
        if damage and name not in failed
    }
    return Summary(len(trials), before, len(missing) - len(failed), failed, notes | others)


def other_data(
    results: Mapping[Trial, dict[str, Any] | None], data_dir: Path | None, decode: bool
) -> dict[str, str]:
    """A sentence on each data set whose files have other content now than when results were made
    from them; with `decode`, files that changed since they were decoded are read again for it."""
    now = functools.cache(lambda spec: sets.content(spec, data_dir, paths.cache(), decode))
    made_from = {
        trial: result["data"].get("content") for trial, result in results.items() if result
    }
    others = Counter(
        trial.data.name
        for trial, content in made_from.items()
        if content and now(trial.data) not in ("", content)
    )
    return {
        name: f"{count} finished trials were made from files of the same names and sizes, but "
        "another content than is there now; to train them again, move their run directories away"
        for name, count in others.items()
    }


def _train_all(
    schedule: order.Schedule,
    pool: TrainingPool,
    progress: Progress,
    call: Callable[..., Outcome],
    folder: Path,
) -> dict[str, str]:
    """Train the trials of a schedule one by one by `call`, each in a process of its own.

    Returns what failed, by the names of run directories.
    """
    failed: dict[str, str] = {}
    facts: dict[str, Any] = {"git_revision": git_revision()}
    while True:
        facts["workers"] = min(pool.places, len(progress.expected))
        while len(pool) < pool.places and (trial := schedule.start()):
            pool.start(trial, call, trial.model_dump(mode="json"), dict(facts))
        if not len(pool):
            return failed
        for trial, outcome in pool.ended(0.5):
            kind, reason, trace = _judged(trial, outcome, folder, pool.delay)
            if kind:
                failed |= _fail(trial, folder, kind, reason, trace)
            progress.finished(trial, kind)
            schedule.ended(trial)
        progress.show(pool.running)


def _judged(trial: Trial, outcome: Outcome, folder: Path, delay: float) -> Outcome:
    """How a training has ended: where nothing failed, its result is seen within `delay` seconds."""
    kind, reason, trace = outcome
    latest = time.monotonic() + delay
    while not kind and result_of(trial, folder) is None:
        if time.monotonic() >= latest:
            return "bug", "the training ended without a result", trace
        time.sleep(1)
    return kind, reason + (failures.ADVICE if kind in failures.TOO_LARGE else ""), trace


def _fail(trial: Trial, folder: Path, kind: str, reason: str, trace: str = "") -> dict[str, str]:
    """Store why a trial failed; returns that, by the name of its run directory."""
    failures.store(folder / trial.directory, kind, reason, trace)
    return {trial.directory.name: f"{kind}: {reason}"}


def _failed_beforehand(
    trials: Sequence[Trial], folder: Path, data_dir: Path | None
) -> dict[str, str]:
    """What this command has tried already, and, once all data sets are decoded, what has none.

    By the names of run directories. Raises DataError where no data set can be loaded.
    """
    tried = {trial: failures.of_this_command(folder / trial.directory) for trial in trials}
    failed = {t.directory.name: f"{one.kind}: {one.reason}" for t, one in tried.items() if one}
    left = [trial for trial, failure in tried.items() if not failure]
    specs, errors = {trial.data for trial in left}, {}
    for spec in specs:
        try:
            sets.load(spec, data_dir, paths.cache())
        except DataError as error:
            errors[spec] = error
    if errors and len(errors) == len(specs):
        raise next(iter(errors.values()))
    for trial in left:
        if error := errors.get(trial.data):
            failed |= _fail(trial, folder, failures.kind_of(error), str(error))
    return failed


def check_workers(workers: int | None, executor: str = LOCAL) -> int:
    """How many trainings run at once: as asked, or one per core of the job, or on a Ray cluster 0,
    which stands for as many as it has room for. Raises DeclarationError."""
    if executor not in EXECUTORS:
        raise DeclarationError(f"executor is {executor!r}; known: {', '.join(EXECUTORS)}")
    cores = machine.usable_cores()
    most, can_be = 8 * cores, f"1 to {8 * cores} for the {cores} cores of this job"
    if executor == RAY:
        cores, most, can_be = 0, sys.maxsize, "at least 1"
    if workers is None:
        return cores
    if type(workers) is not int or not 1 <= workers <= most:
        raise DeclarationError(f"workers is {workers!r}; give {can_be}")
    return workers


def _pool(executor: str, folder: Path, workers: int, time_limit: float, train: str) -> TrainingPool:
    preload = [train.partition(":")[0], __name__]
    if executor == RAY:
        return RayPool(folder, workers, time_limit, preload)
    return TrainingPool(workers, time_limit, preload, machine.local_gpus())


def _train(
    function: str,
    folder: Path,
    data_dir: Path | None,
    cache: Path,
    plain: dict[str, Any],
    facts: dict[str, Any],
) -> Outcome:
    """In the child: train and return ("", "", ""), or the kind, reason and traceback of a failure.

    The fork server outlives a driver that was killed, so the child watches the process that asked
    for it, which is one of this machine. The lock keeps a second training of the same trial
    waiting; when its turn comes the result is there.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    trial = Trial.model_validate(plain)
    run_dir = folder / trial.directory
    try:
        wanted = psutil.Process(multiprocessing.parent_process().pid).is_running
        with directory.held(run_dir):
            if result_of(trial, folder) is None:
                train = pkgutil.resolve_name(function)
                train(trial, run_dir, data_dir, cache, facts=facts, wanted=wanted)
    except BaseException as error:
        return failures.kind_of(error), failures.describe(error), traceback.format_exc()
    return "", "", ""


def describe_to_tensorboard(trials: Sequence[Trial], folder: Path) -> None:
    """Write the columns of the HParams tab at the top of the experiment's run folder."""
    rows = [factories.columns(trial) for trial in trials]
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row[name] for row in rows if name in row] for name in names}
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


def check(summary: Summary, optional: Collection[str] = ()) -> None:
    """Raise TrialError where a run left failures, so that no page passes for a whole one.

    Run directories named in `optional` may fail.
    """
    if set(summary.failures).difference(optional):
        raise TrialError(str(summary))
