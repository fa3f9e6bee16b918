"""Finding out that every trial is done already."""

import time

from bench import trials
from bench.measure import Options, Series, call, in_turns


def measure(options: Options) -> list[Series]:
    count = 20 if options.tiny else 500
    samples = in_turns(options.rounds, {"refit": lambda: call(check, count=count)})
    seconds = [sample.returned["seconds"] for sample in samples["refit"]]
    return [Series(f"resume check of {count} finished trials", "refit", seconds, most=1.0)]


def check(count: int) -> dict[str, float]:
    from refit import files, paths
    from refit.run_directory import directory
    from refit.running import runner

    folder = paths.runs() / "done"
    some = [trials.small(index) for index in range(count)]
    for trial in some:
        # As long as a usual result, most of which are the layers.
        layers = [{"name": "dense", "type": "Dense", "output_shape": [10], "parameters": 850}] * 20
        result = {"digest": trial.digest, "metrics": {}, "layers": layers}
        files.write_json(folder / trial.directory / directory.RESULT, result)
    started = time.perf_counter()
    summary = runner.run(some, folder, 2)
    seconds = time.perf_counter() - started
    if summary.done_before != count:
        raise RuntimeError(str(summary))
    return {"seconds": seconds}
