"""Which trials are trained together, in one program on JAX, and how a process trains a group.

A small network leaves most of a GPU idle. Trials that differ only in numbers, such as the seed or
the learning rate, are the same program on other numbers, and run as one. This module imports
neither Keras nor JAX: a command asks it before it starts anything.
"""

import contextlib
import importlib
import importlib.util
import json
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from refit import backends, files, paths
from refit.errors import DeclarationError
from refit.experiments.trial import ALWAYS, AUTOKERAS, FUSED, LOCAL, NEVER, Trial
from refit.run_directory import directory, failures
from refit.run_directory.directory import CHECKPOINT
from refit.running.processes import Outcome, Processes
from refit.training import checkpoint, circumstances

# In what members of a group may differ; what a trial is called is no setting at all.
_LABELS = {"sweep", "name", "title", "published_epochs", "altered"}
_OWN = {"seed": True, "optimizer": {"learning_rate", "momentum", "weight_decay", "decay"}}
# Groups at once on a GPU: some are compiled, on the CPU, while another computes. Each takes some of
# the GPU's memory for itself.
GPU_GROUPS = 4
_OWN_OPTIONS = ("dropout", "last_dropout")
# Networks whose trials go one by one, and why.
_ALONE = {
    AUTOKERAS: "a search trains many networks",
    "conv3d": "clips are read from disk",
    "conv2d_rnn": "clips are read from disk",
    "mobilenet_v2": "its images may be changed at random",
    "inception_v3": "its images may be changed at random",
}


def used(mode: str, executor: str = LOCAL) -> bool:
    """Whether trials are trained together: on JAX only, and without being asked on a GPU only.

    Raises DeclarationError for an unknown mode, and where they must be but cannot.
    """
    if mode not in FUSED:
        raise DeclarationError(f"fused is {mode!r}; known: {', '.join(FUSED)}")
    if mode == NEVER:
        return False
    reasons = {
        f"{backends.VARIABLE} is {backends.name()!r}; give jax": backends.name() != backends.JAX,
        f"executor is {executor!r}; give local": executor != LOCAL,
    }
    hindered = [reason for reason, holds in reasons.items() if holds]
    if mode == ALWAYS and hindered:
        raise DeclarationError(f"fused is {mode!r}, but {hindered[0]}")
    return not hindered and (mode == ALWAYS or _has_gpu())


def _has_gpu() -> bool:
    """Whether JAX would find a GPU; asking JAX itself would take hold of its memory."""
    found = any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/kfd").exists()
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    hidden |= os.environ.get("JAX_PLATFORMS", "").strip() == "cpu"
    return found and not hidden and importlib.util.find_spec("jax_plugins") is not None


def at_once(asked: int | None, workers: int) -> int:
    """How many groups are trained at once: `workers`, but where none are asked for few on a GPU."""
    return min(workers, GPU_GROUPS) if asked is None and _has_gpu() else workers


