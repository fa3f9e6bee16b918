"""Finding out that every trial is done already."""

import time

from bench import trials
from bench.measure import Options, Series, call, in_turns


def measure(options: Options) -> list[Series]:
    count = 20 if options.tiny else 500
    samples = in_turns(options.rounds, {"refit": lambda: call(check, count=count)})
    seconds = [sample.returned["seconds"] for sample in samples["refit"]]
    return [Series(f"resume check of {count} finished trials", "refit", seconds, most=1.0)]


# What else every result says.
MEASURED = {
    "metrics": dict.fromkeys(("train_accuracy", "val_accuracy", "best_val_accuracy"), 0.5)
    | dict.fromkeys(("train_loss", "val_loss", "seconds", "seconds_per_epoch"), 1.0)
    | {"epochs": 1, "classes": 10, "diverged": False},
    "data": {"source": "", "stand_in": "", "embedded": True, "classes": list("0123456789")}
    | {"train_images": 1, "validation_images": 1, "test_images": 1},
    "environment": {},
    "confusion_matrix": None,
    "started": "2026-01-01T00:00:00+00:00",
}


def check(count: int) -> dict[str, float]:
    from refit import paths
    from refit.run_directory import directory
    from refit.running import runner

    folder = paths.runs() / "done"
    some = [trials.small(index) for index in range(count)]
    for trial in some:
        # As long as a usual result, most of which are the layers.
        layers = [{"name": "dense", "type": "Dense", "output_shape": [10], "parameters": 850}] * 20
        result = {"trial": trial.model_dump(mode="json"), "digest": trial.digest, "layers": layers}
        directory.write_result(folder / trial.directory, result | MEASURED)
    started = time.perf_counter()
    summary = runner.run(some, folder, 2)
    seconds = time.perf_counter() - started
    if summary.done_before != count:
        raise RuntimeError(str(summary))
    return {"seconds": seconds}
