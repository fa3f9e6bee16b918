"""Trials on several machines, as Ray tasks.

A task trains in a child process of its own, as on one machine, so that a crash, a full memory and
the time limit mean the same there. What Ray adds is where a trial runs, and that it is begun again
elsewhere when a machine dies; it then goes on from the last epoch in the shared folder.
"""

import contextlib
import os
import socket
import sys
import uuid
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, Self

from refit import paths
from refit.errors import DeclarationError, UnavailableError
from refit.run_directory import failures
from refit.running.pool import Outcome, TrainingPool

GPUS_PER_TRIAL = "REFIT_GPUS_PER_TRIAL"
# How often a trial is begun again after the machine or the Ray worker that trained it has died.
RETRIES = 3


class RayPool(TrainingPool):
    """Runs calls as `TrainingPool` does, but on the nodes of a Ray cluster: the one that
    `RAY_ADDRESS` names, or that this machine belongs to.

    A call gets a CPU, `time_limit` s, and so many GPUs as `REFIT_GPUS_PER_TRIAL` says, else one
    where the cluster has any; so many `workers` run at once, with 0 as many as have room. What lies
    in `folder` must be the same on all nodes; calls fail on those that do not see it. Leaving it,
    by Ctrl-C too, ends the calls. Entering it raises UnavailableError where Ray or a cluster is
    missing or no node has room for a call.
    """

    # In seconds: on NFS, what one machine writes may be seen a minute later by another that looked
    # before.
    delay = 90.0

    def __init__(
        self, folder: Path, workers: int, time_limit: float, preload: Sequence[str]
    ) -> None:
        self._workers = workers
        self._how = (time_limit, preload)
        # Not the name of a file that a copy of the folder could have; a killed driver leaves its
        # own. By it nodes know the folder.
        self._mark = folder / f".shared-{uuid.uuid4().hex}"
        self._jobs: dict[Future, tuple[Hashable, str]] = {}

    def __enter__(self) -> Self:
        share = _asked_share()
        self._is_ours = _connect()
        gpus = any(node.get("GPU") for node in _alive())
        self._share = float(gpus) if share is None else share
        if not any(_places(node, self._share) for node in _alive()):
            self.__exit__()
            raise UnavailableError(
                f"no node of the Ray cluster has a CPU and {self._share:g} GPU(s)"
            )
        self._mark.parent.mkdir(parents=True, exist_ok=True)
        self._mark.touch()
        # A worker is used again but where it holds a GPU, whose number another task may not get.
        options = {"num_gpus": self._share, "max_calls": 1 if self._share else 0}
        self._task = _ray().remote(num_cpus=1, max_retries=RETRIES, **options)(_attempt)
        return self

    def __exit__(self, *error: object) -> None:
        self._mark.unlink(missing_ok=True)
        if self._is_ours:
            _ray().shutdown()  # the end of the driver ends its tasks

    @property
    def places(self) -> int:
        """How many calls have room now; nodes may come and go. Never none, because a call that was
        handed over waits for a node."""
        places = sum(_places(node, self._share) for node in _alive())
        return max(1, min(places, self._workers or places))

    def start(
        self, key: Hashable, function: Callable[..., Outcome], *args: Any, **kwargs: Any
    ) -> None:
        """Call a function on the next node with room."""
        call = partial(function, *args, **kwargs)
        self._jobs[self._task.remote(self._mark, *self._how, call).future()] = key, ""

    def _outcome(self, job: Future) -> Outcome:
        from ray import exceptions

        try:
            return job.result()
        except exceptions.OutOfMemoryError as error:
            return "out of memory", f"ended by Ray: {_first_line(error)}", ""
        except exceptions.RayTaskError as error:
            return failures.kind_of(error.cause), failures.describe(error.cause), str(error)
        except exceptions.RayError as error:
            return "killed", f"given up by Ray, whose last word is: {_first_line(error)}", ""


def _asked_share() -> float | None:
    """GPUs for each trial, as `REFIT_GPUS_PER_TRIAL` says; None where it says nothing.

    Raises DeclarationError for what Ray cannot give: neither a fraction of one nor a whole number.
    """
    text = os.environ.get(GPUS_PER_TRIAL, "")
    if not text:
        return None
    with contextlib.suppress(ValueError):
        share = float(text)
        if 0 <= share <= 1 or (share.is_integer() and share > 0):
            return share
    raise DeclarationError(
        f"{GPUS_PER_TRIAL} is {text!r}; give a fraction of a GPU or a whole number, 0 for none"
    )


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise UnavailableError(
            "executor ray needs the package ray; `make extras` installs it"
        ) from error
    return ray


def _connect() -> bool:
    """Connect to the cluster; returns whether this has made the connection."""
    ray = _ray()
    if ray.is_initialized():
        return False
    variables = {"REFIT_RUNS": str(paths.runs()), "DATA_DIR": str(paths.data() or "")}
    options = {"log_to_driver": False, "logging_level": "error"}
    try:
        with warnings.catch_warnings():
            # Without a GPU of its own a trial sees none, which a later version would change.
            warnings.simplefilter("ignore", FutureWarning)
            ray.init(address="auto", runtime_env={"env_vars": variables}, **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UnavailableError(
            "executor ray needs a Ray cluster that runs: start one with `ray start --head`, and "
            f"set RAY_ADDRESS where it is elsewhere ({_first_line(error)})"
        ) from error
    return True


def _alive() -> list[dict[str, float]]:
    """What each of the cluster's nodes has, by Ray's names."""
    return [node["Resources"] for node in _ray().nodes() if node["Alive"]]


def _places(resources: Mapping[str, float], share: float) -> int:
    """How many trials find room on a node at once; a fraction is of one GPU, never of two."""
    places = int(resources.get("CPU", 0))
    if share:
        gpus = int(resources.get("GPU", 0))
        places = min(places, gpus * int(1 / share) if share <= 1 else gpus // int(share))
    return places


def _attempt(
    mark: Path, time_limit: float, preload: Sequence[str], call: Callable[[], Outcome]
) -> Outcome:
    """On a node: make the call in a child of this Ray worker, and tell how it ended."""
    if not mark.exists():
        return (
            "storage",
            f"{socket.gethostname()}: does not see {mark.parent} of the machine that started the "
            "run; put the runs into a folder that all nodes share (REFIT_RUNS)",
            "",
        )
    # Else every child would load the script of Ray's worker, and with it Ray.
    sys.modules["__main__"].__file__ = None
    with TrainingPool(1, time_limit, preload) as processes:
        processes.start(None, call)
        while not (ended := processes.ended(1)):
            pass
    return ended[0][1]


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
