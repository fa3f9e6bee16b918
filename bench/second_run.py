"""`make reproduce` again, when nothing is left to do, beside making every page anew."""

import tempfile
from pathlib import Path

from bench.measure import Options, Series, in_turns, refit
from refit.experiments import expand


def measure(options: Options) -> list[Series]:
    with tempfile.TemporaryDirectory() as folder:
        runs = options.finished_runs or Path(folder) / "runs"
        print(f"  first run, in {runs}")
        pages = {"runs": runs, "reports": Path(folder) / "pages"}
        refit("reproduce", **pages)
        samples = in_turns(
            options.rounds,
            {
                "second run": lambda: refit("reproduce", **pages),
                # Elsewhere, for these pages are not those that a second run keeps.
                "anew": lambda: refit("report", runs=runs, reports=Path(folder) / "anew"),
            },
        )
    seconds = {way: [sample.seconds for sample in found] for way, found in samples.items()}
    processor = {
        way: [sample.processor_seconds for sample in found] for way, found in samples.items()
    }
    what = f"make reproduce again, smoke, {len(expand.names())} experiments"
    again = Series(
        what,
        "nothing changed, so pages are kept",
        seconds["second run"],
        most=2.0,
        processor=processor["second run"],
    )
    anew = Series(
        what,
        "every page made anew (make report)",
        seconds["anew"],
        against=again,
        processor=processor["anew"],
    )
    return [again, anew]