def why_alone(trial: Trial, folder: Path | None = None) -> str:
    """Why a trial cannot be trained together with others; empty where it can.

    One that was begun alone, as its checkpoint in the runs' `folder` tells, goes on alone.
    """
    reasons = {
        _ALONE.get(trial.model.name, ""): trial.model.name in _ALONE,
        "clips are read from disk": bool(trial.data.frames),
        "it starts from weights that others left": bool(trial.pretrained or trial.carried_over),
        "it keeps the weights of a base": trial.keep_base,
        "it records every batch": trial.record_batches,
        "it was begun alone": bool(folder) and _begun(trial, folder, together=False),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _begun(trial: Trial, folder: Path, together: bool) -> bool:
    """Whether a trial has been begun on this backend, alone or `together` with others."""
    state = checkpoint.saved_state(folder / trial.directory / CHECKPOINT)
    made = circumstances.of(state)
    how = made.get("backend"), made.get("together")
    return bool(state) and how == (backends.name(), together)


def groups(trials: Sequence[Trial], folder: Path | None = None) -> list[list[Trial]]:
    """The trials in lists of those that can be trained together, in the order of their first.

    Those for which `why_alone` has a reason are in lists of their own.
    """
    found: dict[str, list[Trial]] = {}
    for trial in trials:
        key = trial.digest if why_alone(trial, folder) else kind(trial)
        found.setdefault(key, []).append(trial)
    return list(found.values())


def kind(trial: Trial) -> str:
    """What all members of a group have in common, as a text.

    Whether a number that may differ is zero belongs to it: Keras then has fewer variables.
    """
    common = trial.model_dump(mode="json", exclude=_LABELS | {"test_batch_size", "keep_weights"})
    del common["seed"]
    for name in _OWN["optimizer"] - {"learning_rate"}:
        common["optimizer"][name] = bool(common["optimizer"][name])
    del common["optimizer"]["learning_rate"]
    options = common["model"]["options"]
    for name in set(_OWN_OPTIONS) & options.keys():
        options[name] = options[name] if options[name] is None else bool(options[name])
    return json.dumps(common, sort_keys=True)


def run_first(
    trials: Sequence[Trial],
    folder: Path,
    data_dir: Path | None,
    facts: dict[str, Any],
    workers: int,
    time_limit: float,
    count: Callable[[Trial], None] = lambda trial: None,
    show: Callable[[list[Trial]], None] = lambda running: None,
    **options: Any,
) -> tuple[list[Trial], dict[str, str]]:
    """Train what can be trained together, every group in a process of its own, `workers` at once.

    So one is compiled while another is trained. They share the memory. One whose others are done
    goes on in a group of its own. `facts` as for `refit.training.fit.train`, without the workers;
    `time_limit` in seconds per group; `options` as for `train_together`; `count` is told once of
    each trial that has its result, and `show` twice a second what is at work. Returns the trials
    that are then left to be trained one by one, and by their directories' names why a group has not
    finished some of them.
    """
    together = [
        group
        for group in groups(trials, folder)
        if len(group) > 1 or _begun(group[0], folder, together=True)
    ]
    notes: dict[str, str] = {}
    left = {trial for group in together for trial in group}
    whole = len(together)
    common = folder, data_dir, paths.cache(), facts | {"workers": min(workers, whole)}
    with Processes(workers, time_limit) as pool:
        for number, group in enumerate(together):
            pool.start(number, train_together, _plain(group), *common, **options)
        while len(pool):
            ended = pool.ended(0.5)
            numbers = {*pool.running, *(number for number, _ in ended)}
            at_work = [trial for number in numbers for trial in together[number] if trial in left]
            done = [trial for trial in at_work if directory.result_of(trial, folder)]
            left.difference_update(done)
            for trial in done:
                count(trial)
            for number, told in ended:
                group = [trial for trial in together[number] if trial in left]
                if isinstance(told, tuple) and told[0] == "killed" and number < whole:
                    # Perhaps for want of memory; once more, in halves, from what was saved.
                    for half in filter(None, (group[::2], group[1::2])):
                        together.append(half)
                        pool.start(
                            len(together) - 1, train_together, _plain(half), *common, **options
                        )
                    continue
                for trial, (kind, reason, _) in _outcomes(told, together[number]).items():
                    if kind and trial in left:
                        notes[trial.directory.name] = f"left its group: {kind}: {reason}"
            show([trial for trial in at_work if trial in left])
    remaining = [trial for trial in trials if directory.result_of(trial, folder) is None]
    names = [trial.directory.name for trial in trials]
    return remaining, {name: notes[name] for name in names if name in notes}


def _plain(group: Sequence[Trial]) -> list[dict[str, Any]]:
    return [trial.model_dump(mode="json") for trial in group]


def train_together(
    plain: Sequence[dict[str, Any]],
    folder: Path,
    data_dir: Path | None,
    cache: Path,
    facts: dict[str, Any],
    **options: Any,
) -> list[Outcome]:
    """In the child: train a group, and return how each of its trials ended, as `runner._train`
    does for one.

    The trials come as plain data; `options` are those of `refit.fused_group.Options`. Trials that
    have a result are left as they are; the locks keep a second training of any of them waiting.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    files.allow_open_files()
    trials = [Trial.model_validate(one) for one in plain]
    try:
        with contextlib.ExitStack() as held:
            # In one order everywhere, so that no two groups wait for each other.
            for trial in sorted(trials, key=lambda trial: str(trial.directory)):
                held.enter_context(directory.held(folder / trial.directory))
            missing = [trial for trial in trials if directory.result_of(trial, folder) is None]
            pieces = importlib.import_module("refit.fused_pieces")
            places = pieces.Places(folder, data_dir, cache)
            found = pieces.train(missing, places, facts, _wanted(), pieces.Options(**options))
    except BaseException as error:
        failed = failures.kind_of(error), failures.describe(error), traceback.format_exc()
        found = dict.fromkeys(trials, failed)
    return [found.get(trial, ("", "", "")) for trial in trials]


def _outcomes(told: Outcome | list[Outcome], group: Sequence[Trial]) -> dict[Trial, Outcome]:
    """How the members of a group ended; where its process died, all in the same way."""
    each = told if isinstance(told, list) else [told] * len(group)
    return dict(zip(group, each, strict=True))


def _wanted() -> Callable[[], bool]:
    """Whether the process that started this one still runs; nobody did where there is none."""
    parent = multiprocessing.parent_process()
    return psutil.Process(parent.pid).is_running if parent else lambda: True
