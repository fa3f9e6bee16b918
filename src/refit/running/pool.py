"""The processes that trainings run in: one for each, forked from a server that has loaded Keras."""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import forkserver
from typing import Any, NamedTuple

import pebble
from pebble.pool.process import WORKERS_NAME

from refit import paths
from refit.errors import TrialError
from refit.run_directory import failures
from refit.running.machine import VISIBLE_GPUS

# What the training processes print; useful when one of them dies.
TRAINING_LOG = "training.log"
# Pools that may break before a training has ended in one of them.
MOST_BREAKS = 5
# In seconds: a call waits for a process at most for as long as one needs to be started, so that
# after this time without any the calls were lost with the process that had just taken them.
LOST = 120.0
# In seconds: how long a process that minds SIGTERM may take to save what it did.
GRACE = 15.0
BACKEND = "KERAS_BACKEND"

# How a call has ended: kind, reason and traceback of its failure; empty strings where it is done.
Outcome = tuple[str, str, str]


class Call(NamedTuple):
    """What is to be called in a process of its own, the key by which it is known, and its GPU."""

    key: Hashable
    function: Callable[[], Outcome]
    gpu: str


class TrainingPool:
    """Runs calls in processes of their own, so many `workers` at once, each for `time_limit` s.

    They are forked from a server that has imported the modules of `preload`. Of several `gpus`, as
    `CUDA_VISIBLE_DEVICES` names them, each call sees the one that the fewest others use.

    Use it as a context manager; leaving it by an exception, Ctrl-C included, ends all of them at
    once, but for those that mind SIGTERM: they have GRACE seconds to save what they did. Where
    the pool breaks, because a process was killed between two calls or the server was, it is
    replaced, and what was running is called again. So a call must stand being repeated.
    """

    # In seconds, until what a call wrote is seen here.
    delay = 0.0

    def __init__(
        self, workers: int, time_limit: float, preload: Sequence[str], gpus: Sequence[str] = ()
    ) -> None:
        self.places = workers
        self._time_limit = time_limit
        self._preload = preload
        self._gpus = gpus if len(gpus) > 1 else ()
        # Started beyond the places, so that none of them waits for its next call; where calls have
        # GPUs, that which will be free is not known before.
        self.spare = 0 if self._gpus else 1
        self._breaks = 0

    def __enter__(self) -> "TrainingPool":
        _start_server(self._preload)
        # Without the initializer, pebble would let SIGTERM return to Python first.
        self._pool = pebble.ProcessPool(
            self.places,
            max_tasks=1,
            initializer=signal.signal,
            initargs=(signal.SIGTERM, signal.SIG_DFL),
            context=multiprocessing.get_context("forkserver"),
        )
        self._jobs: dict[pebble.ProcessFuture, Call] = {}
        self._busy = time.monotonic()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with _without_interrupts():
            if kind is None:
                self._pool.close()
                self._pool.join()
            else:
                self._end(GRACE)

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def running(self) -> list[Hashable]:
        """The keys of the calls that a process is at work on."""
        return [call.key for job, call in self._jobs.items() if job.running()]

    def start(
        self, key: Hashable, function: Callable[..., Outcome], *args: Any, **kwargs: Any
    ) -> None:
        """Call a function in the next process that is free. Raises TrialError where none lives."""
        used = Counter(call.gpu for call in self._jobs.values())
        gpu = min(self._gpus, key=lambda one: used[one], default="")
        self._schedule(Call(key, partial(function, *args, **kwargs), gpu))

    def ended(self, seconds: float) -> list[tuple[Any, Outcome]]:
        """The calls that have ended since, by their keys; waits for one at most so many seconds.

        An outcome is what the function returned, or the kind and reason of its process's own end.
        """
        done = wait(self._jobs, timeout=seconds, return_when=FIRST_COMPLETED).done
        whole = [job for job in done if not isinstance(job.exception(), BrokenProcessPool)]
        found = [(self._jobs.pop(job).key, self._outcome(job)) for job in whole]
        if found:
            self._breaks = 0
        if found or self.running:
            self._busy = time.monotonic()
        if len(whole) < len(done) or time.monotonic() - self._busy > LOST:
            self._renew()
        return found

    def _outcome(self, job: pebble.ProcessFuture) -> Outcome:
        try:
            return job.result()
        except TimeoutError:
            return "timed out", f"ran longer than {self._time_limit:g} s", ""
        except pebble.ProcessExpired as error:
            return "killed", failures.death(error.exitcode), ""

    def _schedule(self, call: Call) -> None:
        try:
            job = self._pool.schedule(_on_gpu, call[1:], timeout=self._time_limit)
        except RuntimeError:  # what a broken pool raises
            self._renew(call)
        else:
            self._jobs[job] = call

    def _renew(self, *calls: Call) -> None:
        """Hand these calls, and those that the pool had, to a new one."""
        self._breaks += 1
        if self._breaks > MOST_BREAKS:
            raise TrialError(
                "the processes for trainings die as soon as they are started; the end of "
                f"{paths.runs() / TRAINING_LOG} may tell why"
            )
        calls = (*self._jobs.values(), *calls)
        with _without_interrupts():
            self._end(0)
        self.__enter__()
        for call in calls:
            self._schedule(call)

    def _end(self, grace: float) -> None:
        """Ask all processes to end, wait so many seconds until they have, and kill the others."""
        self._pool.stop()
        asked, latest = _workers(), time.monotonic() + grace
        for process in asked:
            process.terminate()
        for process in asked:
            process.join(max(latest - time.monotonic(), 0))
        for process in _workers():
            process.kill()
        self._pool.join()


def _on_gpu(function: Callable[[], Outcome], gpu: str) -> Outcome:
    """In a process: call the function, on a GPU of its own where it is given one."""
    if gpu:
        os.environ[VISIBLE_GPUS] = gpu
    return function()


def _workers() -> list[multiprocessing.process.BaseProcess]:
    return [each for each in multiprocessing.active_children() if each.name == WORKERS_NAME]


def _start_server(preload: Sequence[str]) -> None:
    """Start the fork server, unless it runs, with its standard error in a file.

    TensorFlow greets every process with lines that no setting silences; they would bury the
    progress bar. Its backend is TensorFlow, whatever the user's Keras has been told.
    """
    multiprocessing.set_forkserver_preload(list(preload))
    path = paths.runs() / TRAINING_LOG
    path.parent.mkdir(parents=True, exist_ok=True)
    terminal, backend = os.dup(2), os.environ.get(BACKEND)
    try:
        os.environ[BACKEND] = "tensorflow"
        with path.open("ab") as log:
            os.dup2(log.fileno(), 2)
            forkserver.ensure_running()
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
        os.environ.pop(BACKEND) if backend is None else os.environ.update({BACKEND: backend})


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Let a second Ctrl-C wait for the end of the processes, which would live on without it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
