"""How near trainings come to what a core can do: their arithmetic against bare products."""

import time
from typing import Any

from bench import trials
from bench.measure import Options, Series, call, in_turns

# Name: model, batch, training images, side in pixels, and the share of the limit that is aimed at.
NETWORKS: dict[str, tuple[dict[str, Any], int, int, int, float]] = {
    "LeNet (batch 64)": ({"name": "lenet"}, 64, 1200, 28, 37),
    "conv pair 16/16 (32)": ({"name": "conv_pair"}, 32, 1200, 28, 47),
    "conv pair 8/8 (32)": (
        {"name": "conv_pair", "options": {"filters1": 8, "filters2": 8}}, 32, 1200, 28, 34,
    ),
    "LeNet wide (32)": ({"name": "lenet_wide"}, 32, 1200, 28, 61),
    "MLP 3x256 (32)": (
        {"name": "mlp", "options": {"hidden_layers": 3, "width": 256}}, 32, 1200, 32, 70,
    ),
    "CIFAR CNN 5x32 (32)": (
        {"name": "cifar_cnn", "options": {"convolutions": 5, "filters": 32}}, 32, 640, 32, 73,
    ),
    "zoo CNN (32)": ({"name": "cnn"}, 32, 320, 28, 84),
    "handwritten CNN (32)": ({"name": "handwritten"}, 32, 320, 28, 57),
}  # fmt: skip
EPOCHS = 5
# Of a weight's multiplication and addition in the forward pass, and twice that in the backward one.
OPERATIONS = 6


def measure(options: Options) -> list[Series]:
    names = list(NETWORKS)[:1] if options.tiny else list(NETWORKS)
    samples = in_turns(
        options.rounds,
        {"limit": lambda: call(limit)}
        | {name: lambda name=name: call(training, name=name) for name in names},
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


def training(name: str) -> dict[str, float]:
    """The GFLOP/s and the memory of a training with one thread."""
    from refit import paths
    from refit.models import layers, networks
    from refit.run_directory import directory
    from refit.running import runner

    model, batch, images, side, _ = NETWORKS[name]
    data = trials.DIGITS | {"train_images": images, "validation_images": 32, "test_images": 32}
    if colour := side == 32:
        data |= {"name": "digits_colour", "image_size": side}
    changes = {"model": model, "batch_size": batch, "data": data, "epochs": EPOCHS}
    trial = trials.small(name="limit", **changes)
    folder = paths.runs() / "limit"
    runner.check(runner.run([trial], folder, 1))
    result = directory.result_of(trial, folder)
    shape = (side, side, 3 if colour else 1)
    network = networks.build(model["name"], shape, 10, **model.get("options", {}))
    work = OPERATIONS * layers.multiplications(network) * images
    seconds = result["metrics"]["seconds_per_epoch"]
    return {"gflops": work / seconds / 1e9, "megabytes": result["peak_memory_mb"]}
