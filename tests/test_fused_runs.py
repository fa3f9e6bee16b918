"""Runs in which groups go first: by the runner, by a command, in a study of one sweep."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from refit import fused
from refit.cli import main
from refit.errors import DeclarationError
from refit.experiments.trial import Trial
from refit.run_directory import directory
from refit.run_directory.directory import RESULT
from refit.running.progress import LOG
from refit.study import Study

needs_jax = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="jax is not installed"
)

MLP = {"name": "mlp", "options": {"width": 24, "hidden_layers": 2}}
RUN = """
import json, sys
from pathlib import Path
from refit import fused, runner, finished
from refit.experiments.trial import Trial
if __name__ == "__main__":
    plain, folder, patch = map(json.loads, sys.argv[1:])
    if patch:
        import dying
        fused.train_together = dying.train_together
    trials = [Trial.model_validate(one) for one in plain]
    print(runner.run(trials, Path(folder), workers=2, fused="always"))
"""
# In place of a group's training, its process dies.
DYING = """
import os, signal
def train_together(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def trials(make_tiny) -> list[Trial]:
    """Two that go together, and one that goes alone."""
    members = [make_tiny(name=f"member{seed}", seed=seed, model=MLP) for seed in (1, 2)]
    return [*members, make_tiny(name="single", model=MLP, record_batches=True)]


def run(trials: list[Trial], folder: Path, patch: str = "") -> str:
    """What a run on JAX says in which groups are always trained together."""
    plain = [trial.model_dump(mode="json") for trial in trials]
    (folder / "dying.py").write_text(patch)
    search = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {"KERAS_BACKEND": "jax", "PYTHONPATH": os.pathsep.join(search)}
    done = subprocess.run(
        [sys.executable, "-c", RUN, *map(json.dumps, (plain, str(folder / "runs"), bool(patch)))],
        env=os.environ | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def together(trials: list[Trial], folder: Path) -> list[int]:
    """With how many each was trained, itself included; 0 for those that were trained alone."""
    results = [directory.result_of(trial, folder / "runs") for trial in trials]
    return [result.get("fused", {}).get("members", 0) for result in results]


@needs_jax
def test_groups_are_trained_first_and_counted(trials, tmp_path):
    assert run(trials, tmp_path) == "3 trials: 0 done before, 3 trained\n"
    assert together(trials, tmp_path) == [2, 2, 0]
    lines = (tmp_path / "runs" / LOG).read_text().splitlines()
    assert [line.partition("(")[2] for line in lines[1:4]] == [
        "1 of 3 trials done)", "2 of 3 trials done)", "3 of 3 trials done)"
    ]  # fmt: skip
    assert trials[2].directory.name in lines[3]
    (tmp_path / "runs" / trials[0].directory / RESULT).unlink()
    assert run(trials, tmp_path) == "3 trials: 2 done before, 1 trained\n"
    assert together(trials, tmp_path) == [0, 2, 0]  # one that is left has no group


@needs_jax
def test_members_of_a_group_that_died_are_trained_alone_and_say_so(trials, tmp_path):
    said = run(trials, tmp_path, DYING)
    first, *notes = said.splitlines()
    assert first == "3 trials: 0 done before, 3 trained"
    assert together(trials, tmp_path) == [0, 0, 0]
    reason = (
        "left its group: killed: ended by SIGKILL, perhaps by the system because memory ran out"
    )
    assert notes == [f"  {trial.directory.name}: {reason}" for trial in trials[:2]]


def test_groups_that_cannot_be_are_refused_where_they_are_demanded(monkeypatch):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    for command in ("reproduce", "lease"):
        out = ["--out", "out"] if command == "lease" else []
        told = CliRunner().invoke(main, [command, "fmnist_grid", "--fused", "always", *out])
        assert told.exit_code == 1
        assert "fused is 'always', but KERAS_BACKEND is 'tensorflow'; give jax" in told.output
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with pytest.raises(DeclarationError, match="fused is 'always', but executor is 'ray'; give lo"):
        fused.used("always", "ray")
    assert not fused.used("auto", "ray")


def test_study_of_one_sweep_has_its_trials_and_those_that_they_start_from():
    whole = Study.open("transfer")
    carried = [trial for trial in whole.trials if trial.source]
    for sweep in {trial.sweep for trial in carried}:
        chosen = whole.only(sweep).trials
        assert [trial for trial in whole.trials if trial.sweep == sweep] == [
            trial for trial in chosen if trial.sweep == sweep
        ]
        directories = {str(trial.directory) for trial in chosen}
        assert {trial.source for trial in chosen if trial.source} <= directories
        assert len(chosen) < len(whole.trials)
    assert carried
    with pytest.raises(DeclarationError, match="transfer has no sweep 'x' in profile smoke; known"):
        whole.only("x")


def test_sweep_behind_a_slash_is_for_a_lease_only(tmp_path):
    arguments = ["fmnist_grid/nothing", "--out", str(tmp_path)]
    told = CliRunner().invoke(main, ["lease", *arguments])
    assert "fmnist_grid has no sweep 'nothing' in profile smoke; known: baseline" in told.output
    told = CliRunner().invoke(main, ["reproduce", "fmnist_grid/grid2"])
    assert "no experiment 'fmnist_grid/grid2'" in told.output
    assert told.exit_code == 1
