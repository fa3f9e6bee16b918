"""A group of trials that are trained together: its epochs, its memory, its results.

A member that stops early leaves its result at once; where no more than half are left, the group
becomes smaller.
"""

import itertools
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import jax
import keras
import numpy as np
import psutil

from refit import backends
from refit.data.arrays import Dataset
from refit.errors import DeclarationError
from refit.experiments.trial import Trial
from refit.fused_member import Member, StandIn
from refit.fused_program import (
    CONVOLUTIONS,
    NATIVE,
    PATCHES,
    Images,
    Program,
    State,
    bytes_of,
    differing,
    from_order,
    in_order,
    load,
    numbers,
    shapes_in_order,
    stack,
    state_of,
    use_convolution,
)
from refit.run_directory.directory import CHECKPOINT
from refit.training import callbacks, checkpoint, circumstances, fit, hardware
from refit.training.assessment import environment

# Shares of the memory that a group may fill: of a GPU's, and of what a computer has free.
GPU_SHARE, HOST_SHARE = 0.9, 0.5
# In seconds: how often members tell how far they are, and how much longer than saving takes the
# training goes on before the next time.
SIGN, SAVING = 5.0, 10
NOTE = (
    "trained together with others: its times are the group's, divided by its members, and are no "
    "measure of this training"
)


@dataclass(frozen=True)
class Options:
    """How groups are trained: at most so many `members` at once (as many as fit where None), with
    which `convolution` (patches on a CPU, native elsewhere, where None); the state is saved every
    `save_seconds`, or after every epoch where that is 0."""

    members: int | None = None
    convolution: str | None = None
    save_seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.convolution not in (None, *CONVOLUTIONS):
            raise DeclarationError(
                f"convolution is {self.convolution!r}; known: {', '.join(CONVOLUTIONS)}"
            )

    def resolved(self) -> "Options":
        """The same with the convolution that suits the device; asks JAX for it."""
        suits = PATCHES if jax.devices()[0].platform == "cpu" else NATIVE
        return replace(self, convolution=self.convolution or suits)


@dataclass(frozen=True)
class Places:
    """The folder of the runs, that of the data, and the cache."""

    folder: Path
    data_dir: Path | None
    cache: Path


class TooLargeError(Exception):
    """So many members do not fit into memory, but `fitting` may."""

    def __init__(self, fitting: int) -> None:
        super().__init__(f"{fitting} members may fit into memory")
        self.fitting = fitting


class UnusableError(Exception):
    """The checkpoints of some `trials` are damaged, or of other networks."""

    def __init__(self, trials: list[Trial]) -> None:
        super().__init__(f"{len(trials)} checkpoints cannot be gone on from")
        self.trials = trials


def circumstances_of(options: Options) -> dict[str, Any]:
    """How groups are computed with these options."""
    return circumstances.under(keras.backend.backend(), True, str(options.convolution))


class Device:
    """A data set in the memory of the device, and how much memory there is for each of the
    `workers` that share it."""

    def __init__(self, dataset: Dataset, workers: int) -> None:
        self.dataset = dataset
        self.train = Images(dataset.train)
        self.validation = Images(dataset.validation)
        stats = jax.devices()[0].memory_stats() or {}
        free = HOST_SHARE * psutil.virtual_memory().available
        whole = GPU_SHARE * stats["bytes_limit"] if "bytes_limit" in stats else free
        self.memory = whole / workers


