"""The Makefile: what is typed as a variable reaches the command as it is, and is never run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from refit import paths

MAKE = shutil.which("make")
pytestmark = pytest.mark.skipif(not MAKE, reason="make is not installed")
HOSTILE = [
    'a b"; touch run; "', "$(touch run)", "`touch run`", "'; touch run; '", "$(shell touch run)",
    "${shell touch run}", "$$(touch run)", "a\ntouch run", "\\", '"', "*", "a;touch run",
    "&& false", "| touch run", "> run", "--help", "-", "Dätä 数据", "~",
    "$HOME", "%", "#", "a=b", "$(PYTHON)",
]  # fmt: skip
VARIABLES = {
    "PROFILE": "--profile",
    "SEEDS": "--seeds",
    "DATA_DIR": "--data-dir",
    "WORKERS": "--workers",
    "EXECUTOR": "--executor",
}


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A folder with the Makefile and, in place of refit, a command that tells what it was told."""
    folder = tmp_path / "a checkout with ümlauts"
    (folder / ".venv" / "bin").mkdir(parents=True)
    for name in ("Makefile", "requirements.txt", "requirements-extras.txt", "pyproject.toml"):
        shutil.copy(paths.ROOT / name, folder)
    command = folder / ".venv" / "bin" / "refit"
    command.write_text('#!/bin/sh\nprintf "%s\\0" "$@" > told\n')
    command.chmod(0o755)
    (folder / ".venv" / "bin" / "python").symlink_to(sys.executable)
    maker = f"{folder.resolve()}\n{sys.base_prefix} {sys.version}\n"
    (folder / ".venv" / ".ready").write_text(maker, encoding="utf-8")
    return folder


def told(checkout: Path, *arguments: str, **variables: str) -> list[str]:
    """What `make` passes on, in order; fails where it made any other file."""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    before = set(checkout.iterdir())
    made = subprocess.run(
        [MAKE, *arguments], cwd=checkout, env=environment | variables, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout + made.stderr
    assert set(checkout.iterdir()) - before <= {checkout / "told"}
    return (checkout / "told").read_text().split("\0")[:-1]


@pytest.mark.parametrize("value", HOSTILE)
def test_variable_arrives_as_typed_and_nothing_is_run(value, checkout):
    for arguments in (told(checkout, "reproduce", *(f"{name}={value}" for name in VARIABLES)),
                      told(checkout, "reproduce", **dict.fromkeys(VARIABLES, value))):  # fmt: skip
        for option in VARIABLES.values():
            assert arguments[arguments.index(option) + 1] == value


@pytest.mark.parametrize("target", ["bench", "stress"])
def test_what_is_measured_or_broken_is_never_run(target, checkout):
    (checkout / "tests").mkdir()
    for value in HOSTILE:
        names = ("BENCH", "DATA_DIR", "FAULTS", "STRESS_SECONDS")
        command = [MAKE, target, *(f"{name}={value}" for name in names)]
        subprocess.run(command, cwd=checkout, capture_output=True, check=False)
    assert not [path for path in checkout.rglob("*") if path.name in ("run", "told")]


def test_experiments_are_words_and_never_options(checkout):
    for value in HOSTILE:
        arguments = told(checkout, "plan", f"EXPERIMENTS=fmnist_zoo  {value}")
        assert arguments[arguments.index("--") + 1 :] == ["fmnist_zoo", *value.split()]


def test_defaults_are_those_of_the_help(checkout):
    assert told(checkout, "status") == [
        "status", "--profile", "smoke", "--data-dir", "", "--",
    ]  # fmt: skip
    assert told(checkout, "reproduce")[0:3] == ["reproduce", "--profile", "smoke"]
    assert told(checkout, "plan", "WORKERS=2")[0:3] == ["plan", "--workers", "2"]


def planned(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What `make` would do."""
    command = [MAKE, "--dry-run", "status", *arguments]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)


def test_environment_of_another_folder_or_python_is_made_anew(checkout, tmp_path):
    """A copied checkout would run the original, and a moved one nothing."""
    assert "-m venv" not in planned(checkout).stdout
    (same := tmp_path / "same").symlink_to(sys.executable)  # by a name without blanks
    assert "-m venv" not in planned(checkout, f"PYTHON={same}").stdout
    moved = checkout.rename(tmp_path / "moved")
    assert "-m venv" in planned(moved).stdout
    other = tmp_path / "python"
    other.write_text("#!/bin/sh\necho another", encoding="utf-8")
    other.chmod(0o755)
    shutil.copytree(moved, checkout, symlinks=True)
    (checkout / ".venv" / ".ready").write_text(
        f"{checkout.resolve()}\n{sys.base_prefix} {sys.version}\n", encoding="utf-8"
    )
    assert "-m venv" in planned(checkout, f"PYTHON={other}").stdout


def test_unknown_variable_is_refused(checkout):
    found = planned(checkout, "experiments=fmnist_zoo")
    assert found.returncode != 0
    assert "experiments: unknown; the variables are PROFILE EXPERIMENTS" in found.stderr
