"""What the faults share: the trials, their undisturbed tables, chance, and what is lost."""

import random
import tempfile
import time
from pathlib import Path

import fault_tools
from fault_tools import drive, family, tables
from refit.run_directory import directory
from refit.run_directory.directory import RESULT

TRIALS = family()
# A driver that takes so many times as long as the undisturbed one hangs.
PATIENCE = 15


class Skipped(Exception):  # noqa: N818 - says why, as a sentence
    """This machine does not allow the fault."""


class Stress:
    """What the faults share: a place, the undisturbed tables, chance, and the end of time."""

    def __init__(self, place: Path, seconds: float, seed: int) -> None:
        self.place = place
        self.chance = random.Random(seed)  # noqa: S311 - moments, not secrets
        self.end = time.monotonic() + seconds
        self.expected: dict = {}
        self.seconds = 60.0  # that a driver takes undisturbed

    @property
    def patience(self) -> float:
        return PATIENCE * self.seconds

    def folder(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.place))

    @property
    def over(self) -> bool:
        return time.monotonic() > self.end

    def moment(self) -> float:
        """A random moment of a driver's life, in seconds from its start."""
        return self.chance.uniform(0.1, self.seconds)


class Watch:
    """Counts the results of a folder that were complete and are not, or are others, later."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: dict[Path, bytes] = {}
        self.lost = 0

    def look(self) -> None:
        for path, content in self.seen.items():
            self.lost += not path.is_file() or path.read_bytes() != content
        found = [trial for trial in TRIALS if directory.result_of(trial, self.folder)]
        paths_ = [self.folder / trial.directory / RESULT for trial in found]
        self.seen = {path: path.read_bytes() for path in paths_}


def finish(stress: Stress, folder: Path, runs: int = 4) -> None:
    """Resume until all is done; what fails meanwhile is told, as a sentence."""
    for _ in range(runs):
        driver = drive(TRIALS, folder, workers=2)
        output = driver.told(stress.patience)
        if "failed" not in output:
            break
    assert driver.returncode == 0, output
    problem = fault_tools.difference(tables(TRIALS, folder), stress.expected)
    assert not problem, problem
