"""`make reproduce` again, when nothing is left to do, beside making every page anew."""

import tempfile
from pathlib import Path

from bench.measure import Options, Series, in_turns, refit
from refit import experiment


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
    what = f"make reproduce again, smoke, {len(experiment.names())} experiments"
    again = Series(
        what,
        "nothing changed, so pages are kept",
        [sample.seconds for sample in samples["second run"]],
        most=60.0,
    )
    anew = [sample.seconds for sample in samples["anew"]]
    return [again, Series(what, "every page made anew (make report)", anew, against=again)]
