"""Trials on this machine: one process each, forked from a server that has imported Keras once."""

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from multiprocessing import forkserver
from typing import Any

import pebble

from refit import failures, paths

# What the training processes print; useful when one of them dies.
TRAINING_LOG = "training.log"


class LocalPool:
    """Runs functions in processes of their own, so many at a time as it has places."""

    # Handed over beyond the places, so that none of them waits for its next trial.
    spare = 1
    # Seconds until what a training wrote is seen here.
    delay = 0.0

    def __init__(self, processes: pebble.ProcessPool, workers: int) -> None:
        self._processes = processes
        self._workers = workers

    def places(self) -> int:
        return self._workers

    def schedule(
        self,
        function: Callable[..., tuple[str, str, str]],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        timeout: float,
    ) -> Future:
        """Start a function soon; it is ended after `timeout` seconds."""
        return self._processes.schedule(function, args=args, kwargs=kwargs, timeout=timeout)

    def outcome(self, job: Future, timeout: float) -> tuple[str, str, str]:
        """What the function of an ended job returned, or the kind and reason of its own end."""
        try:
            return job.result()
        except TimeoutError:
            return "timed out", f"ran longer than {timeout:g} s", ""
        except pebble.ProcessExpired as error:
            return "killed", failures.death(error.exitcode), ""


@contextlib.contextmanager
def start(workers: int) -> Iterator[LocalPool]:
    """A pool for so many trials at a time.

    Leaving it by an exception, Ctrl-C included, ends the trainings at once; they resume later.
    """
    _start_server()
    context = multiprocessing.get_context("forkserver")
    processes = pebble.ProcessPool(max_workers=workers, max_tasks=1, context=context)
    try:
        yield LocalPool(processes, workers)
        processes.close()
    except BaseException:
        processes.stop()
        raise
    finally:
        processes.join()


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