class Group:
    """Members that are trained at once, from their beginning or from the `epoch` at which all of
    their checkpoints are.

    Raises TooLargeError, and UnusableError where some of the checkpoints cannot be read.
    """

    def __init__(
        self,
        trials: Sequence[Trial],
        epoch: int,
        device: Device,
        places: Places,
        facts: dict[str, Any],
        options: Options,
    ) -> None:
        self.trials = list(trials)
        self.size = len(trials)
        self.device, self.places, self.facts, self.options = device, places, facts, options
        self.started = datetime.now(UTC)
        self.first = trials[0]
        self.evaluated = fit.evaluation_batch(self.first)
        models = map(self._new_model, trials)
        self.template = next(models)
        if (most := int(device.memory // bytes_of(self.template))) < len(trials) > 1:
            raise TooLargeError(most)
        self._states, saved = self._saved() if epoch else ([{}] * self.size, [])
        found = []
        for model in itertools.chain([self.template], models):
            found.append(numbers(model))
            if not epoch:
                saved.append(state_of(model))
        self.own = differing(found)
        self.state = stack(saved)
        use_convolution(self.template, options.convolution)
        self.program = Program(self.template, self.first.batch_size, self.evaluated, device.train)
        self.epoch = self.begun_at = epoch
        self.members: list[Member | None] = [None] * len(trials)
        self._saved_at = time.monotonic()
        self._told_at = -math.inf
        self._saving = 0.0

    def _new_model(self, trial: Trial) -> keras.Model:
        backends.chosen().set_seed(trial.seed)
        dataset = self.device.dataset
        shape = dataset.train.images.shape[1:]
        return fit.build_model(trial, shape, len(dataset.class_names))

    def _saved(self) -> tuple[list[dict[str, Any]], list[State]]:
        """What the members' recorders had, and their variables, as their checkpoints have them."""
        shapes = shapes_in_order(self.template)
        paths = [self.places.folder / trial.directory / CHECKPOINT for trial in self.trials]
        found = [checkpoint.read_checkpoint(path) for path in paths]
        damaged = [
            trial
            for trial, (_, arrays) in zip(self.trials, found, strict=True)
            if [array.shape for array in arrays] != shapes
        ]
        if damaged:
            raise UnusableError(damaged)
        states = [from_order(self.template, arrays) for _, arrays in found]
        return [state for state, _ in found], states

    @property
    def alive(self) -> dict[int, Member]:
        """The members that are still trained, by their places."""
        return {place: member for place, member in enumerate(self.members) if member}

    def train(self, wanted: Callable[[], bool]) -> None:
        """Train to the end. Every member's result is written when its training ends.

        Where SIGTERM asks for it, or nobody waits for the results any more, the epoch at work is
        finished and saved, and OrphanedError raised.
        """
        self._check_memory()
        with ExitStack() as opened:
            self._begin(opened)
            asked = opened.enter_context(_asked_to_end())
            while self.alive:
                self._shrink()
                for place in self._train_epoch():
                    self._finish(place)
                if asked or not wanted():
                    self._save()
                    raise callbacks.OrphanedError("nobody waits for this training any more")
                self._save_now_and_then()
                self._tell()

    def _check_memory(self) -> None:
        """Raise TooLargeError where the compiled programs would take more than there is."""
        parts = [self.device.validation]
        if self.first.evaluate_train or self.first.evaluate_untrained:
            parts.append(self.device.train)
        parts.insert(0, self.device.train)
        needed = self.program.bytes_needed(self.state, self.own, self._order(), parts)
        if needed > self.device.memory and len(self.trials) > 1:
            common = self.device.train.nbytes + self.device.validation.nbytes
            each = max((needed - common) / len(self.trials), 1)
            raise TooLargeError(int((self.device.memory - common) / each))

    def _begin(self, opened: ExitStack) -> None:
        untrained: list[dict[str, np.ndarray]] = []
        if self.first.evaluate_untrained and not self.epoch:
            parts = self.device.train, self.device.validation
            untrained = [self.program.evaluate(self.state, part) for part in parts]
        for place, trial in enumerate(self.trials):
            run_dir = self.places.folder / trial.directory
            fit.prepare(trial, run_dir)
            rate = float(self._rates()[place])
            model = StandIn(rate, self.template.metrics, partial(self._loaded, trial))
            facts = self.facts["workers"], model, circumstances_of(self.options)
            member = self.members[place] = Member(trial, run_dir, *facts)
            opened.callback(member.close)
            member.begin(self._states[place], tuple(_at(found, place) for found in untrained))

    def _order(self) -> np.ndarray:
        """The order of the images in this epoch, for each member, or for all."""
        images = len(self.device.train)
        if not self.first.shuffle:
            return np.arange(images, dtype=np.int32)
        orders = [
            np.random.default_rng([trial.seed, self.epoch]).permutation(images)
            for trial in self.trials
        ]
        return np.array(orders, np.int32)

    def _train_epoch(self) -> list[int]:
        """Train and evaluate all members; returns the places of those for which it was the last."""
        started = time.perf_counter()
        for member in self.alive.values():
            member.begin_epoch()
        train, validation = self.device.train, self.device.validation
        self.state, logs = self.program.epoch(self.state, self.own, self._order(), train)
        measured = self.program.evaluate(self.state, validation)
        logs |= {f"val_{name}": values for name, values in measured.items()}
        if self.first.evaluate_train:
            again = self.program.evaluate(self.state, train)
            logs |= {f"evaluated_{name}": again[name] for name in ("accuracy", "loss")}
        share = (time.perf_counter() - started) / len(self.alive)
        self.epoch += 1
        alive = self.alive.items()
        ended = [place for place, member in alive if member.end_epoch(_at(logs, place), share)]
        self._set_rates()
        return ended

    def _finish(self, place: int) -> None:
        """Write the result of a member, which then is no longer one."""
        member = self.members[place]
        assert member is not None
        member.recorder.write()
        result = fit.told_of(
            self._loaded(member.trial),
            member.trial,
            self.device.dataset,
            member.recorder,
            member.log,
            self.evaluated,
        )
        member.close()
        self.members[place] = None
        workers = {"workers": member.recorder.workers}
        result |= {
            "fused": {
                "members": self.size,
                "seconds": sum(member.shares),
                "seconds_per_epoch": member.seconds_per_epoch,
                "convolution": self.options.convolution,
                "note": NOTE,
            },
            "environment": environment() | self.facts | workers,
            "started": self.started.isoformat(timespec="seconds"),
            "wall_seconds": math.nan,
            "resumed_at_epoch": self.begun_at,
            "peak_memory_mb": hardware.peak_memory(),
        }
        fit.store_result(result, member.run_dir, [member.run_dir / CHECKPOINT])

    def _shrink(self) -> None:
        """Where at most half of the places have a member left, keep a power of two of them."""
        alive = list(self.alive)
        size = 1 << (len(alive) - 1).bit_length()
        if size > len(self.members) // 2:
            return
        gone = [place for place in range(len(self.members)) if place not in self.alive]
        kept = sorted(alive + gone[: size - len(alive)])
        self.trials = [self.trials[place] for place in kept]
        self.members = [self.members[place] for place in kept]
        places = np.array(kept)
        self.state = jax.tree.map(lambda leaf: leaf[places], self.state)
        self.own = {name: values[places] for name, values in self.own.items()}

    def _loaded(self, trial: Trial) -> keras.Model:
        """The network, with the weights of a member."""
        load(self.template, self.state, self.trials.index(trial))
        return self.template

    def _rate_leaf(self) -> int:
        names = [variable.name for variable in self.template.optimizer.variables]
        return names.index("learning_rate")

    def _rates(self) -> np.ndarray:
        return np.asarray(self.state[2][self._rate_leaf()])

    def _set_rates(self) -> None:
        """Let the optimizers have the rates that the callbacks have set."""
        rates = self._rates().copy()
        for place, member in self.alive.items():
            rates[place] = member.model.optimizer.learning_rate
        self.state[2][self._rate_leaf()] = jax.device_put(rates)

    def _save_now_and_then(self) -> None:
        due = self.options.save_seconds and max(self.options.save_seconds, SAVING * self._saving)
        if time.monotonic() - self._saved_at < due:
            return
        started = time.monotonic()
        self._save()
        self._saved_at = time.monotonic()
        self._saving = self._saved_at - started

    def _save(self) -> None:
        """Write the checkpoints of all members that are left, then the events that lack epochs.

        Each array is fetched from the device once, for all members.
        """
        if not self.alive:
            return
        arrays = [np.asarray(leaf) for leaf in in_order(self.template, self.state)]
        for place, member in self.alive.items():
            member.recorder.save([array[place] for array in arrays])
        for member in self.alive.values():
            member.recorder.write()

    def _tell(self) -> None:
        """Tell now and then how far the members are."""
        if time.monotonic() - self._told_at < SIGN:
            return
        self._told_at = time.monotonic()
        for member in self.alive.values():
            member.recorder.tell()


@contextmanager
def _asked_to_end() -> Iterator[list[int]]:
    """A list that is empty until SIGTERM comes, which would otherwise end the process at once."""
    asked: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)


def _at(values: Mapping[str, np.ndarray], place: int) -> dict[str, float]:
    """The numbers of the member at a place."""
    return {name: float(column[place]) for name, column in values.items()}
