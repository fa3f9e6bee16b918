"""Trainings on Fashion-MNIST: parallel workers, and one alone, against `fit` on NumPy arrays."""

import time
from pathlib import Path
from typing import Any

from bench import fixed_cost, plain_keras, trials
from bench.measure import Options, Sample, Series, call, in_turns
from refit.experiments.trial import Trial

TRAININGS = 4
# Name, model, epochs, images, and how many times faster four of them, and one alone, must be.
NETWORKS = {
    "LeNet": ({"name": "lenet"}, 3, 12_000, 2.5, 1.4),
    "conv_pair (0.9 M parameters)": ({"name": "conv_pair"}, 2, 6_000, 1.7, 1.8),
}
EPOCHS_ALONE = 4


def measure(options: Options) -> list[Series]:
    if options.data_dir is None:
        print("  left out: give DATA_DIR, a folder with Fashion-MNIST")
        return []
    series = []
    for name in NETWORKS:
        series += _together(name, options) + _alone(name, options)
    return series


def _together(name: str, options: Options) -> list[Series]:
    samples = _in_turns(name, options, sequential, parallel)
    _, epochs, images, factor, _ = NETWORKS[name]
    what = f"{TRAININGS} trainings of {name} ({images:,} images of Fashion-MNIST, {epochs} epochs)"
    refit = Series(what, "refit, 2 workers", _returned(samples["parallel"]))
    plain = "fit on NumPy arrays, default threads, one after another"
    return [
        refit,
        Series(what, plain, _returned(samples["sequential"]), against=refit, least_ratio=factor),
    ]


def _alone(name: str, options: Options) -> list[Series]:
    samples = _in_turns(name, options, plain_alone, refit_alone)
    what = f"an epoch of one training of {name} (batch 32)"
    refit = Series(what, "refit, one thread", _returned(samples["refit_alone"]))
    plain = _returned(samples["plain_alone"])
    return [
        refit,
        Series(
            what,
            "fit on NumPy arrays, one thread",
            plain,
            against=refit,
            least_ratio=NETWORKS[name][-1],
        ),
    ]


def _in_turns(name: str, options: Options, *functions: Any) -> dict[str, list[Sample]]:
    arguments = {"name": name, "data_dir": str(options.data_dir)}
    return in_turns(
        options.rounds,
        {
            function.__name__: lambda function=function: call(function, **arguments)
            for function in functions
        },
    )


def _returned(samples: list[Sample]) -> list[float]:
    return [sample.returned["seconds"] for sample in samples]


def training(name: str, seed: int, **changes: Any) -> Trial:
    model, epochs, images, *_ = NETWORKS[name]
    spec = {"name": "fashion_mnist", "validation": "test", "train_images": images}
    spec |= {"validation_images": 1000, "test_images": 1000}
    settings = {"name": f"seed{seed}", "data": spec, "model": model, "epochs": epochs}
    return trials.small(seed=seed, **settings | changes)


def sequential(name: str, data_dir: str) -> dict[str, float]:
    parts = plain_keras.arrays(training(name, 0), Path(data_dir))
    plain_keras.fit(trials.one_step(), plain_keras.arrays(trials.one_step()))
    started = time.perf_counter()
    for seed in range(TRAININGS):
        plain_keras.fit(training(name, seed), parts)
    return {"seconds": time.perf_counter() - started}


def parallel(name: str, data_dir: str) -> dict[str, float]:
    from refit import paths
    from refit.running import runner

    _decode(name, data_dir)
    fixed_cost.warm_up()
    some = [training(name, seed) for seed in range(TRAININGS)]
    started = time.perf_counter()
    runner.check(runner.run(some, paths.runs() / "together", 2, data_dir=Path(data_dir)))
    return {"seconds": time.perf_counter() - started}


def plain_alone(name: str, data_dir: str) -> dict[str, float]:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    trial = training(name, 0, epochs=EPOCHS_ALONE)
    parts = plain_keras.arrays(trial, Path(data_dir))
    return {"seconds": plain_keras.seconds_per_epoch(trial, parts)}


def refit_alone(name: str, data_dir: str) -> dict[str, float]:
    from refit import paths
    from refit.run_directory import directory
    from refit.running import runner

    trial = training(name, 0, epochs=EPOCHS_ALONE)
    folder = paths.runs() / "alone"
    runner.check(runner.run([trial], folder, 1, data_dir=Path(data_dir)))
    result = directory.result_of(trial, folder)
    return {"seconds": result["metrics"]["seconds_per_epoch"]}


def _decode(name: str, data_dir: str) -> None:
    """Read the files once, as the other way does before its clock starts."""
    plain_keras.arrays(training(name, 0), Path(data_dir))
