"""Disks that are full, files that are damaged, and folders that may not be read."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import fault_tools
from conftest import tiny
from fault_tools import drive, tables
from refit.experiments.trial import Trial
from refit.run_directory import directory
from refit.run_directory.directory import RESULT
from refit.running import runner
from stress.common import TRIALS, Skipped, Stress, Watch, finish


def disk_full(stress: Stress) -> tuple[int, int]:
    """A small disk is full to several degrees; after space is made the run goes on."""
    if os.geteuid() != 0:
        raise Skipped("mounting a small disk needs root")
    done = lost = 0
    for free in (16, 64, 256, 1024, 2048, 4096, 6144):  # KiB that are left
        if stress.over:
            break
        with _small_disk(stress) as disk:
            filler = disk / "filler"
            size = shutil.disk_usage(disk).free - free * 1024
            filler.write_bytes(b"\0" * size)
            folder = disk / "runs"
            watch = Watch(folder)
            output = drive(TRIALS, folder, workers=2).told(stress.patience)
            assert "the disk is full: free some space there" in output, output
            watch.look()
            filler.unlink()
            finish(stress, folder)
            watch.look()
            done, lost = done + 1, lost + watch.lost
    return done, lost


@contextlib.contextmanager
def _small_disk(stress: Stress) -> Iterator[Path]:
    disk = stress.folder()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(disk)]
    if subprocess.run(mounting, check=False, stderr=subprocess.DEVNULL).returncode:
        raise Skipped("no small disk can be mounted here")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)  # noqa: S607


def half_deleted_finished(stress: Stress) -> tuple[int, int]:
    """Every file and folder of a finished run directory damaged in every way."""
    trial = tiny(name="recorded", epochs=2, **fault_tools.RECORDED, **fault_tools.KEPT)
    folder = stress.folder()
    runner.check(runner.run([trial], folder, workers=1))
    return _damaged(stress, trial, folder / trial.directory, tables([trial], folder))


def half_deleted_interrupted(stress: Stress) -> tuple[int, int]:
    """The same of an interrupted one."""
    trial = tiny(name="recorded", epochs=2, **fault_tools.RECORDED, **fault_tools.KEPT)
    folder = stress.folder()
    runner.check(runner.run([trial], folder, workers=1))
    run_dir = fault_tools.interrupted(trial, stress.folder(), after=1)
    return _damaged(stress, trial, run_dir, tables([trial], folder))


def _damaged(stress: Stress, trial: Trial, run_dir: Path, whole: dict) -> tuple[int, int]:
    """Train copies again; those that cannot be are told, and after a removal they can be."""
    folder, done = stress.folder(), 0
    for damage in fault_tools.DAMAGES:
        if stress.over:
            break
        copies = fault_tools.copies(trial, run_dir, folder / damage.__name__, [damage])
        place = folder / damage.__name__
        summary = runner.run(copies, place)
        for copy in copies:
            if directory.result_of(copy, place) is None:
                reason = summary.failures[copy.directory.name]
                assert "; the next run goes on" in reason, f"{copy.title}: {reason}"
                left = place / copy.directory
                shutil.rmtree(left) if left.is_dir() else left.unlink()
                runner.check(runner.run([copy], place))
            found = tables(copy := [copy], place)
            for frame in found.values():
                for label in {"sweep", "title"} & set(frame):
                    frame[label] = getattr(trial, label)
            problem = fault_tools.difference(found, whole)
            assert not problem, f"{copy[0].title}: {problem}"
        done += len(copies)
        print(f"    {damage.__name__}: {len(copies)}, {summary.trained} trained again", flush=True)
        shutil.rmtree(place)
    return done, 0


def not_allowed(stress: Stress) -> tuple[int, int]:
    """Folders and files that this user may not read; root loses its privilege for that."""
    prefix = []
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            raise Skipped("root may read everything, and setpriv is not there")
        prefix = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"]
    folder = stress.folder()
    finish(stress, folder)
    places = ["", TRIALS[1].sweep, TRIALS[1].directory, TRIALS[1].directory / "train"]
    places += [TRIALS[1].directory / RESULT]
    for place in places:
        mode = (folder / place).stat().st_mode
        (folder / place).chmod(0)
        try:
            driver = drive(TRIALS, folder, prefix=prefix, workers=2)
            output = driver.told(stress.patience)
        finally:
            (folder / place).chmod(mode)
        trained_again = driver.returncode == 0 and "trained again" in output
        assert trained_again or "change the permissions" in output, output
        finish(stress, folder)
    return len(places), 0
