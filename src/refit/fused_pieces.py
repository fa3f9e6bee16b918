"""Trials of one kind in as large pieces as fit into memory, each trained as a group."""

import gc
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from refit import backends, callbacks, data, failures, fused, fused_state, runner, training
from refit.errors import DeclarationError
from refit.fused_group import (
    Device,
    Group,
    Options,
    Places,
    TooLargeError,
    circumstances,
)
from refit.fused_state import Saved
from refit.processes import Outcome
from refit.trial import Trial

# Members at once, where nothing else is said: each holds files open.
MOST = 128
# Trials, and the state that they go on from.
Piece = tuple[list[Trial], Saved | None]


def train(
    trials: Sequence[Trial],
    places: Places,
    facts: dict[str, Any],
    wanted: Callable[[], bool],
    options: Options,
) -> dict[Trial, Outcome]:
    """Train trials of one kind, all at once or in as large pieces as fit into memory.

    `facts` and `wanted` as for `refit.training.train`. Pieces go on from what they have saved.
    Returns how each trial ended.
    """
    if not trials:
        return {}
    if len({fused.kind(trial) for trial in trials}) > 1:
        raise DeclarationError("the trials differ in more than numbers")
    training.use_one_thread(facts["workers"])
    backends.chosen().keep_compiled(places.cache / "compiled")
    options = options.resolved()
    dataset = data.load(trials[0].data, places.data_dir, places.cache)
    device = Device(dataset, facts["workers"])
    most = min(options.members or MOST, len(trials))
    found: dict[Trial, Outcome] = {}
    waiting = deque(_begun(trials, places, options))
    while waiting:
        piece, saved = waiting.popleft()
        if len(piece) > most:
            waiting.extendleft(reversed(_cut(piece, saved, most, places)))
            continue
        gc.collect()  # networks refer to themselves, and hold memory of the device
        try:
            Group(piece, saved, device, places, facts, options).train(wanted)
        except callbacks.OrphanedError:
            raise
        except Exception as error:
            left = [trial for trial in piece if runner.result_of(trial, places.folder) is None]
            fitting = _fitting(error, len(piece))
            if len(piece) > 1 and fitting:
                most = min(fitting, len(piece) - 1)
                waiting.extendleft(reversed(_begun(left, places, options)))
                continue
            told = failures.kind_of(error), failures.describe(error), traceback.format_exc()
            found |= dict.fromkeys(left, told)
    _forget(trials, found, places, options)
    return found


def _fitting(error: Exception, members: int) -> int:
    """How many members to try where more did not fit; 0 where the error is another one."""
    if isinstance(error, TooLargeError):
        return max(error.fitting, 1)
    return members // 2 if failures.kind_of(error) == "out of memory" else 0


def _begun(trials: Sequence[Trial], places: Places, options: Options) -> list[Piece]:
    """The trials in pieces: those that a saved state holds, the furthest one, and the others."""
    pieces: list[Piece] = []
    left = {str(trial.directory): trial for trial in trials}
    for _, saved in fused_state.found(places.folder, circumstances(options)):
        piece = [left.pop(name) for name, state in saved.members.items() if state and name in left]
        if piece:
            pieces.append((piece, saved))
    return [*pieces, (list(left.values()), None)] if left else pieces


def _forget(
    trials: Sequence[Trial], failed: Mapping[Trial, Outcome], places: Places, options: Options
) -> None:
    """Remove the saved states of trials that are done."""
    done = {str(trial.directory) for trial in trials if trial not in failed}
    left = {str(trial.directory) for trial in failed}
    for path, saved in fused_state.found(places.folder, circumstances(options)):
        if done & saved.members.keys() and not left & saved.members.keys():
            path.unlink(missing_ok=True)


def _cut(piece: list[Trial], saved: Saved | None, most: int, places: Places) -> list[Piece]:
    """A piece in smaller ones, whose states are saved before the larger one goes."""
    smaller = [piece[start : start + most] for start in range(0, len(piece), most)]
    if saved is None:
        return [(part, None) for part in smaller]
    states = [saved.of(part) for part in smaller]
    kept = {fused_state.write(places.folder, state) for state in states}
    whole = fused_state.path_of(places.folder, list(saved.members))
    if whole not in kept:
        whole.unlink(missing_ok=True)
    return list(zip(smaller, states, strict=True))
