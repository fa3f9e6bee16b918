"""What a step of training spends its time on, operation by operation."""

import re
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path

from bench import trials
from bench.limit import CIFAR, NETWORKS
from bench.measure import Options, Series, call, in_turns

# An operation is recorded as "where/it/stands:Type"; what TensorFlow does around it otherwise.
OPERATION = re.compile(r"[^:\s]+:(_?[A-Z]\w*)")
PRODUCTS = "products and convolutions"
UPDATE = "the optimizer's update"
OTHERS = "pooling, activations, loss and metrics"
AROUND = "around the operations"


def measure(options: Options) -> list[Series]:
    names = list(NETWORKS)[: 1 if options.tiny else None]
    samples = in_turns(options.rounds, {name: partial(call, shares, name=name) for name in names})
    return [
        Series(name, f"share of a step's time: {part}", [s.returned[part] for s in found], "%")
        for name, found in samples.items()
        for part in (PRODUCTS, UPDATE, OTHERS, AROUND)
    ]


def shares(name: str) -> dict[str, float]:
    """The percentages of a step's time with one thread, as TensorFlow's profiler sees it.

    The images are noise: how long a step takes does not depend on them.
    """
    import numpy as np
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    from refit.data.arrays import Part
    from refit.training import feed, fit

    model, options, optimizer, batch, (source, side), images, _ = NETWORKS[name]
    settings = {"model": {"name": model, "options": options}, "optimizer": optimizer}
    data = trials.DIGITS | {"train_images": images}
    trial = trials.small(**settings, data=data, batch_size=batch, epochs=100)
    fit.prepare_process(workers=2)
    rng = np.random.default_rng(0)
    shape = (side, side, 3 if source == CIFAR[0] else 1)
    noise = rng.integers(0, 256, (images, *shape), np.uint8)
    part = Part(noise, rng.integers(0, 10, images, np.int32), np.arange(images))
    shown = feed.batches(part, batch)
    network = fit.build_model(trial, shape, 10)
    network.fit(shown, verbose=0)
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            started = time.perf_counter()
            network.fit(shown, verbose=0)
            whole = time.perf_counter() - started
        (found,) = Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(found.read_bytes())
    spent: Counter[str] = Counter()
    for plane in space.planes:
        for event in (event for line in plane.lines for event in line.events):
            operation = OPERATION.fullmatch(plane.event_metadata[event.metadata_id].name)
            if operation:
                spent[_kind(operation, network.optimizer.name)] += event.duration_ps / 1e12
    spent[AROUND] = whole - spent.total()
    return {kind: 100 * seconds / whole for kind, seconds in spent.items()}


def _kind(operation: re.Match[str], optimizer: str) -> str:
    if any(name in operation[1] for name in ("MatMul", "Conv2D")):
        return PRODUCTS
    return UPDATE if f"/{optimizer}/" in operation[0] else OTHERS
