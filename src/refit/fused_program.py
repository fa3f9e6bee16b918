"""What the members of a group compute: one epoch, or one evaluation, of all of them at once.

Every step is Keras's own `train_step`, which on JAX is a function of its state; `jax.vmap` maps it
over the members and `jax.lax.scan` over the batches. So a member's numbers are those of the same
trial trained alone, but for the order in which floats are summed.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import keras
import numpy as np
from jax import numpy as jnp

from refit.data.arrays import Part

# A member's trainable and other variables, and those of its optimizer.
State = tuple[list[Any], list[Any], list[Any]]
NATIVE, PATCHES = CONVOLUTIONS = ("native", "patches")


class Momentum:
    """A momentum in traced code, where Keras asks first whether it is zero: here it never is."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __ne__(self, other: object) -> bool:
        return True

    def __jax_array__(self) -> Any:
        return self.value


class DropoutRate:
    """A dropout rate in traced code, of which Keras asks whether it is above 0 and 1 minus it.

    It holds what is kept, rounded only once, so that the mask is the one of a plain rate.
    """

    def __init__(self, kept: Any) -> None:
        self.kept = kept

    def __gt__(self, other: object) -> bool:
        return True

    def __rsub__(self, other: object) -> Any:
        return self.kept


_KINDS: dict[str, Callable[[Any], Any]] = {"momentum": Momentum, "rate": DropoutRate}


def numbers(model: keras.Model) -> dict[str, float]:
    """The plain numbers of a network and its optimizer in which members may differ."""
    found = {
        f"optimizer {name}": getattr(model.optimizer, name)
        for name in ("momentum", "l2", "decay")
        if hasattr(model.optimizer, name)
    }
    return found | {f"{n} rate": 1.0 - layer.rate for n, layer in enumerate(_dropouts(model))}


def differing(members: Sequence[dict[str, float]]) -> dict[str, np.ndarray]:
    """Of the members' `numbers`, those that are not the same for all, an array (members,) each."""
    columns = {name: [member[name] for member in members] for name in members[0]}
    return {
        name: np.array(values, keras.config.floatx())
        for name, values in columns.items()
        if len(set(values)) > 1
    }


def _dropouts(model: keras.Model) -> list[keras.layers.Layer]:
    kinds = (keras.layers.Dropout, keras.layers.SpatialDropout2D)
    return [layer for layer in model.layers if isinstance(layer, kinds)]


@contextlib.contextmanager
def _with_numbers(model: keras.Model, own: dict[str, Any]) -> Iterator[None]:
    """Let a network have one member's own numbers while its step is traced."""
    before = []
    for key, value in own.items():
        place, name = key.split()
        owner = model.optimizer if place == "optimizer" else _dropouts(model)[int(place)]
        before.append((owner, name, getattr(owner, name)))
        setattr(owner, name, _KINDS.get(name, lambda plain: plain)(value))
    try:
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


def by_patches(layer: keras.layers.Layer) -> None:
    """Let a convolution be cut into patches and multiplied with its kernel.

    Mapped over members, a convolution becomes one in groups, which is slow on a CPU, and a product
    becomes a batch of products, which is not.
    """

    def convolution_op(inputs: Any, kernel: Any) -> Any:
        kernel = keras.ops.convert_to_tensor(kernel)
        size, strides = kernel.shape[:2], layer.strides
        pads = jax.lax.padtype_to_pads(inputs.shape[1:3], size, strides, layer.padding.upper())
        inputs = jnp.pad(inputs, ((0, 0), *pads, (0, 0)))
        ends = [
            (whole - width) // stride * stride + 1
            for whole, width, stride in zip(inputs.shape[1:3], size, strides, strict=True)
        ]
        pieces = [
            inputs[:, row : row + ends[0] : strides[0], column : column + ends[1] : strides[1]]
            for row in range(size[0])
            for column in range(size[1])
        ]
        return jnp.concatenate(pieces, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])

    layer.convolution_op = convolution_op


