"""Packs: what is written and read back, and what of a damaged or hostile file is refused."""

import io
import json
import tarfile

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from conftest import tiny
from refit import files, paths
from refit.cli import main
from refit.errors import DataError
from refit.experiments import expand
from refit.run_directory import archive, directory, events
from refit.run_directory import log as run_log
from refit.study import Study

EXPERIMENT, SWEEP = "small/cifar10", "tests"
NAME = "small-cifar10-tests.tar.xz"
EPOCHS, BATCHES = 3, 5
PLAIN, RECORDED = tiny(), tiny(name="recorded", record_batches=True, seed=2)


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    """Folders of their own for results and packs."""
    monkeypatch.setattr(paths, "PACKS", tmp_path / "packs")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.delenv("DATA_DIR", raising=False)
    return elsewhere(tmp_path / "runs", monkeypatch)


def elsewhere(folder, monkeypatch):
    monkeypatch.setenv("REFIT_RUNS", str(folder))
    return folder / EXPERIMENT


def finish(folder, trial, accuracy=0.75):
    """Leave what a training leaves, with curves drawn from its seed."""
    run_dir, random = folder / trial.directory, np.random.default_rng(trial.seed)
    for group in ("train", "validation"):
        log(run_dir / group, ("epoch_loss", "epoch_accuracy"), random.random((EPOCHS, 2)))
    if trial.record_batches:
        tags = ("batch_loss", "batch_accuracy")
        log(run_dir / "batches", tags, random.random((EPOCHS * BATCHES, 2)))
    np.save(run_dir / directory.PREDICTIONS, random.integers(0, 5, 60, np.uint8))
    for name in ("best.weights.h5", "checkpoint.npz", "failure.json", "lock"):
        (run_dir / name).write_bytes(b"of no use to others")
    found = [path for path in run_dir.rglob("*") if path.parent != run_dir or ".h5" in path.name]
    measured = {"train_accuracy": 0.9, "train_loss": 0.3, "val_accuracy": 0.7, "val_loss": np.inf}
    measured |= {"best_val_accuracy": accuracy, "epochs": EPOCHS, "diverged": False, "classes": 5}
    images = {"train_images": 160, "validation_images": 60, "test_images": 60}
    result = {
        "trial": trial.model_dump(mode="json"),
        "digest": trial.digest,
        "metrics": measured | {"seconds": 9.0, "seconds_per_epoch": 3.0},
        "data": images | {"source": "", "stand_in": "", "embedded": True, "classes": list("abcde")},
        "environment": {"workers": 2},
        "layers": [],
        "confusion_matrix": None,
        "started": "2026-01-01T00:00:00+00:00",
        "files": files.identify(run_dir, [*found, run_dir / directory.PREDICTIONS]),
    }
    directory.write_result(run_dir, result)


def log(folder, tags, rows):
    writer = events.EventWriter(folder)
    for step, row in enumerate(rows):
        writer.scalars(dict(zip(tags, row, strict=True)), step)
    writer.close()


@pytest.fixture
def pack(runs):
    """A pack of two trials, after whose writing the runs are empty."""
    for trial in (PLAIN, RECORDED):
        finish(runs, trial)
    archive.pack(*EXPERIMENT.split("/"), SWEEP, paths.PACKS)
    runs.parent.rename(runs.parent.with_name("packed"))
    return paths.PACKS / NAME


def rewrite(pack, change):
    """Let `change` have every member and its content, and write those that it returns."""
    with tarfile.open(pack) as tar:
        members = [(each, tar.extractfile(each).read()) for each in tar]
    with tarfile.open(pack, "w:gz") as tar:
        for member, content in members:
            for each, inside in change(member, content):
                each.size = len(inside) if each.isreg() else 0
                tar.addfile(each, io.BytesIO(inside))


def done(folder):
    return [trial.name for trial in (PLAIN, RECORDED) if directory.result_of(trial, folder)]


def test_pack_gives_the_tables_of_the_runs_and_the_same_bytes_wherever_it_is_written(
    pack, runs, tmp_path, monkeypatch
):
    before = runs.parents[1] / "packed" / "cifar10"
    outcome = archive.unpack(pack)
    assert (outcome.taken, outcome.kept, outcome.told) == (2, 0, [])
    for read in (lambda folder: run_log.read([PLAIN, RECORDED], folder).results,
                 lambda folder: run_log.read([PLAIN, RECORDED], folder).curves,
                 lambda folder: run_log.batch_curves([RECORDED], folder)):  # fmt: skip
        pd.testing.assert_frame_equal(read(runs), read(before))
    assert len(run_log.batch_curves([RECORDED], runs)) == EPOCHS * BATCHES
    left_out = ("*.h5", "checkpoint*", "failure*", "batches")
    assert not [path for pattern in left_out for path in runs.rglob(pattern)]
    archive.pack(*EXPERIMENT.split("/"), SWEEP, tmp_path / "again")
    assert (tmp_path / "again" / NAME).read_bytes() == pack.read_bytes()


