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
WHICH = ["--profile", PROFILE, "--seeds"]
# In this order, because pages must be there before they can be verified.
COMMANDS = {
    "page": "logs, verdicts and page (make report)",
    "status": "what is done (make status)",
    "verify": "whether pages are consistent (refit verify)",
}


def measure(options: Options) -> list[Series]:
    sizes = SIZES[:1] if options.tiny else SIZES
    with tempfile.TemporaryDirectory() as folder:
        runs = {seeds: Path(folder) / str(seeds) for seeds in sizes}
        counts = {seeds: _fabricate(seeds, runs[seeds]) for seeds in runs}
        ways = {
            f"{name} {seeds}": partial(_measure, name, seeds, folder)
            for name in ("tables", *COMMANDS)
            for seeds, folder in runs.items()
        }
        samples = in_turns(options.rounds, ways)
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
    found = [
        Series(
            what, f"{part}, processor", [each.returned[part] for each in samples[f"tables {seeds}"]]
        )
        for part in ("reading logs", "verdicts")
    ]
    for name, way in COMMANDS.items():
        of_page = name == "page" and seeds == FEW
        ran = samples[f"{name} {seeds}"]
        seconds, memory = [each.seconds for each in ran], [each.megabytes for each in ran]
        processor = [each.processor_seconds for each in ran]
        most = {"most": 8.0} if of_page else {}
        found.append(Series(what, way, seconds, processor=processor, **most))
        most = {"most": 250.0} if of_page else {}
        found.append(Series(what, f"{way}: memory of its largest process", memory, "MiB", **most))
    return found


def _fabricate(seeds: int, runs: Path) -> int:
    print(f"  making up the trials of {seeds} seed(s)")
    return int(call(fabricated, runs, seeds=seeds).returned["trials"])


def _measure(name: str, seeds: int, runs: Path) -> Sample:
    pages = runs / "pages"
    commands = {
        "page": ["report", EXPERIMENT, *WHICH, str(seeds)],
        "status": ["status", EXPERIMENT, *WHICH, str(seeds)],
        "verify": ["verify", str(pages / PROFILE)],
    }
    if name == "tables":
        return call(tables, runs, seeds=seeds)
    return refit(*commands[name], runs=runs, reports=pages)


def fabricated(seeds: int) -> dict[str, int]:
    from refit.run_directory.directory import result_of
    from refit.study import Study

    # With the data sets of the results of record, as the commands that are measured.
    study = Study.open(EXPERIMENT, PROFILE, seeds, train=False)
    fabricate(study)
    return {"trials": sum(bool(result_of(trial, study.runs)) for trial in study.trials)}


def tables(seeds: int) -> dict[str, float]:
    from refit.study import Study
    from refit.verdicts import claims, published_figures

    study = Study.open(EXPERIMENT, PROFILE, seeds, train=False)
    started = time.process_time()
    log = study.log()
    read = time.process_time()
    published_figures.figures(study.declaration, PROFILE, log)
    claims.judge(study.declaration, PROFILE, log)
    return {"reading logs": read - started, "verdicts": time.process_time() - read}
