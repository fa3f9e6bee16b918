"""Trials of one kind in as large pieces as fit into memory, each trained as a group."""

import gc
import traceback
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

from refit import backends, fused
from refit.data import sets
from refit.errors import DeclarationError
from refit.experiments.trial import Trial
from refit.fused_group import (
    Device,
    Group,
    Options,
    Places,
    TooLargeError,
    UnusableError,
    circumstances_of,
)
from refit.run_directory import directory, failures
from refit.run_directory.directory import CHECKPOINT
from refit.running.processes import Outcome
from refit.training import callbacks, checkpoint, fit

# Members at once, where nothing else is said: each holds files open.
MOST = 128
# Trials, and the epoch at which their checkpoints are; 0 where they begin.
Piece = tuple[list[Trial], int]


def train(
    trials: Sequence[Trial],
    places: Places,
    facts: dict[str, Any],
    wanted: Callable[[], bool],
    options: Options,
) -> dict[Trial, Outcome]:
    """Train trials of one kind, all at once or in as large pieces as fit into memory.

    `facts` and `wanted` as for `refit.training.fit.train`. They go on from their
    checkpoints. Returns how each trial ended.
    """
    if not trials:
        return {}
    if len({fused.kind(trial) for trial in trials}) > 1:
        raise DeclarationError("the trials differ in more than numbers")
    fit.use_one_thread(facts["workers"])
    backends.chosen().keep_compiled(places.cache / "compiled")
    options = options.resolved()
    dataset = sets.load(trials[0].data, places.data_dir, places.cache)
    device = Device(dataset, facts["workers"])
    most = min(options.members or MOST, len(trials))
    found: dict[Trial, Outcome] = {}
    waiting = deque(_begun(trials, places, options))
    while waiting:
        piece, epoch = waiting.popleft()
        if len(piece) > most:
            waiting.appendleft((piece[most:], epoch))
            piece = piece[:most]
        gc.collect()  # networks refer to themselves, and hold memory of the device
        try:
            Group(piece, epoch, device, places, facts, options).train(wanted)
        except callbacks.OrphanedError:
            raise
        except UnusableError as error:
            whole = [trial for trial in piece if trial not in error.trials]
            waiting.extendleft(filter(itemgetter(0), [(error.trials, 0), (whole, epoch)]))
        except Exception as error:
            left = [trial for trial in piece if directory.result_of(trial, places.folder) is None]
            fitting = _fitting(error, len(piece))
            if len(piece) > 1 and fitting:
                most = min(fitting, len(piece) - 1)
                waiting.extendleft(reversed(_begun(left, places, options)))
                continue
            told = failures.kind_of(error), failures.describe(error), traceback.format_exc()
            found |= dict.fromkeys(left, told)
    return found


def _fitting(error: Exception, members: int) -> int:
    """How many members to try where more did not fit; 0 where the error is another one."""
    if isinstance(error, TooLargeError):
        return max(error.fitting, 1)
    return members // 2 if failures.kind_of(error) == "out of memory" else 0


def _begun(trials: Sequence[Trial], places: Places, options: Options) -> list[Piece]:
    """The trials in pieces of those whose checkpoints are at the same epoch, the furthest first."""
    pieces: dict[int, list[Trial]] = defaultdict(list)
    for trial in trials:
        run_dir = places.folder / trial.directory
        state = checkpoint.saved_state(run_dir / CHECKPOINT)
        usable = callbacks.can_go_on(state, circumstances_of(options), run_dir)
        pieces[len(state["history"]) if usable else 0].append(trial)
    return [(pieces[epoch], epoch) for epoch in sorted(pieces, reverse=True)]
