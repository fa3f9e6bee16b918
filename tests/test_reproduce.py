"""The main job as a user runs it: one command from the declaration to verified pages."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from refit.cli import main
from refit.experiments import expand

# Of every experiment: its trials on smoke data, and the published numbers that need no real data.
TRIALS = {
    "cifar10": 16, "fmnist_grid": 14, "fmnist_tuning": 13, "fmnist_zoo": 16, "gesture": 9,
    "transfer": 3,
}  # fmt: skip
EXACT = {
    "cifar10": 0, "fmnist_grid": 0, "fmnist_tuning": 3, "fmnist_zoo": 44, "gesture": 2,
    "transfer": 0,
}  # fmt: skip


def here(*arguments: str) -> Result:
    """What a command says that trains nothing: in this process, without a start of its own."""
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def refit(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", "from refit.cli import main; main()", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env=os.environ | environment, check=False
    )


@pytest.fixture(scope="module")
def made() -> subprocess.CompletedProcess:
    return refit("reproduce")


@pytest.fixture(scope="module")
def pages(made) -> Path:
    assert made.returncode == 0, made.stderr + made.stdout
    return Path(os.environ["REFIT_REPORTS"]) / "smoke"


@pytest.mark.parametrize("name", expand.names())
def test_every_trial_is_done_and_every_number_is_shown(made, pages, name):
    assert f"{name} (smoke): {TRIALS[name]} trials" in made.stdout
    declaration = expand.load(name)
    html = (pages / f"{name}.html").read_text()
    assert re.search(rf"{TRIALS[name]} of {TRIALS[name]} (trials|trainings) are done", html)
    for word in ("Question", "Data", "Models", "Training", "Results", "Claims", "Conclusion"):
        assert re.search(rf"<h2[^>]*>{word}", html)
    assert html.count("data:image/png") >= 5
    for claim in declaration.claims:
        assert f">{claim.id}<" in html
    for note in [*declaration.assumptions, *declaration.anomalies]:
        assert f">{note.id}<" in html
    figures = (pages / name / "figures.csv").read_text().splitlines()
    assert len(figures) == 1 + len(declaration.published.figures)


def test_predictions_are_stored_as_the_competition_wants_them(pages):
    submission = (pages / "fmnist_zoo" / "submission.csv").read_text().splitlines()
    assert submission[0] == "Id,Label"


def test_what_tuners_found_is_told_for_every_grid(pages):
    html = (pages / "fmnist_grid.html").read_text()
    for title in ("Grid 1, the architecture", "Grid 2, the training"):
        assert f"{title}: what tuners find" in html
        assert f"{title}: chosen on one half of the test images" in html
    for name in ("grid1", "grid2"):
        rows = (pages / "fmnist_grid" / f"search_{name}.csv").read_text().splitlines()[1:]
        assert {row.split(",")[1] for row in rows} == {"random", "bayesian", "hyperband"}


@pytest.mark.parametrize("name", expand.names())
def test_demonstration_data_earn_no_verdict(pages, name):
    stored = json.loads((pages / "verdicts.json").read_text())
    claims = stored["claims"][name]
    assert claims["reproduced"] == claims["contradicted"] == claims["inconclusive"] == 0
    figures = stored["figures"][name]
    assert figures.get("exact", 0) == EXACT[name]
    assert figures.get("reproduced", 0) == 0


def test_second_run_trains_nothing_and_makes_no_page_again(pages):
    before = {name: (pages / f"{name}.html").stat().st_mtime_ns for name in TRIALS}
    again = refit("reproduce")
    assert again.returncode == 0
    for name, changed in before.items():
        assert f"{name}.html (unchanged: nothing to train" in again.stdout
        assert (pages / f"{name}.html").stat().st_mtime_ns == changed


def test_pages_hold_no_path_of_the_machine(pages):
    for path in pages.rglob("*"):
        if path.suffix in (".html", ".json", ".csv"):
            assert str(Path.home()) not in path.read_text()
            assert os.environ["REFIT_RUNS"] not in path.read_text()


def test_verify_agrees_with_what_was_made(pages):
    verified = here("verify", str(pages))
    assert verified.exit_code == 0, verified.stderr
    assert "consistent" in verified.stdout


def test_status_and_plan_say_what_is_left(pages):
    assert "16 done, 0 failed, 0 missing" in here("status", "fmnist_zoo").stdout
    for line in here("status").stdout.splitlines():
        assert line.endswith("done, 0 failed, 0 missing"), "nor is any optional sweep not run"
    planned = here("plan", "fmnist_zoo", "--seeds", "2").stdout
    assert re.search(r"cnn +14 +7 +7 +\d+\.\d\d", planned)
    assert "16 to train, about" in planned


# Every Python that is started, kernels included, notes what it must not do, and does not do it.
WATCH = """
import os, sys
open(os.environ["NOTED"], "a").close()
def watch(event, details):
    trains = event == "import" and details[0] == "refit.training.fit"
    calls = event == "socket.connect" and isinstance(details[1], tuple)
    if trains or (calls and details[1][0] != "127.0.0.1"):
        open(os.environ["NOTED"], "a").write(f"{event} {details[:2]}\\n")
        raise OSError("forbidden")
sys.addaudithook(watch)
"""


def test_what_trains_nothing_needs_neither_network_nor_trainer(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    names = ("REFIT_RUNS", "REFIT_REPORTS", "NOTED", "KERAS_HOME")
    elsewhere = {name: str(tmp_path / name) for name in names} | {"DATA_DIR": ""}
    elsewhere["PYTHONPATH"] = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    for command in ("status", "plan", "report"):
        told = refit(command, "fmnist_grid", "--profile", "full", **elsewhere)
        assert told.returncode == 0, told.stderr
    assert (tmp_path / "NOTED").read_text() == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["reproduce", "fmnist_zo"],
            "no experiment 'fmnist_zo'; known: cifar10, fmnist_grid, fmnist_tuning",
        ),
        (["reproduce", "--profile", "smok"], "no profile 'smok'; known: smoke, small, full"),
        (["reproduce", "--seeds", "-1"], "seeds is -1; give a whole number from 1"),
        (["status", "--data-dir", "no/such/folder"], "is not a folder"),
        (["verify", "."], "holds no report"),
    ],
)
def test_mistakes_get_a_sentence_and_no_traceback(arguments, said):
    failed = here(*arguments)
    assert failed.exit_code != 0
    assert said in failed.stderr


def test_a_lost_run_directory_costs_one_training_and_a_lost_figure_none(pages):
    lost = next((Path(os.environ["REFIT_RUNS"]) / "smoke/fmnist_tuning/optimizers").glob("sgd-*"))
    shutil.rmtree(lost)
    figure = next((pages / "fmnist_tuning").glob("*.png"))
    figure.unlink()
    again = refit("reproduce", "fmnist_tuning")
    assert again.returncode == 0, again.stderr
    assert "1 of 13 trials to train" in again.stdout
    html = (pages / "fmnist_tuning.html").read_text()
    assert "13 of 13 trainings are done" in html
    assert figure.exists()
