"""The main job as a user runs it: one command from the declaration to verified pages."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from refit import experiment


def refit(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", "from refit.cli import main; main()", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env=os.environ | environment, check=False
    )


@pytest.fixture(scope="module")
def made() -> subprocess.CompletedProcess:
    return refit("reproduce", "fmnist_zoo")


@pytest.fixture(scope="module")
def pages(made) -> Path:
    assert made.returncode == 0, made.stderr + made.stdout
    return Path(os.environ["REFIT_REPORTS"]) / "smoke"


@pytest.fixture
def copied(pages, tmp_path) -> Path:
    """A copy of the pages that a test may spoil."""
    return Path(shutil.copytree(pages, tmp_path / "smoke"))


def test_every_published_trial_is_done_and_every_number_is_shown(made, pages):
    assert "20 of 20 trials" in made.stdout
    declaration = experiment.load("fmnist_zoo")
    html = (pages / "fmnist_zoo.html").read_text()
    for word in ("Question", "Data", "Models", "Training", "Results", "Claims", "Conclusion"):
        assert re.search(rf"<h2[^>]*>{word}", html)
    assert html.count("data:image/png") >= 10
    for claim in declaration.claims:
        assert f">{claim.id}<" in html
    for note in [*declaration.assumptions, *declaration.anomalies]:
        assert f">{note.id}<" in html
    figures = (pages / "fmnist_zoo" / "figures.csv").read_text().splitlines()
    assert len(figures) == 1 + len(declaration.published.figures)
    submission = (pages / "fmnist_zoo" / "submission.csv").read_text().splitlines()
    assert submission[0] == "Id,Label"


def test_demonstration_data_earn_no_verdict(pages):
    stored = json.loads((pages / "verdicts.json").read_text())
    claims = stored["claims"]["fmnist_zoo"]
    assert claims["reproduced"] == claims["contradicted"] == claims["inconclusive"] == 0
    figures = stored["figures"]["fmnist_zoo"]
    assert figures["exact"] == 51
    assert figures["reproduced"] == 0


def test_second_run_trains_nothing(pages):
    again = refit("reproduce", "fmnist_zoo")
    assert again.returncode == 0
    assert "20 trials: 20 done before, 0 trained" in (pages / "fmnist_zoo.html").read_text()


def test_pages_hold_no_path_of_the_machine(pages):
    for path in pages.rglob("*"):
        if path.suffix in (".html", ".json", ".csv"):
            assert str(Path.home()) not in path.read_text()
            assert os.environ["REFIT_RUNS"] not in path.read_text()


def test_verify_agrees_with_what_was_made(pages):
    verified = refit("verify", str(pages))
    assert verified.returncode == 0, verified.stderr
    assert "results, published numbers, verdicts and scoreboard agree" in verified.stdout


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("fmnist_zoo/figures.csv", ",0.8888,", ",0.9888,"),
        ("fmnist_zoo/claims.csv", "not comparable", "reproduced"),
        ("fmnist_zoo/curves.csv", "cnn,cnn1,1337,3,0.", "cnn,cnn1,1337,3,0.1"),
        ("fmnist_zoo/results.csv", ",886245", ",886246"),
        ("fmnist_zoo/confusions.csv", "\ncnn1,1337,", "\ncnn2,1337,"),
        ("fmnist_zoo.html", ">0.8888<", ">0.9888<"),
        ("verdicts.json", '"exact": 51', '"exact": 52'),
        ("verdicts.csv", "exact,51", "exact,52"),
        ("index.html", ">51<", ">52<"),
    ],
)
def test_verify_finds_an_edited_number(copied, name, old, new):
    path = copied / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    verified = refit("verify", str(copied))
    assert verified.returncode != 0
    assert path.name in verified.stderr


def test_verify_asks_for_the_record_of_what_a_page_was_made_from(copied):
    (copied / "fmnist_zoo" / "page.json").unlink()
    verified = refit("verify", str(copied))
    assert verified.returncode != 0
    assert "is not the file that the page was made from" in verified.stderr


def test_status_and_plan_say_what_is_left(pages):
    assert "20 done, 0 failed, 0 missing" in refit("status", "fmnist_zoo").stdout
    planned = refit("plan", "fmnist_zoo", "--seeds", "2").stdout
    assert re.search(r"cnn +14 +7 +7 +\d+\.\d\d", planned)
    assert "20 to train, about" in planned


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["reproduce", "fmnist_zo"], "no experiment 'fmnist_zo'; known: fmnist_zoo"),
        (["reproduce", "--profile", "smok"], "no profile 'smok'; known: smoke, small, full"),
        (["reproduce", "--seeds", "0"], "seeds is 0; give a whole number of at least 1"),
        (["status", "--data-dir", "no/such/folder"], "is not a folder"),
        (["verify", "."], "holds no report"),
    ],
)
def test_mistakes_get_a_sentence_and_no_traceback(arguments, said):
    failed = refit(*arguments)
    assert failed.returncode != 0
    assert said in failed.stderr
    assert "Traceback" not in failed.stderr


def test_failed_trial_fails_the_page_and_the_command(pages, tmp_path):
    """A file where a run directory should be: the trial fails, the page shows it."""
    runs, reports = tmp_path / "runs", tmp_path / "reports"
    shutil.copytree(Path(os.environ["REFIT_RUNS"]), runs)
    broken = next((runs / "smoke" / "fmnist_zoo" / "lenet").glob("lenet1-*"))
    shutil.rmtree(broken)
    broken.write_text("in the way")
    failed = refit("reproduce", "fmnist_zoo", REFIT_RUNS=str(runs), REFIT_REPORTS=str(reports))
    assert failed.returncode != 0
    assert "lenet1" in failed.stderr
    assert "1 failed" in (reports / "smoke" / "fmnist_zoo.html").read_text()
    assert "failed" in (reports / "smoke" / "index.html").read_text()
