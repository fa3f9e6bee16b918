"""How near trainings come to what a core can do: their arithmetic against bare products."""

import time
from functools import partial
from pathlib import Path
from typing import Any

from bench import trials
from bench.measure import Options, Series, call, in_turns

FASHION, CIFAR = ("fashion_mnist", 28), ("cifar10", 32)
ADAM, NADAM = ({"name": name, "learning_rate": 0.001} for name in ("adam", "nadam"))
SGD = {"name": "sgd", "learning_rate": 0.01}
MOMENTUM = SGD | {"momentum": 0.9}
DEEP, CNN = {"hidden_layers": 3, "width": 256}, {"convolutions": 5, "filters": 32}
PAIR = {"filters1": 8, "filters2": 8}
# Name: model, its options, the report's optimizer and batch, data set with side in pixels, training
# images, and the share of the limit that is aimed at.
NETWORKS: dict[str, tuple[str, dict[str, int], dict[str, Any], int, tuple[str, int], int, int]] = {
    "LeNet (batch 64)": ("lenet", {}, ADAM, 64, FASHION, 12_000, 37),
    "conv pair 16/16 (32)": ("conv_pair", {}, MOMENTUM, 32, FASHION, 12_000, 47),
    "conv pair 8/8 (32)": ("conv_pair", PAIR, MOMENTUM, 32, FASHION, 12_000, 34),
    "LeNet wide (32)": ("lenet_wide", {}, ADAM, 32, FASHION, 6_000, 61),
    "MLP 3x256 (32)": ("mlp", DEEP, SGD, 32, CIFAR, 12_000, 70),
    "CIFAR CNN 5x32 (32)": ("cifar_cnn", CNN, SGD, 32, CIFAR, 3_000, 73),
    "zoo CNN (32)": ("cnn", {}, ADAM, 32, FASHION, 1_500, 84),
    "handwritten CNN (32)": ("handwritten", {}, NADAM, 32, FASHION, 1_500, 57),
}
EPOCHS = 3
# Of a weight's multiplication and addition in the forward pass, and twice that in the backward one.
OPERATIONS = 6


def measure(options: Options) -> list[Series]:
    if options.data_dir is None:
        print("  left out: give DATA_DIR, a folder with Fashion-MNIST and CIFAR-10")
        return []
    data_dir = str(options.data_dir)
    samples = in_turns(
        options.rounds,
        {"limit": lambda: call(limit)}
        | {name: partial(call, training, name=name, data_dir=data_dir) for name in NETWORKS},
    )
    bare = [sample.returned for sample in samples.pop("limit")]
    most = [max(one.values()) for one in bare]
    series = [
        Series("one core, bare", what, [one[what] for one in bare], "GFLOP/s") for what in bare[0]
    ]
    for name, found in samples.items():
        pairs = list(zip(found, most, strict=True))
        shares = [100 * one.returned["gflops"] / top for one, top in pairs]
        memory = [one.returned["megabytes"] for one in found]
        aim = NETWORKS[name][-1]
        series.append(Series(name, "share of a core's limit", shares, "%", least=aim))
        series.append(Series(name, "memory of the training", memory, "MiB"))
    return series


def limit() -> dict[str, float]:
    """The GFLOP/s of one thread in a product of matrices and in a convolution."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    square = tf.random.normal((1024, 1024))
    images, kernel = tf.random.normal((32, 28, 28, 64)), tf.random.normal((3, 3, 64, 64))
    ways = {
        "product of matrices": (lambda: square @ square, 2 * 1024**3),
        "convolution": (
            lambda: tf.nn.conv2d(images, kernel, 1, "SAME"), 2 * 32 * 28**2 * 9 * 64**2,
        ),
    }  # fmt: skip
    return {name: work / _best(way) / 1e9 for name, (way, work) in ways.items()}


def _best(way: Any) -> float:
    """The seconds of one call, in the fastest of many."""
    taken = []
    for _ in range(60):
        started = time.perf_counter()
        way().numpy()
        taken.append(time.perf_counter() - started)
    return min(taken)


def training(name: str, data_dir: str) -> dict[str, float]:
    """The GFLOP/s and the memory of a training with one thread."""
    from refit import paths
    from refit.data import sets
    from refit.data.spec import DataSpec
    from refit.models import layers, networks
    from refit.run_directory import directory
    from refit.running import runner

    model, options, optimizer, batch, (source, side), images, _ = NETWORKS[name]
    spec = DataSpec(
        name=source, image_size=side, train_images=images, validation_images=32, test_images=32
    )
    spec = sets.resolve(spec, Path(data_dir)).model_dump()
    settings = {"model": {"name": model, "options": options}, "optimizer": optimizer}
    settings |= {"data": spec, "batch_size": batch, "epochs": EPOCHS}
    trial = trials.small(name="limit", **settings)
    folder = paths.runs() / "limit"
    runner.check(runner.run([trial], folder, 1, data_dir=Path(data_dir)))
    result = directory.result_of(trial, folder)
    shape = (side, side, 3 if source == CIFAR[0] else 1)
    network = networks.build(model, shape, 10, **options)
    work = OPERATIONS * layers.multiplications(network) * images
    seconds = result["metrics"]["seconds_per_epoch"]
    return {"gflops": work / seconds / 1e9, "megabytes": result["peak_memory_mb"]}
