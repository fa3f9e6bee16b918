"""The analysis of hundreds of finished trials: logs, verdicts, the page; and whether it grows
faster than their number."""

import dataclasses
import tempfile
import time
from functools import partial
from pathlib import Path

from bench.fabricate import EPOCHS, fabricate
from bench.measure import Options, Sample, Series, call, in_turns, refit

# It has 176 trials per seed at full scale, and they take 100 epochs.
EXPERIMENT = "cifar10"
PROFILE = "full"
SIZES = (3, 12, 28)  # seeds
FEW = SIZES[0]


def measure(options: Options) -> list[Series]:
    sizes = SIZES[:1] if options.tiny else SIZES
    with tempfile.TemporaryDirectory() as folder:
        runs = {seeds: Path(folder) / str(seeds) for seeds in sizes}
        counts = {seeds: _fabricate(seeds, runs[seeds]) for seeds in runs}
        samples = in_turns(
            options.rounds,
            {f"{what} {seeds}": partial(way, seeds, runs[seeds])
             for what, way in (("tables", _tables), ("page", _page)) for seeds in runs},
        )  # fmt: skip
    found = {seeds: _series(samples, seeds, f"{counts[seeds]} finished trials") for seeds in runs}
    growth = [
        _growth(f"{counts[more]} trials against {counts[FEW]}", few, many, more / FEW)
        for more in sizes[1:]
        for few, many in zip(found[FEW], found[more], strict=True)
    ]
    return [*(one for series in found.values() for one in series), *growth]


def _growth(what: str, few: Series, many: Series, times: float) -> Series:
    less, more = (one.processor or one.values for one in (few, many))
    fewer = dataclasses.replace(few, values=less)
    # A tenth more than in proportion is noise.
    return Series(what, many.way, more, many.unit, against=fewer, most_ratio=1.1 * times)


def _series(samples: dict[str, list[Sample]], seeds: int, trials: str) -> list[Series]:
    what = f"{trials} of {EPOCHS} epochs"
    tables, pages = samples[f"tables {seeds}"], samples[f"page {seeds}"]
    goals = {"seconds": 8.0, "megabytes": 250.0} if seeds == FEW else {}
    reading, judging = (
        [sample.returned[part] for sample in tables] for part in ("logs", "verdicts")
    )
    whole, memory = [page.seconds for page in pages], [page.megabytes for page in pages]
    return [
        Series(what, "reading logs, processor", reading),
        Series(what, "verdicts, processor", judging),
        Series(
            what,
            "logs, verdicts and page (make report)",
            whole,
            most=goals.get("seconds"),
            processor=[page.processor_seconds for page in pages],
        ),
        Series(what, "memory of its largest process", memory, "MiB", most=goals.get("megabytes")),
    ]


def _fabricate(seeds: int, runs: Path) -> int:
    print(f"  making up the trials of {seeds} seed(s)")
    return int(call(fabricated, runs, seeds=seeds).returned["trials"])


def _tables(seeds: int, runs: Path) -> Sample:
    return call(tables, runs, seeds=seeds)


def _page(seeds: int, runs: Path) -> Sample:
    settings = ["--profile", PROFILE, "--seeds", str(seeds)]
    return refit("report", EXPERIMENT, *settings, runs=runs, reports=runs / "pages")


def fabricated(seeds: int) -> dict[str, int]:
    from refit.study import Study

    study = Study.open(EXPERIMENT, PROFILE, seeds)
    fabricate(study)
    return {"trials": len(study.trials)}


def tables(seeds: int) -> dict[str, float]:
    from refit.study import Study
    from refit.verdicts import claims, published_figures

    study = Study.open(EXPERIMENT, PROFILE, seeds)
    started = time.process_time()
    log = study.log()
    read = time.process_time()
    published_figures.figures(study.declaration, PROFILE, log)
    claims.judge(study.declaration, PROFILE, log)
    return {"logs": read - started, "verdicts": time.process_time() - read}