def escape(member, content):
    member.name = "../../" + member.name
    return [(member, content)]


def link(member, content):
    member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return [(member, content)]


def device(member, content):
    member.type = tarfile.CHRTYPE
    return [(member, content)]


def stranger(member, content):
    if not member.name.endswith(directory.PREDICTIONS):
        return [(member, content)]
    other = tarfile.TarInfo(member.name.replace(directory.PREDICTIONS, "events.out.tfevents.9"))
    return [(member, content), (other, b"")]


def edited(member, content):
    if member.name.endswith(directory.RESULT):
        content = content.replace(b'"seconds": 9.0', b'"seconds": 1.0')
    return [(member, content)]


def without_schema(member, content):
    if member.name.endswith(directory.RESULT):
        result = json.loads(content)
        result["metrics"]["epochs"] = "many"
        content = json.dumps(result | {"checksum": ""}).encode()
    return [(member, content)]


def longer(member, content):
    """A history of more epochs than the curves have."""
    if member.name.endswith(directory.RESULT):
        result = json.loads(content)
        result["metrics"]["epochs"] = EPOCHS + 1
        content = json.dumps(result | {"checksum": directory.checksum(result)}).encode()
    return [(member, content)]


def another(member, content):
    """The settings of another trial under this one's name."""
    if member.name.endswith(directory.RESULT):
        result = json.loads(content)
        result["trial"]["batch_size"] = 16
        content = json.dumps(result | {"checksum": directory.checksum(result)}).encode()
    return [(member, content)]


def without_result(member, content):
    return [] if member.name.endswith(directory.RESULT) else [(member, content)]


def flipped(member, content):
    if member.name.endswith(directory.PREDICTIONS):
        content = content[:-1] + bytes([content[-1] ^ 1])
    return [(member, content)]


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (escape, "no file of a run directory"),
        (link, "no file of a run directory"),
        (device, "no file of a run directory"),
        (stranger, "events.out.tfevents.9: is missing, or not named"),
        (edited, "checksum"),
        (without_schema, "metrics.epochs"),
        (longer, "the curves of 3 of 4 epochs"),
        (another, "its settings belong into"),
        (flipped, "test_predictions.npy: is not as it was written"),
        (without_result, "result.json: "),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_damaged_or_hostile_member_loses_its_trial_only(pack, runs, tmp_path, change, cause):
    def to_one(member, content):
        is_chosen = PLAIN.directory.name in member.name
        return change(member, content) if is_chosen else [(member, content)]

    rewrite(pack, to_one)
    around = set(tmp_path.parent.iterdir())
    outcome = archive.unpack(pack)
    assert done(runs) == ["recorded"]
    assert outcome.taken == 1
    assert outcome.refused >= 1
    assert all(sentence.startswith(f"{pack}: ") for sentence in outcome.told)
    assert PLAIN.directory.name in outcome.told[0]
    assert cause in "".join(outcome.told)
    assert set(tmp_path.parent.iterdir()) == around
    assert not list(runs.parents[1].glob(".unpacking*"))


@pytest.mark.parametrize("kept", [0.3, 0.9, 0.0])
def test_what_comes_after_damage_of_the_file_itself_is_lost(pack, runs, kept):
    content = pack.read_bytes()
    pack.write_bytes(content[: int(len(content) * kept)])
    outcome = archive.unpack(pack)
    assert f"{pack}: cannot be read on" in outcome.told[0]
    assert len(done(runs)) == outcome.taken < 2


def test_huge_member_ends_the_reading(pack, runs, monkeypatch):
    monkeypatch.setattr(archive, "LARGEST", 1000)
    assert "larger than what a trial leaves" in archive.unpack(pack).told[0]
    assert done(runs) == []