def use_convolution(model: keras.Model, way: str) -> None:
    """Let the network's convolutions be computed in one of CONVOLUTIONS."""
    for layer in model.layers if way == PATCHES else ():
        plain = isinstance(layer, keras.layers.Conv2D) and type(layer) is keras.layers.Conv2D
        if plain and layer.groups == 1 and set(layer.dilation_rate) == {1}:
            by_patches(layer)


class Images:
    """A part's images, as bytes, and its labels in the memory of the device."""

    def __init__(self, part: Part) -> None:
        self.images = jax.device_put(np.asarray(part.images))
        self.labels = jax.device_put(np.asarray(part.labels, np.int32))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def nbytes(self) -> int:
        return self.images.nbytes + self.labels.nbytes


class Program:
    """Epochs and evaluations of all members at once, for batches of these sizes.

    `model` is compiled, and lends its layers; its own variables are not touched. The `state` of
    the members and what they have of their `own` are stacked along a first axis.
    """

    def __init__(self, model: keras.Model, batch_size: int, evaluated: int, train: Images) -> None:
        self.model = model
        self.batch_size = batch_size
        self.evaluated = evaluated
        shape = (batch_size, *train.images.shape[1:])
        model._symbolic_build(
            data_batch=(np.zeros(shape, np.float32), np.zeros(batch_size, np.int32))
        )
        model.reset_metrics()
        self._metrics = [jnp.asarray(variable.value) for variable in model.metrics_variables]
        self._compiled: dict[Any, Any] = {}

    def epoch(
        self, state: State, own: dict[str, Any], order: np.ndarray, train: Images
    ) -> tuple[State, dict[str, np.ndarray]]:
        """One epoch in the `order` of each member (members, images), or of all (images,).

        The given state is used up. Returns the new one and, by name, loss and metrics (members,).
        """
        arguments = (state, own, jnp.asarray(order, jnp.int32), train.images, train.labels)
        state, logs = self._compile("epoch", order.ndim, arguments)(*arguments)
        return state, {name: np.asarray(values) for name, values in logs.items()}

    def evaluate(self, state: State, images: Images) -> dict[str, np.ndarray]:
        """Loss and metrics (members,) by name, in evaluation mode."""
        arguments = (state[:2], images.images, images.labels)
        logs = self._compile("evaluate", len(images), arguments)(*arguments)
        return {name: np.asarray(values) for name, values in logs.items()}

    def bytes_needed(
        self, state: State, own: dict[str, Any], order: np.ndarray, images: Sequence[Images]
    ) -> int:
        """What the largest of the programs takes on the device, in bytes; 0 where it is unknown."""
        arguments = (state, own, jnp.asarray(order, jnp.int32), images[0].images, images[0].labels)
        programs = [self._compile("epoch", order.ndim, arguments)]
        for part in images:
            arguments = (state[:2], part.images, part.labels)
            programs.append(self._compile("evaluate", len(part), arguments))
        return max(map(_bytes, programs))

    def _compile(self, name: str, variant: int, arguments: tuple[Any, ...]) -> Any:
        """The compiled function for as many members as the arguments have."""
        members = jax.tree.leaves(arguments[0])[0].shape[0]
        key = name, variant, members
        if key not in self._compiled:
            axes = (0, 0, 0 if variant == 2 else None) if name == "epoch" else (0,)
            mapped = jax.vmap(getattr(self, f"_{name}"), in_axes=(*axes, None, None))
            used_up = (0,) if name == "epoch" else ()
            traced = jax.jit(mapped, donate_argnums=used_up).lower(*arguments)
            self._compiled[key] = traced.compile()
        return self._compiled[key]

    def _epoch(
        self, state: State, own: dict[str, Any], order: Any, images: Any, labels: Any
    ) -> tuple[State, dict[str, Any]]:
        """One member's epoch. A last batch with fewer images is a step of its own size, because
        batch normalisation must not see others."""

        def step(state: Any, chosen: Any) -> tuple[Any, dict[str, Any]]:
            batch = _scaled(images[chosen]), labels[chosen]
            with _with_numbers(self.model, own):
                logs, state = self.model.train_step(state, batch)
            return tuple(map(list, state)), logs

        *state, _, logs = _over_batches(step, (*state, self._metrics), order, self.batch_size)
        return tuple(state), logs

    def _evaluate(
        self, state: tuple[list[Any], list[Any]], images: Any, labels: Any
    ) -> dict[str, Any]:
        def step(metrics: Any, chosen: Any) -> tuple[Any, dict[str, Any]]:
            batch = _scaled(images[chosen]), labels[chosen]
            logs, (*_, metrics) = self.model.test_step((*state, metrics), batch)
            return list(metrics), logs

        order = jnp.arange(len(labels))
        return _over_batches(step, self._metrics, order, self.evaluated)[-1]


