"""Processes timed in turns, and what became of the goals."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from refit import paths
from refit.training import result


@dataclass(frozen=True)
class Options:
    """What was asked for: `rounds` of every comparison, `tiny` sizes (for a test of the benchmark),
    a folder of data sets, and one of runs that may hold a finished smoke profile."""

    rounds: int = 3
    tiny: bool = False
    data_dir: Path | None = None
    finished_runs: Path | None = None


@dataclass(frozen=True)
class Sample:
    """One process: wall and processor seconds with its children, the memory of the largest of them
    in MiB, and what the called function returned."""

    seconds: float
    processor_seconds: float
    megabytes: float
    returned: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Series:
    """A way to do something, measured once per round.

    The goals, where there are any: a median of at most `most`, or at least `least`; or a ratio of
    at least `least_ratio`, or at most `most_ratio`, to another way, `against`, of the same rounds.
    `processor` has the processor seconds where these tell more than they hide: not those of
    trainings, which run in processes of the fork server.
    """

    what: str
    way: str
    values: Sequence[float]
    unit: str = "s"
    most: float | None = None
    least: float | None = None
    against: "Series | None" = None
    least_ratio: float | None = None
    most_ratio: float | None = None
    processor: Sequence[float] = ()

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def ratio(self) -> float | None:
        """The median over the rounds of this way's value over the other's."""
        if self.against is None:
            return None
        pairs = zip(self.values, self.against.values, strict=False)
        return statistics.median(mine / other for mine, other in pairs)

    @property
    def goal(self) -> str:
        if self.most is not None:
            return f"at most {self.most:g} {self.unit}"
        if self.least is not None:
            return f"at least {self.least:g} {self.unit}"
        if self.least_ratio is not None:
            return f"ratio at least {self.least_ratio:g}"
        return f"ratio at most {self.most_ratio:g}" if self.most_ratio is not None else ""

    @property
    def met(self) -> str:
        if self.most is not None:
            return _yes(self.median <= self.most)
        if self.least is not None:
            return _yes(self.median >= self.least)
        if self.ratio is None or not self.goal:
            return ""
        if self.least_ratio is not None:
            return _yes(self.ratio >= self.least_ratio)
        return _yes(self.ratio <= self.most_ratio)


def in_turns(rounds: int, ways: dict[str, Callable[[], Sample]]) -> dict[str, list[Sample]]:
    """Measure every way once per round, one after another, and say so as it goes."""
    samples: dict[str, list[Sample]] = {way: [] for way in ways}
    for number in range(1, rounds + 1):
        for way, measure in ways.items():
            sample = measure()
            samples[way].append(sample)
            print(f"  {number}/{rounds} {way}: {sample.seconds:.2f} s {sample.returned or ''}")
    return samples


def call(function: Callable[..., Any], runs: Path | None = None, **arguments: Any) -> Sample:
    """Call a function in a fresh Python; its arguments and what it returns travel as JSON.

    Results and caches go to `runs`, else to a folder that is removed afterwards.
    """
    names = [function.__module__, function.__name__]
    return command(["-m", "bench.call", *names, json.dumps(arguments)], runs)


def refit(*arguments: str, runs: Path, reports: Path) -> Sample:
    """Run refit's own command in a fresh Python."""
    program = "from refit.cli import main; main()"
    return command(["-c", program, *arguments], runs, {"REFIT_REPORTS": str(reports)})


def command(
    arguments: Sequence[str], runs: Path | None, environment: dict[str, str] | None = None
) -> Sample:
    """Time this Python with some arguments. Raises RuntimeError with what it said if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        variables = os.environ | {"REFIT_RUNS": str(runs or folder), **(environment or {})}
        variables.pop("DATA_DIR", None)  # the embedded data, unless a way is told otherwise
        said = Path(folder) / "said"
        with said.open("wb") as out:
            started = time.perf_counter()
            process = subprocess.Popen(  # noqa: S603 - this Python with our own arguments
                [sys.executable, *arguments], cwd=paths.ROOT, env=variables, stdout=out, stderr=out
            )
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        text = said.read_text(errors="replace")
    if process.returncode:
        raise RuntimeError(f"{' '.join(arguments)} failed:\n{text[-3000:]}")
    last = text.rstrip().rpartition("\n")[2]
    returned = json.loads(last) if last.startswith("{") else {}
    processor = usage.ru_utime + usage.ru_stime
    return Sample(seconds, processor, result.megabytes(usage), returned)


def _yes(met: bool) -> str:
    return "yes" if met else "no"
