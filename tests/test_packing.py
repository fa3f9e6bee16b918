"""Results carried between machines: the same tables there, and no pack that is not what it says."""

import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from click.testing import CliRunner

from conftest import tiny
from fault_tools import KEPT, RECORDED, difference, family, tables
from refit import files, lease
from refit.cli import main
from refit.errors import DataError, DeclarationError, PackError
from refit.run_directory import directory, events, merging, packing, run_log, unpacking
from refit.run_directory.directory import CHECKPOINT, EVENT_FOLDERS, RESULT
from refit.run_directory.packing import CURVES, MANIFEST, RESULTS
from refit.running import runner
from refit.study import Study
from refit.training import checkpoint

NAME, PROFILE, PACK = "fmnist_zoo", "smoke", "refit-smoke.zip"
PREDICTED = "predictions/0.npy"


def folder(runs: Path) -> Path:
    return runs / PROFILE / NAME


@pytest.fixture(autouse=True)
def there(tmp_path, monkeypatch) -> Path:
    """The folder of runs of the machine that imports, empty at first."""
    monkeypatch.setenv("REFIT_RUNS", str(tmp_path / "there"))
    return tmp_path / "there"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Trials of every kind, where they were trained, and a pack of them with their weights."""
    runs = tmp_path_factory.mktemp("origin")
    trials = family(2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REFIT_RUNS", str(runs))
        runner.check(runner.run(trials, folder(runs), workers=2))
        said = packing.pack(runs / "all.zip", [NAME], PROFILE, weights=True)
        packing.pack(runs / "plain.zip", [NAME], PROFILE)
    assert f"{len(trials)} finished trials" in said[-1]
    return trials, folder(runs), runs / "all.zip"


def lasting(there: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in there.rglob("*") if path.is_file()}


def test_tables_are_those_of_the_origin(trained, there):
    trials, origin, pack = trained
    (told,) = merging.merge([pack])
    assert told.endswith("6 imported")
    before, after = (run_log.read(trials, place) for place in (origin, folder(there)))
    for name in ("results", "curves", "confusions"):
        pd.testing.assert_frame_equal(
            getattr(before, name), getattr(after, name), check_exact=True
        )  # times included
    assert difference(tables(trials, folder(there)), tables(trials, origin)) == ""
    before, after = (run_log.provenance(trials, place) for place in (origin, folder(there)))
    assert "packed 20" in after.set_index("fact")["value"]["imported"]
    after = after[after["fact"] != "imported"].reset_index(drop=True)
    pd.testing.assert_frame_equal(before, after)
    for trial in trials:
        for name in ("", *EVENT_FOLDERS):
            one, other = (repr(events.read_timed(place / trial.directory / name))
                          for place in (origin, folder(there)))  # fmt: skip
            assert one == other
        kept = sorted(path.name for path in (origin / trial.directory).glob("*.h5"))
        assert kept == sorted(p.name for p in (folder(there) / trial.directory).glob("*.h5"))
    result = directory.result_of(trials[0], folder(there))
    assert set(result["imported"]) == {"written_by", "packed", "imported"}
    assert runner.run(trials, folder(there)).done_before == len(trials)


def test_second_import_changes_nothing(trained, there):
    _, _, pack = trained
    merging.merge([pack])
    before = lasting(there)
    (told,) = merging.merge([pack])
    assert told.endswith(": 6 here already")
    assert lasting(there) == before


def test_pack_without_weights_says_what_cannot_go_on(trained, there):
    trials, _, pack = trained
    told = merging.merge([pack.with_name("plain.zip")])
    assert "4 without the weights that other trials start from" in told[-1]
    assert not list(there.rglob("*.h5"))
    assert all(directory.result_of(trial, folder(there)) for trial in trials)


def test_result_that_is_here_stays_and_what_differs_is_said(trained, there):
    trials, _, pack = trained
    merging.merge([pack])
    path = folder(there) / trials[0].directory / RESULT
    result = json.loads(path.read_text())
    result["metrics"]["val_accuracy"] = 2.5
    files.write_json(path, result)
    told = merging.merge([pack])
    assert len(told) == 2
    assert "val_accuracy is 2.5 here and 0." in told[0]
    assert json.loads(path.read_text()) == result


def test_damaged_result_is_replaced_and_older_curves_are_set_aside(trained, there):
    trials, origin, pack = trained
    merging.merge([pack])
    run_dir = folder(there) / trials[0].directory
    (run_dir / RESULT).write_text("{")
    told = merging.merge([pack])
    assert told[-1].endswith("1 imported, 5 here already")
    assert (run_dir / "train.damaged1").is_dir()
    assert difference(tables(trials, folder(there)), tables(trials, origin)) == ""


def test_trial_in_training_is_left_out(trained, there, monkeypatch):
    trials, _, pack = trained
    monkeypatch.setattr(packing, "PATIENCE", 0.1)
    run_dir = folder(there) / trials[0].directory
    with directory.held(run_dir) as free:
        assert free
        told = merging.merge([pack])
    assert "left out, because it is in training here" in told[0]
    assert directory.result_of(trials[0], folder(there)) is None


def test_two_imports_at_once_and_neither_loads_keras(trained, there):
    trials, origin, pack = trained
    code = (
        "import sys; from refit import lease, merging; from pathlib import Path; "
        "print(merging.merge([Path(sys.argv[1])])); "
        "assert not {'tensorflow', 'keras', 'jax'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code, str(pack)]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
    assert difference(tables(trials, folder(there)), tables(trials, origin)) == ""


def few(study: Study) -> Study:
    return replace(study, trials=study.trials[:3])


def test_study_that_was_imported_trains_nothing_and_judges_the_same(tmp_path, there, monkeypatch):
    monkeypatch.setenv("REFIT_RUNS", str(tmp_path / "here"))
    study = few(Study.open("fmnist_grid"))
    study.train(2)
    made = CliRunner().invoke(main, ["pack", str(tmp_path / "p.zip"), "fmnist_grid"])
    assert made.exit_code == 0, made.output
    monkeypatch.setenv("REFIT_RUNS", str(there))
    read = CliRunner().invoke(main, ["import", str(tmp_path / "p.zip")])
    assert read.exit_code == 0, read.output
    elsewhere = few(Study.open("fmnist_grid"))
    assert elsewhere.train().trained == 0
    facts = elsewhere.provenance()
    assert "packed 20" in facts.pop("imported")
    assert facts == study.provenance()
    for one, pages in ((study, "a"), (elsewhere, "b")):
        log = one.log()
        replace(one, pages=tmp_path / pages).save(log, *one.judge(log))
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


# --- packs that are not what they say --------------------------------------------------------


def altered(pack: Path, target: Path, changes: dict[str, Callable], honest: bool = True) -> Path:
    """A copy of a pack with changed or new members; an honest one says so in its manifest."""
    with zipfile.ZipFile(pack) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    for name, change in changes.items():
        contents[name] = change(contents.get(name, b""))
    manifest = json.loads(contents[MANIFEST])
    if honest:
        for name in set(changes) - {MANIFEST}:
            digest = hashlib.sha256(contents[name]).hexdigest()
            manifest["members"][name] = {"size": len(contents[name]), "sha256": digest}
        contents[MANIFEST] = json.dumps(manifest).encode()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return target


def row(**changes) -> Callable[[bytes], bytes]:
    """Change the first trial; a dictionary changes what is inside of a value."""

    def change(content: bytes) -> bytes:
        first, rest = content.split(b"\n", 1)
        plain = json.loads(first)
        for key, value in changes.items():
            plain[key] = plain.get(key, {}) | value if isinstance(value, dict) else value
        return json.dumps(plain).encode() + b"\n" + rest

    return change


def put(old: str, new: str) -> Callable[[bytes], bytes]:
    """Replace the first match of a pattern."""
    return lambda content: re.sub(old, new, content.decode(), count=1).encode()


def saved(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


HUGE = saved(np.zeros(60, np.uint8)).replace(b"(60,), }        ", b"(1099511627776,)}")
WEIGHTS = "weights/0/best.weights.h5"
DAMAGE = {
    "directory that escapes": ({RESULTS: row(directory="../../../x")}, RESULTS, "settings give"),
    "name that escapes": ({RESULTS: row(trial={"name": "../x"})}, RESULTS, "cannot name a folder"),
    "experiment that escapes": ({RESULTS: row(experiment="../x")}, RESULTS, "no experiment '../x'"),
    "profile that escapes": ({RESULTS: row(profile="../x")}, RESULTS, "profile: "),
    "member that escapes": ({"../../evil.npy": bytes}, "the archive", "'../../evil.npy' is no"),
    "weights that escape": ({"weights/0/../x.h5": bytes}, "the archive", "is no member"),
    "other settings": ({RESULTS: row(trial={"batch_size": 7})}, RESULTS, "settings give"),
    "other digest": ({RESULTS: row(result={"digest": "0" * 10})}, RESULTS, "digest is '000"),
    "unknown setting": ({RESULTS: row(trial={"x": 1})}, RESULTS, "trial.x: unknown key"),
    "no metrics": ({RESULTS: row(result={"metrics": {}})}, RESULTS, "has no train_accuracy"),
    "odd metric": ({RESULTS: row(result={"metrics": {"a": []}})}, RESULTS, "metrics.a"),
    "odd matrix": ({RESULTS: row(result={"confusion_matrix": [[1]]})}, RESULTS, "does not fit 5"),
    "no trial": ({RESULTS: lambda content: b""}, RESULTS, "has not the trials of the manifest"),
    "trial twice": ({RESULTS: lambda c: c + c.splitlines(True)[0]}, RESULTS, "has a trial twice"),
    "no JSON": ({RESULTS: lambda content: b"{\n"}, RESULTS, "Expecting property name"),
    "deep JSON": ({RESULTS: lambda content: b"[" * 200_000}, RESULTS, "recursion"),
    "version": ({MANIFEST: put('"format": *1', '"format": 2')}, MANIFEST, "format is 2, and this"),
    "no manifest": ({MANIFEST: put('"finished"', '"x"')}, MANIFEST, "finished: missing"),
    "value": ({CURVES: put(r",0\.\d+\n", ",x\n")}, CURVES, "could not convert"),
    "step": ({CURVES: put(r"loss,0,", "loss,-1,")}, CURVES, "has the step -1"),
    "folder": ({CURVES: put(r",train,", ",../x,")}, CURVES, "names the folder '../x'"),
    "digest of a curve": ({CURVES: put(r"\n0,..", "\n0,zz")}, CURVES, "has the digest 'zz"),
    "trial of a curve": ({CURVES: put(r"\n0,", "\n99,")}, CURVES, "names trial 99 out of turn"),
    "curve that is cut": ({CURVES: lambda c: c[: c.rindex(b"\n", 0, -1) + 1]}, CURVES, "the rows"),
    "pickle": ({PREDICTED: lambda c: saved(np.array([{}] * 60))}, PREDICTED, "Python objects"),
    "other shape": ({PREDICTED: lambda c: saved(np.zeros(9, np.uint8))}, PREDICTED, "shape (9,)"),
    "huge array": ({PREDICTED: lambda c: HUGE}, PREDICTED, "1,099,511,627,776 bytes and does not"),
    "huge member": ({WEIGHTS: lambda c: bytes(2**25)}, "the archive", "would unpack to 33,554,432"),
    "no HDF5": ({WEIGHTS: lambda c: b"#!/bin/sh"}, WEIGHTS, "is no HDF5 file"),
    "other file": (
        {"weights/0/x.h5": lambda c: b"\x89HDF\r\n\x1a\n"}, "weights/0/x.h5", "is no file that",
    ),
    "predictions of nobody": ({"predictions/77.npy": bytes}, "predictions/77.npy", "no trial 77"),
    "checkpoint of a trial that is done": (
        {"checkpoints/0.npz": lambda c: b"x"}, "checkpoints/0.npz", "a trial that is done",
    ),
}  # fmt: skip


def check_refused(path: Path, there: Path, *said: str) -> None:
    told = CliRunner().invoke(main, ["import", str(path)], catch_exceptions=False)
    assert told.exit_code == 1, told.output
    assert told.output.startswith(f"refit: {path}: ")
    assert len(told.output.splitlines()) == 1
    for part in said:
        assert part in told.output
    assert not there.exists()


@pytest.mark.parametrize("kind", DAMAGE)
def test_pack_that_lies_is_refused_and_nothing_is_changed(kind, trained, there, tmp_path):
    changes, member, said = DAMAGE[kind]
    path = altered(trained[2], tmp_path / "lies.zip", changes)
    check_refused(path, there, f": {member}: ", said)


def test_member_that_is_not_that_of_the_manifest_is_refused(trained, there, tmp_path):
    changes = {RESULTS: put('"val_accuracy": 0.', '"val_accuracy": 1.')}
    path = altered(trained[2], tmp_path / "changed.zip", changes, honest=False)
    check_refused(path, there, RESULTS, "is not what the manifest says")


def test_one_bad_pack_keeps_the_others_out(trained, there, tmp_path):
    (tmp_path / "text.zip").write_text("no archive")
    with pytest.raises(PackError, match=r"text\.zip: the archive: File is not a zip file"):
        merging.merge([trained[2], tmp_path / "text.zip"])
    assert not there.exists()


def test_file_that_was_cut_off_is_refused(trained, there, tmp_path):
    content = trained[2].read_bytes()
    path = tmp_path / "cut.zip"
    for length in (0, 1, 1000, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        check_refused(path, there, "the archive")


def test_changed_byte_is_found_or_harmless(trained, there, tmp_path):
    _, _, pack = trained
    content = bytearray(pack.with_name("plain.zip").read_bytes())
    path = tmp_path / "changed.zip"
    with unpacking.read(pack.with_name("plain.zip")) as whole:
        rows, curves = whole.rows, repr(list(unpacking.curves(whole)))
    found = 0
    for place in np.random.default_rng(0).integers(0, len(content), 150):
        content[place] ^= 0x55
        path.write_bytes(content)
        content[place] ^= 0x55
        try:
            with unpacking.read(path) as read:
                assert repr(read.rows) == repr(rows)
                assert repr(list(unpacking.curves(read))) == curves
        except PackError:
            found += 1
    assert found > 100


def test_weights_under_a_name_of_their_epoch_are_known():
    file = "model-{epoch:05d}-{val_loss:.5f}.h5"
    trial = tiny(callbacks=[{"name": "keep_best", "file": file}])
    known = ("model-00003-0.12345.h5", "best.weights.h5", "base.weights.h5", "final.weights.h5")
    assert all(packing.keeps(trial, name) for name in known)
    assert not any(packing.keeps(trial, name) for name in ("model.h5", "other-1-2.h5"))


def test_nothing_to_pack_and_unknown_names_get_a_sentence(tmp_path):
    for arguments, said in (
        ([], "nothing to pack: no trial of profile smoke is done"),
        (["nothing"], "no experiment 'nothing'; known: cifar10"),
        ([NAME, "--profile", "../x"], "no profile '../x'; known: smoke"),
    ):
        told = CliRunner().invoke(main, ["pack", str(tmp_path / "p.zip"), *arguments])
        assert told.exit_code == 1
        assert said in told.output
    assert not (tmp_path / "p.zip").exists()


# --- a machine that is lent for minutes ------------------------------------------------------


def opened(*trials) -> list[Study]:
    return [replace(Study.open(NAME), trials=trials)]


def lent(trials, minutes: float, out: Path, *origins: Path) -> tuple[int, str]:
    said: list[str] = []
    code = lease.run(
        PROFILE, lambda: opened(*trials), minutes, out, origins, say=said.append, workers=2
    )
    return code, "\n".join(said)


def test_two_leases_end_with_what_one_run_gives(tmp_path, there, monkeypatch):
    trials = [
        tiny(name="short", sweep="lenet", epochs=1),
        tiny(name="recorded", sweep="lenet", epochs=25, **RECORDED, **KEPT),
    ]
    first = folder(tmp_path / "first")
    done, begun = first / trials[0].directory / RESULT, first / trials[1].directory / CHECKPOINT

    def ring() -> None:
        while not done.exists() or checkpoint.saved_epochs(begun) < 2:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGALRM)

    monkeypatch.setenv("REFIT_RUNS", str(tmp_path / "first"))
    threading.Thread(target=ring, daemon=True).start()
    code, said = lent(trials, 5, tmp_path / "out")
    assert code == lease.WORK_LEFT, said
    assert "the time for training is over" in said
    pack = tmp_path / "out" / PACK
    with unpacking.read(pack) as read:
        assert read.manifest.unfinished == 1
    monkeypatch.setenv("REFIT_RUNS", str(there))
    number = [row.directory for row in read.rows].index(trials[1].directory.as_posix())
    spoilt = altered(pack, tmp_path / "spoilt.zip", {f"checkpoints/{number}.npz": _with_pickle})
    check_refused(spoilt, there, f"checkpoints/{number}.npz", "Python objects")

    code, said = lent(trials, 5, tmp_path / "out")
    assert code == lease.ALL_DONE, said
    assert "2 of 2 trials are done" in said
    resumed = directory.result_of(trials[1], folder(there))["resumed_at_epoch"]
    assert 2 <= resumed < 25
    runner.run(trials, tmp_path / "undisturbed", workers=2)
    assert difference(tables(trials, folder(there)), tables(trials, tmp_path / "undisturbed")) == ""


def test_lease_keeps_what_it_imported_and_goes_on_where_a_study_fails(
    trained, there, tmp_path, monkeypatch
):
    """A pack for another experiment is not replaced by a smaller one."""
    monkeypatch.setenv("REFIT_RUNS", str(there))
    broken = replace(opened()[0], trials=[tiny(sweep="lenet", data={"name": "fashion_mnist"})])
    good = replace(opened()[0], trials=[tiny(name="short", sweep="lenet", epochs=1)])
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr("refit.running.runner._sizes", _no_data_for("fashion_mnist", runner._sizes))
    said: list[str] = []
    how = {"origins": [trained[2]], "say": said.append, "workers": 1}
    code = lease.run(PROFILE, lambda: [broken, good], 5, tmp_path / "out", **how)
    assert code == 1
    assert "  no such data" in said
    with unpacking.read(trained[2]) as before, unpacking.read(tmp_path / "out" / PACK) as after:
        there_before = {row.directory for row in before.rows}
        assert {row.directory for row in after.rows} == {
            *there_before, good.trials[0].directory.as_posix()
        }  # fmt: skip


def _no_data_for(name: str, found):
    def sizes(trials, data_dir):
        if any(trial.data.name == name for trial in trials):
            raise DataError("no such data")
        return found(trials, data_dir)

    return sizes


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_lease_that_is_stopped_packs_what_there_is(number, tmp_path, monkeypatch):
    monkeypatch.setenv("REFIT_RUNS", str(tmp_path / "runs"))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    trial = tiny(name="endless", sweep="lenet", epochs=100_000)

    def stop() -> None:
        while not checkpoint.saved_epochs(folder(tmp_path / "runs") / trial.directory / CHECKPOINT):
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    threading.Thread(target=stop, daemon=True).start()
    code, said = lent([trial], 5, tmp_path / "out")
    signal.signal(signal.SIGINT, before)
    assert code == lease.WORK_LEFT, said
    with unpacking.read(tmp_path / "out" / PACK) as read:
        assert read.manifest.unfinished == 1


def _with_pickle(content: bytes) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, state=np.array({"history": [0, 0]}, object))
    return buffer.getvalue()


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.default_int_handler])
def test_lease_ends_in_time_where_a_training_does_not(handler, tmp_path, monkeypatch):
    """Also in the background, where the shell has Ctrl-C ignored."""
    monkeypatch.setattr(lease, "LEAST_RESERVE", 10.0)
    before = signal.signal(signal.SIGINT, handler)
    began = time.monotonic()
    code, said = lent([tiny(name="endless", sweep="lenet", epochs=100_000)], 0.4, tmp_path)
    assert signal.signal(signal.SIGINT, before) is handler
    assert time.monotonic() - began < 24
    assert code == lease.WORK_LEFT
    assert "0 of 1 trials are done" in said
    at_work = [p for p in psutil.Process().children(recursive=True) if p.cpu_percent(0.2) > 50]
    assert not at_work


def test_lease_ends_in_time_where_nothing_stops_when_asked():
    code = (
        "import signal, time; from pathlib import Path; from refit import lease\n"
        "lease.LEAST_RESERVE = 0.2\n"
        "def opened():\n"
        "    signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "    time.sleep(60)\n"
        "lease.run('smoke', opened, 0.02, Path('.'))"
    )
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert ended.returncode == lease.WORK_LEFT, ended.stderr
    assert "ended without a new pack" in ended.stdout
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("minutes", [0.1, -1, float("nan"), float("inf")])
def test_time_that_nobody_can_mean_is_refused(minutes, tmp_path):
    with pytest.raises(DeclarationError, match="minutes is"):
        lent([], minutes, tmp_path)
