"""How near `refit plan` comes to what sweeps of record took, each left out while it is judged."""

import os
import shutil
import tempfile
from pathlib import Path

from bench.measure import Options, Series, call
from refit import paths

HOUR = 3600
WITHIN = 1.5


def measure(options: Options) -> list[Series]:
    series = []
    with tempfile.TemporaryDirectory() as name:
        everything, others = Path(name, "everything"), Path(name, "others")
        call(unpack, everything)
        sweeps = sorted(path for path in everything.glob("full/*/*") if path.is_dir())
        for sweep in sweeps[: 1 if options.tiny else None]:
            shutil.copytree(everything, others, copy_function=os.link)
            shutil.rmtree(others / sweep.relative_to(everything))
            told = call(hours, others, sweep=str(sweep)).returned
            shutil.rmtree(others)
            what = f"{sweep.parent.name}/{sweep.name}: {told.pop('trainings')} trainings of record"
            print(f"  {what}: {told}")
            series += [Series(what, way, [value], "h") for way, value in told.items()]
            if len(told) > 1:
                low, high = sorted(told.values())
                series.append(Series(what, "one over the other", [high / low], "", most=WITHIN))
    return series


def unpack() -> None:
    from refit.run_directory import archive

    for path in sorted(paths.PACKS.glob("full-*")):
        archive.unpack(path)


def hours(sweep: str) -> dict[str, float]:
    """The hours of a core that a sweep took and, if all others tell, those that were expected.

    Of a training counts the median epoch, as others stood still with their machine, and of its
    time the part in which it was computed, as it shared its core.
    """
    from refit import files
    from refit.experiments.trial import Trial
    from refit.run_directory.directory import Result
    from refit.running import order

    found = sorted(Path(sweep).glob("*/result.json"))
    results = [result for path in found if (result := files.read_model(path, Result))]
    times = order.Times(paths.runs() / "full" / Path(sweep).parent.name)
    expected = sum(times.seconds(Trial.model_validate(result.trial)) for result in results)
    taken = sum(
        one.metrics.seconds_per_epoch * one.metrics.epochs * order.share_of_processor(one)
        for one in results
    )
    told = {"trainings": len(results), "taken, hours of a core": taken / HOUR}
    return told | ({"by the plan": expected / HOUR} if expected == expected else {})
