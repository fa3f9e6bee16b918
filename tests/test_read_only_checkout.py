"""A checkout that nobody may write to, with results and pages elsewhere, all in odd places."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from refit import paths

PARTS = ("src", "experiments", "notebooks", "pyproject.toml")
# Opens a notebook as a page, without training, as `make report` does for finished trials.
PAGE = """
from refit import paths
from refit.pages import notebook
from refit.pages.page import render
from refit.study import Study

study = Study.open("transfer")
executed = paths.runs() / "transfer.ipynb"
notebook.execute(paths.NOTEBOOKS / "transfer.ipynb", executed, {"train": False})
render(executed, study.pages.with_suffix(".html"), "A page")
"""
REFIT = "from refit.cli import main; main()"
# Puts a read-only mount over the checkout, which binds the administrator too.
MOUNT = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && cd "$0" && exec "$@"'


@pytest.fixture
def checkout(tmp_path) -> Iterator[Path]:
    folder = tmp_path / "Prüfung mit Leerzeichen" / "refit ß"
    folder.mkdir(parents=True)
    for name in PARTS:
        copy = shutil.copytree if (paths.ROOT / name).is_dir() else shutil.copy
        options = (
            {"ignore": shutil.ignore_patterns("__pycache__")} if copy is shutil.copytree else {}
        )
        copy(paths.ROOT / name, folder / name, **options)
    everything = [folder, *folder.rglob("*")]
    for path in everything:
        path.chmod(path.stat().st_mode & ~0o222)
    yield folder
    for path in everything:
        path.chmod(path.stat().st_mode | 0o200)


def read_only(checkout: Path) -> list[str]:
    """The beginning of a command that cannot write to the checkout even as root."""
    command = ["unshare", "--mount", "--map-root-user", "sh", "-c", MOUNT, str(checkout)]
    try:
        probe = [*command, "sh", "-c", "! touch written"]
        possible = subprocess.run(probe, capture_output=True, check=False).returncode == 0
    except OSError:
        possible = False
    return command if possible else []


def snapshot(folder: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def test_pages_are_made_beside_a_checkout_that_cannot_be_written(checkout, tmp_path):
    runs, reports = tmp_path / "Läufe 1", tmp_path / "Berichte & mehr"
    (tmp_path / "home").mkdir()
    before, guard = snapshot(checkout), read_only(checkout)
    environment = os.environ | {
        "REFIT_RUNS": str(runs),
        "REFIT_REPORTS": str(reports),
        "PYTHONPATH": str(checkout / "src"),
        # Where the modes do not bind, as for root without a mount, Python would cache its bytecode.
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(tmp_path / "home"),
    }
    for arguments in ([PAGE], [REFIT, "status", "transfer"], [REFIT, "plan", "transfer"]):
        done = subprocess.run(
            [*guard, sys.executable, "-c", *arguments], capture_output=True, text=True,
            env=environment, cwd=checkout, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert "3 to train" in done.stdout
    assert snapshot(checkout) == before
    assert (reports / "smoke" / "transfer.html").stat().st_size > 100_000
    assert (reports / "smoke" / "transfer" / "results.csv").is_file()
    assert {path.name for path in tmp_path.iterdir()} <= {
        runs.name, reports.name, "Prüfung mit Leerzeichen", "home",
    }  # fmt: skip