def _over_batches(
    step: Callable[[Any, Any], tuple[Any, dict[str, Any]]], state: Any, order: Any, size: int
) -> tuple[Any, ...]:
    """Take a step for every batch of positions; returns the last state and the last logs."""
    whole = len(order) // size * size
    logs: dict[str, Any] = {}
    if whole:
        state, all_logs = jax.lax.scan(step, state, order[:whole].reshape(-1, size))
        logs = {name: values[-1] for name, values in all_logs.items()}
    if whole < len(order):
        state, logs = step(state, order[whole:])
    return (*state, logs) if isinstance(state, tuple) else (state, logs)


def _scaled(images: Any) -> Any:
    """Bytes as 0..1, divided as elsewhere: XLA would multiply by the reciprocal of a constant,
    which is rounded."""
    return images.astype(jnp.float32) / jax.lax.optimization_barrier(jnp.float32(255))


def _bytes(compiled: Any) -> int:
    found = compiled.memory_analysis()
    if found is None:
        return 0
    sizes = found.temp_size_in_bytes, found.argument_size_in_bytes, found.output_size_in_bytes
    return sum(sizes) - found.alias_size_in_bytes


def stack(states: Sequence[State]) -> State:
    """The states of members (lists of arrays) as one, along a new first axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


def state_of(model: keras.Model) -> State:
    """A network's variables and its optimizer's, as arrays."""
    return tuple([np.asarray(variable.value) for variable in found] for found in _kinds(model))


def load(model: keras.Model, state: State, place: int) -> None:
    """Give a network the variables of the member at a place."""
    for variables, leaves in zip(_kinds(model), state, strict=True):
        for variable, leaf in zip(variables, leaves, strict=True):
            variable.assign(leaf[place])


def in_order(model: keras.Model, state: State) -> list[Any]:
    """The arrays of a state in the order of a checkpoint: the model's, then the optimizer's."""
    found = {}
    for variables, leaves in zip(_kinds(model), state, strict=True):
        found |= zip(map(id, variables), leaves, strict=True)
    return [found[id(variable)] for variable in _in_order(model)]


def from_order(model: keras.Model, arrays: Sequence[Any]) -> State:
    """The state whose arrays come in the order of a checkpoint."""
    found = dict(zip(map(id, _in_order(model)), arrays, strict=True))
    return tuple([found[id(variable)] for variable in variables] for variables in _kinds(model))


def shapes_in_order(model: keras.Model) -> list[tuple[int, ...]]:
    """The shapes of the arrays that a checkpoint of one member has."""
    return [tuple(variable.shape) for variable in _in_order(model)]


def _in_order(model: keras.Model) -> list[Any]:
    return [*model.variables, *model.optimizer.variables]


def _kinds(model: keras.Model) -> tuple[list[Any], list[Any], list[Any]]:
    return model.trainable_variables, model.non_trainable_variables, model.optimizer.variables


def bytes_of(model: keras.Model) -> int:
    """What one member holds at the least: its variables, and a gradient for those that learn."""
    leaves = jax.tree.leaves(state_of(model)) + [v.value for v in model.trainable_variables]
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)
