"""What the tests of faults share: trials of every kind, their tables, and ways to damage files.

Run as a script it is a driver that can be killed: it trains the trials of a file in a folder.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from conftest import tiny
from refit import paths
from refit.errors import RefitError
from refit.experiments.trial import CarriedOver, Trial
from refit.run_directory import log as run_log
from refit.run_directory.directory import CHECKPOINT, PREDICTIONS
from refit.running import runner
from refit.running.pool import TrainingPool

KEPT = {"callbacks": [{"name": "keep_best"}], "keep_weights": True}
RECORDED = {"shuffle": True, "record_batches": True}
# Columns that no two runs have alike: when, how long it took, and beside how many.
PASSING = ("seconds", "minutes", "workers", "started")
PYTHONPATH = os.pathsep.join(filter(None, sys.path))  # so that they import what this does
# Those of a run, because one fork server serves all tests of a process.
PRELOAD = ["refit.training.fit", "refit.running.runner"]
FINISHED = "trials: "  # in what a driver prints at its end


def family(epochs: int = 6) -> list[Trial]:
    """Trainings of every kind: plain, recorded, diverging, and three that follow one another."""
    wild = {"optimizer": {"name": "sgd", "learning_rate": 1e20}, "model": {"name": "lenet_wide"}}
    trials = [
        tiny(name="plain", epochs=epochs),
        tiny(name="recorded", epochs=epochs, **RECORDED, **KEPT),
        tiny(name="wild", epochs=epochs, **wild),
        tiny(name="first", epochs=epochs // 2, **KEPT),
    ]
    for name in ("second", "third"):
        before = trials[-1]
        start = CarriedOver(trial=before.name, run=str(before.directory))
        follower = tiny(name=name, epochs=epochs // 2, keep_weights=True, seed=7)
        trials.append(follower.model_copy(update={"carried_over": start}))
    return trials


def tables(trials: Sequence[Trial], folder: Path) -> dict[str, pd.DataFrame]:
    """All that trials have left, without times: what a page is made of."""
    log = run_log.read(trials, folder)
    predicted = [np.load(folder / trial.directory / PREDICTIONS) for trial in trials]
    frames = {
        "results": log.results,
        "curves": log.curves,
        "confusions": log.confusions,
        "batches": run_log.batch_curves(trials, folder),
        "predictions": pd.DataFrame(predicted),
    }
    return {name: frame.loc[:, [*map(_lasting, frame)]] for name, frame in frames.items()}


def _lasting(column: object) -> bool:
    return not any(word in str(column) for word in PASSING)


def difference(found: dict[str, pd.DataFrame], expected: dict[str, pd.DataFrame]) -> str:
    """The first table that is not, bit by bit, the expected one; empty where all are."""
    for name, frame in expected.items():
        try:
            pd.testing.assert_frame_equal(found[name], frame, check_exact=True)
        except AssertionError as error:
            return f"{name}: {error}"
    return ""


# --- damage ----------------------------------------------------------------------------------


def removed(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def halved(path: Path) -> None:
    for file in _files(path):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def emptied(path: Path) -> None:
    for file in _files(path):
        file.write_bytes(b"")


def garbage(path: Path) -> None:
    """Other bytes, as many as there were."""
    for file in _files(path):
        file.write_bytes(np.random.default_rng(len(file.name)).bytes(file.stat().st_size))


def replaced(path: Path) -> None:
    """By a folder, or a folder by a file."""
    was_folder = path.is_dir()
    removed(path)
    if was_folder:
        path.write_bytes(b"not a folder")
    else:
        path.mkdir()
        (path / "something").write_text("else")


def unreadable(path: Path) -> None:
    """A link to itself, which not even root can read; a folder keeps such ones."""
    for file in _files(path):
        file.unlink()
        file.symlink_to(file)


DAMAGES: list[Callable[[Path], None]] = [
    removed, halved, emptied, garbage, replaced, unreadable,
]  # fmt: skip


def _files(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]


def targets(run_dir: Path) -> list[str]:
    """Every file and folder of a run directory, and the directory itself."""
    return [".", *(str(path.relative_to(run_dir)) for path in sorted(run_dir.rglob("*")))]


def copies(trial: Trial, run_dir: Path, folder: Path, damages: Sequence) -> list[Trial]:
    """One copy of a run directory per damage and target, each damaged so, as trials of `folder`.

    A trial's sweep is no part of its identity, so that all of them mean the same training.
    """
    found = []
    for damage in damages:
        for target in targets(run_dir):
            sweep = f"{damage.__name__}-{len(found)}"
            copy = trial.model_copy(update={"sweep": sweep, "title": f"{damage.__name__} {target}"})
            shutil.copytree(run_dir, folder / copy.directory)
            damage(folder / copy.directory / target)
            found.append(copy)
    return found


def interrupted(trial: Trial, folder: Path, after: int) -> Path:
    """Leave a run directory of a training that was killed after some epochs."""
    run_dir = folder / trial.directory
    with TrainingPool(1, 600, PRELOAD) as pool:
        pool.start(None, train_until, trial, run_dir, after)
        while not pool.ended(1):
            pass
    (run_dir / f".{CHECKPOINT}.a1b2c3").write_bytes(b"half of one")
    return run_dir


def train_until(trial: Trial, run_dir: Path, epoch: int) -> None:
    """In a process: train until nobody waits any more."""
    from refit.training import checkpoint, fit, recorder

    def wanted() -> bool:
        saved = checkpoint.read(run_dir / CHECKPOINT)
        return saved is None or len(saved.state["history"]) < epoch

    with contextlib.suppress(recorder.OrphanedError):
        fit.train(trial, run_dir, None, paths.cache(), facts={"workers": 1}, wanted=wanted)


# --- drivers ---------------------------------------------------------------------------------


class Driver(subprocess.Popen):
    """A process, of a group of its own, whose output goes to a file.

    A pipe would be held open by orphans, and end only with these.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.output = Path(tempfile.mkstemp(suffix=".txt")[1])
        with self.output.open("w") as file:
            super().__init__(
                command,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=os.environ | {"PYTHONPATH": PYTHONPATH, "TQDM_DISABLE": "1"} | environment,
            )

    def told(self, seconds: float) -> str:
        """What it said, once it has ended, by itself or not; a traceback is never the way."""
        self.wait(seconds)
        text = self.output.read_text()
        assert "Traceback" not in text, text
        return text

    def interrupt(self) -> None:
        """As Ctrl-C in a terminal does it: to the whole group, once it has said anything.

        Before that Python is importing, and would tell of it with a traceback.
        """
        while self.poll() is None and not self.output.stat().st_size:
            time.sleep(0.01)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGINT)


def drive(
    trials: Sequence[Trial],
    folder: Path,
    environment: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
    **options,
) -> Driver:
    """Start a process that trains trials and says what came of it."""
    with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as file:
        json.dump([trial.model_dump(mode="json") for trial in trials], file)
    command = [*prefix, sys.executable, __file__, file.name, str(folder), json.dumps(options)]
    return Driver(command, environment or {})


def main() -> int:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
    file, folder, options = sys.argv[1:]
    trials = [Trial.model_validate(trial) for trial in json.loads(Path(file).read_text())]
    try:
        print("begun", flush=True)
        summary = runner.run(trials, Path(folder), **json.loads(options))
    except RefitError as error:
        print(f"refit: {error}")
        return 1
    except KeyboardInterrupt:
        print("interrupted")
        return 130
    print(summary)
    return 0


if __name__ == "__main__":
    sys.exit(main())
