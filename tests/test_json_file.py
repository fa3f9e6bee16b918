"""The gesture report's JSON files: written as it prints them, read back into the same trials."""

import json

import pytest
import yaml
from click.testing import CliRunner

from refit import paths
from refit.cli import main
from refit.errors import DeclarationError
from refit.experiments import expand


def exported(sweep: str) -> str:
    told = CliRunner().invoke(main, ["export", "json", sweep], catch_exceptions=False)
    assert told.exit_code == 0, told.output
    return told.output


def declared(folder, content: str, name="gesture"):
    """The declaration of the report with its runs in a file beside it."""
    plain = yaml.safe_load((paths.EXPERIMENTS / f"{name}.yaml").read_text(encoding="utf-8"))
    sweep, entry = plain["sweeps"]["conv3d"], plain["sweeps"]["conv3d"]["grid"]
    sweep["base"] |= {"callbacks": entry["callbacks"][0]}
    kept = {key: value for key, value in sweep.items() if key not in ("grid", "name", "titles")}
    plain["sweeps"] = {"conv3d": kept | {"entries_from": "experiments-conv3d.json"}}
    plain |= {"claims": [], "published": {"tables": []}}
    plain["profiles"] = {"full": {"description": "all"}}
    (folder / "experiments-conv3d.json").write_text(content, encoding="utf-8")
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(plain), encoding="utf-8")
    return path


def test_file_is_written_as_the_report_prints_it():
    runs = json.loads(exported("gesture/conv3d"))["parameters"]
    assert len(runs) == 24
    assert runs[1] == {
        "learningRateFactor": "0.15", "minimumLearningRate": "0.0001", "numberOfEpochs": "20",
        "optimizer": "SGD", "title": "Experiment - 2",
    }  # fmt: skip


def test_what_is_written_is_read_back_into_the_same_trials(tmp_path):
    path = declared(tmp_path, exported("gesture/conv3d"))
    read = expand.expand(expand.load(path), "full", 1, lambda spec: spec)
    whole = expand.expand(expand.load("gesture"), "full", 1, lambda spec: spec)
    grid = [trial for trial in whole if trial.sweep == "conv3d"]
    assert [trial.digest for trial in read] == [trial.digest for trial in grid]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("SGD", "LBFGS"), "optimizer 'LBFGS' is unknown"),
        (("learningRateFactor", "factor"), "learningRateFactor"),
        (("{", "["), "experiments-conv3d.json"),
    ],
)
def test_wrong_file_is_an_error_that_names_it(change, said, tmp_path):
    path = declared(tmp_path, exported("gesture/conv3d").replace(*change))
    with pytest.raises(DeclarationError) as raised:
        expand.load(path)
    assert said in str(raised.value)
    assert "experiments-conv3d.json" in str(raised.value)


@pytest.mark.parametrize("base", [[1], {"callbacks": 5}, {"callbacks": ["x"]}])
def test_callbacks_that_are_none_are_refused(base, tmp_path):
    path = declared(tmp_path, exported("gesture/conv3d"))
    content = yaml.safe_load(path.read_text("utf-8"))
    content["sweeps"]["conv3d"]["base"] = base
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(DeclarationError, match=r"callbacks|base"):
        expand.load(path)


def test_sweep_without_a_plateau_rule_has_no_such_file():
    told = CliRunner().invoke(main, ["export", "json", "transfer/from_scratch"])
    assert told.exit_code == 1
    assert "no such rule" in told.stderr
