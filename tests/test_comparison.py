"""Somebody else's trainings are held against those of record, number by number."""

import shutil

import pandas as pd
import pytest
from click.testing import CliRunner

from refit import files
from refit.cli import main
from refit.experiments import expand
from refit.run_directory import directory
from refit.run_directory.directory import RESULT
from refit.study import Study
from refit.verdicts import comparison

TRIAL = "mlp-bn-lr0.1"
COLUMNS = ["trial", "seed", "metric", "value"]


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """The trainings of record, from their packs."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REFIT_RUNS", str(folder))
        patch.delenv("DATA_DIR", raising=False)
        yield Study.open("cifar10", "full", train=False)


def compare(theirs):
    done = CliRunner().invoke(main, ["compare", "cifar10", str(theirs)])
    return done.exit_code, done.output


@pytest.fixture
def table(tmp_path):
    """A function that writes rows of trial, seed, metric and value as CSV."""

    def write(*rows, columns=COLUMNS):
        pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "theirs.csv", index=False)
        return tmp_path / "theirs.csv"

    return write


@pytest.fixture
def theirs(record, tmp_path):
    """The runs of one trial of record, as somebody else's."""
    for run_dir in record.runs.glob(f"mlp_bn/{TRIAL}-seed*"):
        shutil.copytree(run_dir, tmp_path / "runs" / run_dir.name)
    return tmp_path / "runs"


def test_each_number_is_where_a_repetition_would_lie_or_not(record, table):
    values = record.log().measure(TRIAL, "test_accuracy")
    code, told = compare(table((TRIAL, 99, "test_accuracy", values.mean())))
    assert code == 0
    assert f"{TRIAL}, seed 99: 1 numbers inside" in told
    rows = [(TRIAL, seed, "test_accuracy", value) for seed, value in ((8, values.mean()), (9, 0.3))]
    code, told = compare(table(*rows))
    assert code == 1
    assert f"{TRIAL}, seed 9: test_accuracy is 0.3, and a repetition would lie in 0." in told
    assert "1 of 2 numbers lie where a repetition of record would" in told


def test_without_trainings_of_record_nothing_is_said_to_agree(table):
    code, told = compare(table(("cnn-bn-lr0.1", 1, "test_accuracy", 0.7)))
    assert code == 1
    assert "1 with too few seeds of record" in told


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("mlp-9", 1, "test_accuracy", 0.5), "trial 'mlp-9' is unknown; known: cnn-"),
        ((TRIAL, 1, "accuracy", 0.5), "metric 'accuracy' is unknown; known: "),
        ((TRIAL, 1, "test_accuracy", "0,5"), "line 2: value '0,5' is no number"),
    ],
)
def test_a_table_that_cannot_be_compared_is_explained(table, row, message):
    code, told = compare(table(row))
    assert code == 1
    assert "theirs.csv: " in told
    assert message in told
    assert "has no column value" in compare(table(row[:3], columns=COLUMNS[:3]))[1]


def test_a_folder_of_runs_is_compared(theirs):
    code, told = compare(theirs)
    assert code == 0
    count = 4 * len(list(theirs.iterdir()))
    assert count >= 12
    assert f"{count} of {count} numbers lie where" in told


@pytest.mark.parametrize("experiment", ["gesture", "transfer"])
def test_what_follows_from_another_seed_is_no_other_setting(experiment, theirs, tmp_path):
    """Of images that the seed draws, and of trials that start from others with the same seed."""
    result = files.read_object(next(theirs.iterdir()) / RESULT)
    first, second = (
        expand.expand(expand.load(experiment), "small", seeds, lambda spec: spec)
        for seeds in (1, 2)
    )
    for trial in second:
        content = {"trial": trial.model_dump(mode="json"), "digest": trial.digest}
        directory.write_result(tmp_path / "theirs" / trial.directory, result | content)
    table, left_out, others = comparison.read_runs(tmp_path / "theirs", first)
    assert (left_out, others) == ([], [])
    assert len(table) == 4 * len(second)


def test_of_all_that_somebody_has_trained_the_asked_profile_is_compared(theirs, tmp_path):
    """What else is there, of other profiles and experiments, is not spoken of."""
    whole = tmp_path / "whole"
    for place in ("full/cifar10/mlp_bn", "small/cifar10/mlp_bn"):
        shutil.copytree(theirs, whole / place)
    for path in (whole / "small").rglob(RESULT):
        files.write_json(path, files.read_object(path) | {"trial": {"name": TRIAL}})
    code, told = compare(whole)
    assert code == 0
    assert "left out" not in told


def test_a_doctored_result_differs_and_a_damaged_or_other_one_is_left_out(theirs):
    first, second, third, *others = sorted(theirs.iterdir())
    result = files.read_object(first / RESULT)
    result["metrics"]["test_accuracy"] = 0.9
    directory.write_result(first, result)
    files.write_json(second / RESULT, files.read_object(second / RESULT) | {"wall_seconds": 1.0})
    other = files.read_object(third / RESULT)
    other["trial"]["batch_size"] = 64
    directory.write_result(third, other)
    code, told = compare(theirs)
    assert code == 1
    assert "test_accuracy is 0.9" in told
    assert "checksum: does not fit what it says" in told
    assert "left out: batch_size: is 64, and of record 32" in told
    assert "; 2 trainings left out" in told
    shutil.rmtree(first)
    code, told = compare(theirs)
    assert (code, "; 2 trainings left out" in told) == (1, True), "though all others lie inside"
    for each in others:
        shutil.rmtree(each)
    assert f"{theirs}: has no result to compare" in compare(theirs)[1]
