"""A page stays as it is exactly while all that it was made from, and all of it, is unchanged."""

import dataclasses
import shutil

import pytest

from refit import files, paths
from refit.pages import freshness
from refit.pages.page import PageEntry, record
from refit.run_directory import directory
from refit.study import Study

PARAMETERS = {"seeds": 1, "workers": 0, "train": True, "profile": "smoke"}


@pytest.fixture(scope="module")
def opened():
    return Study.open("transfer")


@pytest.fixture
def study(opened, tmp_path, monkeypatch):
    """A study whose trials are done and whose page is made, with a copy of its sources."""
    for name in ("NOTEBOOKS", "EXPERIMENTS"):
        copy = shutil.copytree(getattr(paths, name), tmp_path / name.lower())
        monkeypatch.setattr(paths, name, copy)
    shutil.copytree(paths.PACKAGE, tmp_path / "package")
    monkeypatch.setattr(paths, "PACKAGE", tmp_path / "package")
    made = dataclasses.replace(
        opened, runs=tmp_path / "runs" / "transfer", pages=tmp_path / "smoke" / "transfer"
    )
    for trial in made.trials:
        files.write_json(made.runs / trial.directory / directory.RESULT, {"digest": trial.digest})
        (made.runs / trial.directory / "train").mkdir()
        (made.runs / trial.directory / "train" / "events.out.tfevents.1").write_bytes(b"events")
    files.write_bytes(made.pages.with_suffix(".html"), b'<script src="plotly.min.js"></script>')
    files.write_bytes(made.pages / "figure.png", b"figure")
    files.write_bytes(made.pages.with_name("plotly.min.js"), b"script")
    note(made)
    return made


def note(study, **changes):
    """Note a page as made, as the command line does it."""
    count = len(study.trials)
    entry = PageEntry(
        study.name, "Transfer", "finished", "", count, count, 1.0, "digits",
        inputs=freshness.inputs(study, freshness.recipe(study, PARAMETERS)),
        digests=freshness.digests(study.pages),
    )  # fmt: skip
    record(study.pages.parent, dataclasses.replace(entry, **changes))


def test_page_stays_while_nothing_changes(study):
    assert freshness.is_unchanged(study, PARAMETERS)
    (study.runs / "progress.log").write_text("what a run says of itself is no input")
    assert freshness.is_unchanged(study, PARAMETERS)


@pytest.mark.parametrize(
    "changed",
    [
        "notebooks/transfer.ipynb",
        "experiments/transfer.yaml",
        "package/verdicts/claims.py",
        "package/pages/templates/style.css",
        "package/data/digits.py",
        "runs/*/*/*/result.json",
        "runs/*/*/*/train/events.*",
        "smoke/transfer.html",
        "smoke/transfer/figure.png",
        "smoke/plotly.min.js",
    ],
)
@pytest.mark.parametrize("how", ["edited", "removed"])
def test_page_is_made_anew_after_any_change(study, tmp_path, changed, how):
    path = next(tmp_path.glob(changed))
    if how == "edited":
        path.write_bytes(path.read_bytes() + b" ")
    else:
        path.unlink()
    assert not freshness.is_unchanged(study, PARAMETERS)


@pytest.mark.parametrize("added", ["search/grid1-random-1.json", "sweep/trial-seed2-0/result.json"])
def test_page_is_made_anew_after_a_new_search_or_trial(study, added):
    files.write_json(study.runs / added, {})
    assert not freshness.is_unchanged(study, PARAMETERS)


def test_page_is_made_anew_with_other_parameters_trials_or_packages(study, monkeypatch):
    assert not freshness.is_unchanged(study, PARAMETERS | {"seeds": 2})
    fewer = dataclasses.replace(study, trials=study.trials[1:])
    assert not freshness.is_unchanged(fewer, PARAMETERS)
    monkeypatch.setattr(freshness, "packages", lambda: ("pandas 9",))
    assert not freshness.is_unchanged(study, PARAMETERS)


@pytest.mark.parametrize("changes", [{"status": "failed"}, {"trials_done": 2}, {"inputs": ""}])
def test_page_of_a_failed_or_partial_run_is_made_anew(study, changes):
    note(study, **changes)
    assert not freshness.is_unchanged(study, PARAMETERS)


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_page_with_a_damaged_record_is_made_anew(study, content):
    (study.pages / directory.PAGE).write_text(content)
    assert not freshness.is_unchanged(study, PARAMETERS)
