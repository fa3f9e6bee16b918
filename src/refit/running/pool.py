"""The processes that trainings run in: one for each, forked from a server that has loaded Keras."""

import multiprocessing
import os
import signal
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import partial
from multiprocessing import forkserver, util
from pathlib import Path
from typing import Any, Self

import pebble

from refit import files, paths
from refit.errors import TrialError
from refit.run_directory import failures
from refit.running.machine import VISIBLE_GPUS

# What the training processes print; useful when one of them dies.
TRAINING_LOG = "training.log"
# How often a process is tried to be started; another server is begun where there is none.
TRIES = 3
# The name of these processes.
WORKER = "refit training"
BACKEND = "KERAS_BACKEND"

# How a call has ended: kind, reason and traceback of its failure; empty strings where it is done.
Outcome = tuple[str, str, str]


class TrainingPool:
    """Runs calls in processes of their own, so many `workers` at once, each for `time_limit` s.

    They are forked from a server that has imported the modules of `preload`. Of several `gpus`, as
    `CUDA_VISIBLE_DEVICES` names them, each call sees the one that the fewest others use. Use it as
    a context manager; leaving it, by Ctrl-C too, ends all of them at once.
    """

    # In seconds, until what a call wrote is seen here.
    delay = 0.0

    def __init__(
        self, workers: int, time_limit: float, preload: Sequence[str], gpus: Sequence[str] = ()
    ) -> None:
        self.places = workers
        self._preload = preload
        self._time_limit = time_limit
        self._gpus = gpus if len(gpus) > 1 else ()
        self._jobs: dict[Future, tuple[Hashable, str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        left = [each for each in multiprocessing.active_children() if each.name == WORKER]
        for process in left:
            process.terminate()
        for process in left:
            process.join()

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def running(self) -> list[Hashable]:
        """The keys of the calls that have not ended."""
        return [key for key, _ in self._jobs.values()]

    def start(
        self, key: Hashable, function: Callable[..., Outcome], *args: Any, **kwargs: Any
    ) -> None:
        """Call a function in a new process. Raises TrialError where none can be started."""
        used = Counter(gpu for _, gpu in self._jobs.values())
        gpu = min(self._gpus, key=lambda one: used[one], default="")
        begin = pebble.concurrent.process(
            name=WORKER,
            timeout=self._time_limit,
            context=multiprocessing.get_context("forkserver"),
        )
        for left in reversed(range(TRIES)):
            try:
                _start_server(self._preload)  # anew where it has ended
                job = begin(partial(_call, gpu, function))(*args, **kwargs)
            except (OSError, EOFError) as error:  # as where the server has just died
                if not left:
                    raise TrialError(
                        f"no process for a training can be started ({error}); the end of "
                        f"{paths.runs() / TRAINING_LOG} may tell why"
                    ) from error
                time.sleep(1)  # the system takes its time to bury a server
            else:
                self._jobs[job] = key, gpu
                return

    def ended(self, seconds: float) -> list[tuple[Any, Outcome]]:
        """The calls that have ended since, by their keys; waits for one at most so many seconds.

        An outcome is what the function returned, or the kind and reason of its process's own end.
        """
        done = wait(self._jobs, timeout=seconds, return_when=FIRST_COMPLETED).done
        return [(self._jobs.pop(job)[0], self._outcome(job)) for job in done]

    def _outcome(self, job: Future) -> Outcome:
        try:
            return job.result()
        except TimeoutError:
            return "timed out", f"ran longer than {self._time_limit:g} s", ""
        except pebble.ProcessExpired as error:
            return "killed", failures.death(error.exitcode), ""


def _call(gpu: str, function: Callable[..., Outcome], *args: Any, **kwargs: Any) -> Outcome:
    """In a process: call the function, on a GPU of its own where it is given one."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # pebble's handler would wait for Python's turn
    if gpu:
        os.environ[VISIBLE_GPUS] = gpu
    return function(*args, **kwargs)


def _let_processes_meet() -> None:
    """Let processes meet below /tmp where TMPDIR is no place for sockets."""
    before = tempfile.tempdir
    if not _takes_sockets(tempfile.gettempdir()):
        tempfile.tempdir = "/tmp"  # noqa: S108 - a folder of our own is made in it
    util.get_temp_dir()  # made once
    tempfile.tempdir = before


def _takes_sockets(folder: str) -> bool:
    """Whether a socket can be made as multiprocessing does it; not where the name gets too long, or
    the file system knows no sockets or changes no modes."""
    try:
        with (
            tempfile.TemporaryDirectory(dir=folder, prefix="pymp-") as place,
            socket.socket(socket.AF_UNIX) as listener,
        ):
            address = Path(place, "listener-12345678")
            listener.bind(str(address))
            address.chmod(0o600)
    except OSError:
        return False
    return True


def _start_server(preload: Sequence[str]) -> None:
    """Start the fork server, unless it runs, with its standard error in a file.

    Its backend is TensorFlow, whatever the user's Keras has been told.
    """
    multiprocessing.set_forkserver_preload(list(preload))
    _let_processes_meet()
    backend = os.environ.get(BACKEND)
    try:
        os.environ[BACKEND] = "tensorflow"
        with files.stderr_in(paths.runs() / TRAINING_LOG):
            forkserver.ensure_running()
    finally:
        os.environ.pop(BACKEND) if backend is None else os.environ.update({BACKEND: backend})