def test_whole_result_is_never_overwritten_and_a_worse_one_is(pack, runs):
    finish(runs, PLAIN, accuracy=0.8)
    finish(runs, RECORDED)
    (runs / RECORDED.directory / directory.PREDICTIONS).unlink()
    outcome = archive.unpack(pack)
    assert (outcome.taken, outcome.kept) == (1, 1)
    assert directory.result_of(PLAIN, runs)["metrics"]["best_val_accuracy"] == 0.8
    assert done(runs) == ["tiny", "recorded"]
    (aside,) = (runs / SWEEP).glob("*.aside.*")
    assert (aside / "best.weights.h5").exists()


def test_trial_in_training_is_left_alone(pack, runs):
    with directory.held(runs / PLAIN.directory):
        outcome = archive.unpack(pack)
    assert "in training" in outcome.told[0]
    assert done(runs) == ["recorded"]


def test_what_tuners_have_found_is_packed_with_its_sweep(pack, runs, tmp_path):
    record = {"search": {}, "digests": [], "keras_tuner": "1.4.8", "rows": []}
    names = [f"{SWEEP}-random-1.json", "other-random-1.json"]
    archive.unpack(pack)
    for name in names:
        files.write_json(runs / directory.SEARCH / name, record)
    archive.pack(*EXPERIMENT.split("/"), SWEEP, paths.PACKS)
    packed = (runs / directory.SEARCH / names[0]).read_bytes()
    runs.rename(runs.with_name("elsewhere"))
    assert archive.unpack(pack).told == []
    assert [path.name for path in (runs / directory.SEARCH).iterdir()] == names[:1]
    assert (runs / directory.SEARCH / names[0]).read_bytes() == packed

    def spoil(member, content):
        return [(member, b"[]" if directory.SEARCH in member.name else content)]

    rewrite(pack, spoil)
    outcome = archive.unpack(pack)
    assert (outcome.taken, outcome.kept, outcome.refused) == (0, 2, 1)
    assert f"{names[0]}: not taken: is no record of a search" in outcome.told[0]
    assert (runs / directory.SEARCH / names[0]).read_bytes() == packed


def test_committed_packs_are_read_once_and_again_when_they_change(pack, runs):
    assert archive.take("small", "cifar10") == [f"{NAME}: 2 trials taken, 0 here already"]
    assert archive.take("small", "cifar10") == []
    rewrite(pack, lambda member, content: [(member, content)])
    assert archive.take("small", "cifar10") == [f"{NAME}: 0 trials taken, 2 here already"]


def test_results_of_data_that_are_not_here_are_found(runs):
    """CIFAR-10 as image files has another fingerprint than the archive that would be downloaded."""
    trial = expand.expand(expand.load("cifar10"), "small", 1)[0]
    data = trial.data.model_copy(update={"fingerprint": "0123456789ab"})
    trial = trial.model_copy(update={"data": data})
    finish(runs, trial)
    arguments = [f"cifar10/{trial.sweep}", "--profile", "small", "--out", str(paths.PACKS)]
    assert "1 trials" in CliRunner().invoke(main, ["pack", *arguments]).output
    runs.rename(runs.with_name("elsewhere"))
    status = CliRunner().invoke(main, ["status", "--profile", "small", "cifar10"])
    assert "cifar10 (small): 1 done, 0 failed" in status.output


def test_commands_say_what_they_did_and_fail_where_something_was_refused(pack, runs):
    arrived = CliRunner().invoke(main, ["import", str(pack)])
    assert (arrived.exit_code, f"{pack}: 2 trials taken" in arrived.output) == (0, True)
    (runs / PLAIN.directory / directory.PREDICTIONS).unlink()
    packed = CliRunner().invoke(main, ["pack", "cifar10", "--profile", "smoke"])
    assert packed.exit_code == 1
    missing = CliRunner().invoke(main, ["import", str(pack.with_name("none.tar.xz"))])
    assert (missing.exit_code, "No such file" in missing.output) == (1, True)
    unknown = CliRunner().invoke(main, ["pack", "cifar10/none"])
    assert "has no sweep 'none'" in unknown.output


def test_full_profile_of_which_some_data_were_trained_on_has_these_and_the_rest_as_declared(runs):
    declared = expand.expand(expand.load("transfer"), "full", 1, lambda spec: spec)
    alike = {trial.data: trial for trial in declared if trial.data.name == "photographs"}
    data, *others = alike
    trained = data.model_copy(update={"fingerprint": "0123456789ab"})
    finish(paths.runs() / "full/transfer", alike[data].model_copy(update={"data": trained}))
    found = {trial.data for trial in Study.open("transfer", "full", 1, train=False).trials}
    assert others
    assert {trained, *others} <= found
    assert data not in found
    with pytest.raises(DataError):
        Study.open("transfer", "full", 1)
