"""The Makefile: what is typed as a variable reaches the command as it is, and is never run."""

import os
import shutil
import subprocess
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
    (folder / ".venv" / ".ready").touch()
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


@pytest.mark.parametrize("variable", VARIABLES)
def test_variable_arrives_as_typed_and_nothing_is_run(variable, checkout):
    for value in HOSTILE:
        for arguments in (told(checkout, "reproduce", f"{variable}={value}"),
                          told(checkout, "reproduce", **{variable: value})):  # fmt: skip
            assert arguments[arguments.index(VARIABLES[variable]) + 1] == value


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
