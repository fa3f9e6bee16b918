"""Tries each fault several times, while trainings of every kind are resumed until all is done.

A result is lost if it was complete and is gone or changed later. What happened is printed as a
table, and written as faults.md into the folder of pages.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from refit import files, paths
from refit.errors import TrialError
from stress import disks, killing
from stress.common import Skipped, Stress

FAULTS = [
    killing.undisturbed,
    killing.driver_killed,
    killing.children_killed,
    killing.two_drivers,
    killing.ctrl_c,
    killing.ctrl_c_twice,
    killing.clock_back,
    killing.hang,
    killing.page_interrupted,
    disks.disk_full,
    disks.not_allowed,
    disks.half_deleted_finished,
    disks.half_deleted_interrupted,
]


def table(rows: list[tuple]) -> str:
    lines = ["| fault | tries | results lost | seconds | outcome |", "|---|---|---|---|---|"]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join(lines) + "\n"


@click.command()
@click.argument("names", nargs=-1)
@click.option("--seconds", default=900.0, show_default=True, help="start nothing new after that")
@click.option("--seed", default=lambda: time.time_ns() % 100_000, help="of the random moments")
def main(names: tuple[str, ...], seconds: float, seed: int) -> None:
    """Try the faults of NAMES, or all of them."""
    print(f"seed {seed}, {seconds:g} s")
    rows = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        os.environ["REFIT_RUNS"] = str(Path(place) / "cache")
        stress = Stress(Path(place), seconds, seed)
        for fault in FAULTS:
            if names and fault.__name__ not in names and fault is not FAULTS[0]:
                continue
            started, tries, lost = time.monotonic(), 0, 0
            try:
                if stress.over:
                    raise Skipped("no time was left")
                tries, lost = fault(stress)
                outcome = "results were lost" if lost else "tables as undisturbed"
            except Skipped as error:
                outcome = f"skipped: {error}"
            except (AssertionError, subprocess.TimeoutExpired, TrialError) as error:
                outcome = "FAILED"
                print(f"{fault.__name__}: {error}", file=sys.stderr)
            took = time.monotonic() - started
            description = (fault.__doc__ or "").partition("\n")[0].rstrip(".")
            rows.append((description, tries, lost, f"{took:.0f}", outcome))
            print(f"{fault.__name__}: {tries} tries, {lost} lost, {took:.0f} s: {outcome}")
            sys.stdout.flush()
    print(table(rows))
    files.write_bytes(paths.reports() / "faults.md", table(rows).encode())
    sys.exit(any(lost or outcome == "FAILED" for _, _, lost, _, outcome in rows))


if __name__ == "__main__":
    main()
