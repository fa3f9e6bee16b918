"""Processes that are killed, interrupted or stopped at random moments."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

import fault_tools
from conftest import tiny
from fault_tools import Driver, drive, tables
from refit.run_directory import directory
from refit.run_directory.directory import PROGRESS
from refit.running import runner
from stress.common import TRIALS, Stress, Watch, finish

# Of what was started in the background, Ctrl-C is ignored.
COMMAND = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from refit.cli import main; main()"
)
HERE = Path(fault_tools.__file__).parent
# A sitecustomize module, which every Python process imports: the clock of all is set back.
CLOCK = "import os, time\nnow = time.time\ntime.time = lambda: now() + float(os.environ['CLOCK'])\n"


def undisturbed(stress: Stress) -> tuple[int, int]:
    """The reference, and that a loss which is not a number is a result."""
    folder, started = stress.folder(), time.monotonic()
    output = drive(TRIALS, folder, workers=2).told(stress.patience)
    assert f"{len(TRIALS)} trained" in output, output
    stress.seconds = time.monotonic() - started
    stress.expected = tables(TRIALS, folder)
    results = stress.expected["results"].set_index("trial")
    assert results.index[results["diverged"]].tolist() == ["wild"]
    return 1, 0


def _killed(
    stress: Stress, tries: int, send: Callable, environment: dict[str, str] | None = None
) -> tuple[int, int]:
    """Disturb drivers, one after another in the same folder, until there were so many tries."""
    folder, done = stress.folder(), 0
    watch, family_of = Watch(folder), []
    lost = 0
    while done < tries and not stress.over:
        driver = drive(TRIALS, folder, environment, workers=2)
        moment = stress.moment()
        with contextlib.suppress(subprocess.TimeoutExpired):
            driver.wait(moment)
        if driver.poll() is not None:  # it was faster, so that another one begins
            finish(stress, folder)
            lost += watch.lost
            folder = stress.folder()
            watch = Watch(folder)
            continue
        with contextlib.suppress(psutil.NoSuchProcess):
            family_of += psutil.Process(driver.pid).children(recursive=True)
        send(driver)
        driver.told(stress.patience)
        done += 1
        watch.look()
        print(f"    after {moment:.1f} s: {len(watch.seen)} of {len(TRIALS)} done", flush=True)
    finish(stress, folder)
    watch.look()
    _, alive = psutil.wait_procs(family_of, timeout=60)
    assert not alive, f"processes are left: {alive}"
    return done, lost + watch.lost


def driver_killed(stress: Stress) -> tuple[int, int]:
    """SIGKILL of the driver at random moments, then resume."""
    return _killed(stress, 20, lambda driver: driver.kill())


def ctrl_c(stress: Stress) -> tuple[int, int]:
    """Ctrl-C once, to the whole group, while starting or training."""
    return _killed(stress, 5, Driver.interrupt)


def ctrl_c_twice(stress: Stress) -> tuple[int, int]:
    """Ctrl-C twice within half a second."""

    def twice(driver: Driver) -> None:
        driver.interrupt()
        time.sleep(stress.chance.uniform(0, 0.5))
        driver.interrupt()

    return _killed(stress, 5, twice)


def clock_back(stress: Stress) -> tuple[int, int]:
    """The driver is killed, and at every resumption the clock is a day further back."""
    site = stress.folder()
    (site / "sitecustomize.py").write_text(CLOCK)
    environment = {"CLOCK": "0", "PYTHONPATH": f"{site}{os.pathsep}{fault_tools.PYTHONPATH}"}

    def kill(driver: Driver) -> None:
        driver.kill()
        environment["CLOCK"] = str(float(environment["CLOCK"]) - 86_400)

    return _killed(stress, 4, kill, environment)


def children_killed(stress: Stress) -> tuple[int, int]:
    """SIGKILL of single children at random moments, the fork server among them."""
    folder, done = stress.folder(), 0
    watch = Watch(folder)
    while done < 12 and not stress.over:
        driver = drive(TRIALS, folder, workers=2)
        while driver.poll() is None and done < 12:
            time.sleep(stress.chance.uniform(0, stress.seconds / 3))
            with contextlib.suppress(psutil.NoSuchProcess, IndexError):
                children = psutil.Process(driver.pid).children(recursive=True)
                # Python's resource tracker, the other child, trains nothing.
                children = [one for one in children if "forkserver" in " ".join(one.cmdline())]
                stress.chance.choice(children).kill()
                done += 1
        output = driver.told(stress.patience)
        watch.look()
        if "failed" not in output and driver.returncode == 0:
            finish(stress, folder)
            folder = stress.folder()
            watch.seen, watch.folder = {}, folder
    finish(stress, folder)
    watch.look()
    return done, watch.lost


def two_drivers(stress: Stress) -> tuple[int, int]:
    """Two drivers on one folder, one of which is killed at random and started again."""
    folder, done = stress.folder(), 0
    watch = Watch(folder)
    drivers = [drive(TRIALS, folder, workers=2) for _ in range(2)]
    while done < 6 and not stress.over:
        number = stress.chance.randrange(2)
        with contextlib.suppress(subprocess.TimeoutExpired):
            drivers[number].wait(stress.moment() / 2)
        drivers[number].kill()
        done += 1
        watch.look()
        drivers[number] = drive(TRIALS, folder, workers=2)
    for driver in drivers:
        driver.told(stress.patience)
    finish(stress, folder)
    watch.look()
    return done, watch.lost


def hang(stress: Stress) -> tuple[int, int]:
    """A training stands still (SIGSTOP), and the time limit ends it."""
    folder = stress.folder()
    endless, other = tiny(epochs=100_000), tiny(epochs=1, seed=2)
    progress = folder / endless.directory / PROGRESS

    def stop() -> None:
        while not progress.exists():
            time.sleep(0.05)
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                files = [file.path for file in process.open_files()]
                if str(progress.with_name(directory.LOCK)) in files:
                    process.suspend()

    threading.Thread(target=stop, daemon=True).start()
    limit = 10 + stress.seconds
    summary = runner.run([endless, other], folder, workers=2, time_limit=limit)
    assert summary.trained == 1, summary
    assert "timed out: ran longer than" in str(summary)
    return 1, 0


def page_interrupted(stress: Stress) -> tuple[int, int]:
    """Ctrl-C, once and twice, while `refit` trains and makes a page."""
    place, done = stress.folder(), 0
    environment = {"REFIT_RUNS": str(place / "runs"), "REFIT_REPORTS": str(place / "reports")}
    arguments = ["reproduce", "transfer", "--workers", "2"]
    command = [sys.executable, "-c", COMMAND, *arguments]

    while done < 5 and not stress.over:
        driver = Driver(command, environment)
        with contextlib.suppress(subprocess.TimeoutExpired):
            driver.wait(stress.chance.uniform(1, 2.5 * stress.seconds))
        for _ in range(1 + done % 2):
            driver.interrupt()
            time.sleep(0.2)
        output = driver.told(stress.patience)
        assert driver.returncode == 0 or "refit: interrupted; what is finished" in output, output
        done += 1
    output = Driver(command, environment).told(2 * stress.patience)
    assert "All pages: " in output, output
    assert (place / "reports" / "smoke" / "transfer.html").is_file()
    return done, 0
