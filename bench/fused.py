"""Trainings of LeNet that differ in seed and rate: as one program on JAX, against one by one."""

import json
import os
from pathlib import Path
from typing import Any

from bench import trials
from bench.measure import Options, Sample, Series, command, in_turns
from refit.experiments.trial import Trial

MEMBERS, EPOCHS, IMAGES = 8, 3, 1_000


def measure(options: Options) -> list[Series]:
    size = {"members": 2 if options.tiny else MEMBERS, "images": 64 if options.tiny else IMAGES}
    size |= {"epochs": 2 if options.tiny else EPOCHS, "data_dir": str(options.data_dir or "")}
    samples = in_turns(
        options.rounds,
        {
            "patches": lambda: _on("jax", "together", convolution="patches", **size),
            "native": lambda: _on("jax", "together", convolution="native", **size),
            "jax": lambda: _on("jax", "one_by_one", **size),
            "tensorflow": lambda: _on("tensorflow", "one_by_one", **size),
        },
    )
    ways = {
        "patches": "together on JAX, convolutions as products of patches",
        "native": "together on JAX, convolutions as they are",
        "jax": "one by one on JAX, one process at a time",
        "tensorflow": "one by one on TensorFlow, one process at a time",
    }
    of = "Fashion-MNIST" if options.data_dir else "digits"
    what = f"{size['members']} trainings of LeNet ({size['images']:,} {of}, {size['epochs']} epochs"
    whole = {way: [sample.seconds for sample in found] for way, found in samples.items()}
    epoch = {
        way: [sample.returned["seconds"] for sample in found] for way, found in samples.items()
    }
    return [
        *_compared(f"{what}, with all start-up)", ways, whole),
        *_compared(f"{what}), an epoch of all but the first", ways, epoch),
    ]


def _compared(what: str, ways: dict[str, str], values: dict[str, list[float]]) -> list[Series]:
    """A row per way, of which the first is what the others are compared with."""
    first, *others = ways
    refit = Series(what, ways[first], values[first])
    return [refit, *(Series(what, ways[way], values[way], against=refit) for way in others)]


def _on(backend: str, name: str, **arguments: Any) -> Sample:
    words = ["-m", "bench.call", __name__, name, json.dumps(arguments)]
    return command(words, None, {"KERAS_BACKEND": backend})


def some(members: int, images: int, epochs: int, data_dir: str) -> list[Trial]:
    parts = {"train_images": images, "validation_images": 500, "test_images": 500}
    spec: dict[str, Any] = {"name": "fashion_mnist", "validation": "test"}
    if not data_dir:
        parts = {"train_images": min(images, 1000), "validation_images": 200, "test_images": 200}
        spec = trials.DIGITS
    return [
        trials.small(index, seed=index, data=spec | parts, epochs=epochs)
        for index in range(members)
    ]


def together(convolution: str, data_dir: str, **size: int) -> dict[str, float]:
    """The seconds that an epoch of all members takes, without the first, which compiles."""
    from refit import fused, paths
    from refit.run_directory import directory

    group, folder = some(data_dir=data_dir, **size), paths.runs() / "together"
    plain = [trial.model_dump(mode="json") for trial in group]
    facts = {"workers": 1, "git_revision": ""}
    place = Path(data_dir) if data_dir else None
    told = fused.train_together(plain, folder, place, paths.cache(), facts, convolution=convolution)
    if any(kind for kind, _, _ in told):
        raise RuntimeError(f"{told}")
    results = [directory.result_of(trial, folder) for trial in group]
    return {"seconds": sum(result["fused"]["seconds_per_epoch"] for result in results)}


def one_by_one(data_dir: str, **size: int) -> dict[str, float]:
    """The seconds that an epoch of each takes, added up, without the first."""
    from refit import paths
    from refit.run_directory import directory
    from refit.running import runner

    os.environ["TQDM_DISABLE"] = "1"
    group, folder = some(data_dir=data_dir, **size), paths.runs() / "alone"
    place = Path(data_dir) if data_dir else None
    runner.check(runner.run(group, folder, 1, data_dir=place))
    results = [directory.result_of(trial, folder) for trial in group]
    return {"seconds": sum(result["metrics"]["seconds_per_epoch"] for result in results)}
