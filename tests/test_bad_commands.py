"""What users mistype: commands, variables, parameters of notebooks. Each gets a sentence.

None of it may end in a traceback, pass unnoticed, be run by a shell or write where it should not.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest
from click.testing import CliRunner, Result
from papermill.exceptions import PapermillExecutionError

import page_tools
from refit import paths
from refit.cli import main
from refit.errors import DeclarationError, ReportError
from refit.pages import index, notebook
from refit.study import Study

NAME = "fmnist_grid"


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch) -> Path:
    """Results and pages in folders with odd names, and no data folder."""
    monkeypatch.setenv("REFIT_RUNS", str(tmp_path / "Läufe 1"))
    monkeypatch.setenv("REFIT_REPORTS", str(tmp_path / "Berichte 1"))
    monkeypatch.delenv("DATA_DIR", raising=False)
    (tmp_path / "file").write_text("no folder")
    return tmp_path


def run(*arguments: str) -> Result:
    """Run the command in this process; an exception that it lets through fails the test."""
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def check_refused(result: Result, *said: str) -> None:
    assert result.exit_code != 0, result.output
    assert "Traceback" not in result.output
    last = result.output.strip().splitlines()[-1]
    for part in said:
        assert part in last, result.output


@pytest.mark.parametrize("home", ["/", "/nonexistent"])
def test_who_has_no_home_is_lent_one(folders, monkeypatch, home):
    """Keras, Jupyter and Matplotlib keep settings there, and some stop where they cannot."""
    monkeypatch.setenv("HOME", home)
    assert run("status", NAME).exit_code == 0
    assert Path.home() == folders / "Läufe 1" / "home"
    assert Path.home().is_dir()


# --- the command line ------------------------------------------------------------------------

KNOWN = "known: cifar10, fmnist_grid"
MISTAKES = {
    "unknown profile": (["plan", NAME, "--profile", "typo"], "no profile 'typo'; known: smoke"),
    "empty profile": (["plan", NAME, "--profile", ""], "no profile ''; known: smoke"),
    "profile that is a path": (["plan", NAME, "--profile", "../full"], "no profile '../full'"),
    "negative seeds": (["status", NAME, "--seeds", "-1"], "seeds is -1; give a whole number"),
    "seeds in words": (["status", NAME, "--seeds", "abc"], "'abc' is not a valid integer"),
    "power of seeds": (["status", NAME, "--seeds", "1e9"], "'1e9' is not a valid integer"),
    "empty seeds": (["status", NAME, "--seeds", ""], "'' is not a valid integer"),
    "too many seeds": (["plan", NAME, "--seeds", "1000000000"], "from 1 to 1000, or 0"),
    "no workers": (["plan", NAME, "--workers", "0"], "0 is not in the range x>=1"),
    "too many workers": (["plan", NAME, "--workers", "999"], "workers is 999; give 1 to"),
    "far too many workers": (["reproduce", NAME, "--workers", "99999"], "give 1 to"),
    "workers in words": (["plan", NAME, "--workers", "abc"], "'abc' is not a valid integer"),
    "unknown experiment": (["plan", "fmnist_gird"], "no experiment 'fmnist_gird'", KNOWN),
    "no experiment": (["plan", ""], "no experiment ''", KNOWN),
    "path that leads back": (["plan", "../experiments/fmnist_grid"], "no experiment '..", KNOWN),
    "path elsewhere": (["plan", "../x"], "no experiment '../x'", KNOWN),
    "path of a file": (["plan", "experiments/fmnist_grid.yaml"], "no experiment 'exp", KNOWN),
    "whole path": (["plan", str(paths.EXPERIMENTS / "fmnist_grid")], "no experiment '/", KNOWN),
    "two lines": (["plan", "a\nb"], r"no experiment 'a\nb'", KNOWN),
    "colours": (["plan", "\x1b[31mred"], r"no experiment '\x1b[31mred'", KNOWN),
    "unknown option": (["plan", "--profil", "small"], "No such option"),
    "unknown command": (["reprodcue"], "No such command 'reprodcue'"),
    "folder that is not there": (["status", NAME, "--data-dir", "no/such"], "is not a folder"),
    "home of nobody": (["status", NAME, "--data-dir", "~nobody-here/x"], "cannot be a folder"),
    "name without end": (["status", NAME, "--data-dir", "x" * 5000], "DATA_DIR: 'xxx"),
    "zero in a name": (["status", NAME, "--data-dir", "a\0b"], r"DATA_DIR: 'a\x00b'"),
    "pages that are not there": (["verify", "no/such"], "does not exist"),
    "server": (["export", "mlflow", NAME, "--store", "https://example.org"], "is not a folder on"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_gets_a_sentence(mistake, folders):
    arguments, *said = MISTAKES[mistake]
    check_refused(run(*arguments), *said)
    assert not (folders / "Berichte 1").exists(), "nothing was made"


COMMANDS = {
    "status": ["status", NAME],
    "plan": ["plan", NAME],
    "report": ["report", NAME],
    "reproduce": ["reproduce", NAME],
}


@pytest.mark.parametrize("variable", ["REFIT_RUNS", "REFIT_REPORTS", "DATA_DIR"])
@pytest.mark.parametrize("command", COMMANDS)
def test_variable_that_names_a_file_is_refused(command, variable, folders, monkeypatch):
    monkeypatch.setenv(variable, str(folders / "file"))
    check_refused(run(*COMMANDS[command]), f"{variable}: {folders / 'file'} is not a folder")
    assert (folders / "file").read_text() == "no folder"


@pytest.mark.parametrize("variable", ["REFIT_RUNS", "REFIT_REPORTS"])
@pytest.mark.parametrize("command", ["report", "reproduce"])
def test_folder_that_cannot_be_written_is_refused_before_anything_runs(
    command, variable, folders, monkeypatch
):
    monkeypatch.setenv(variable, str(folders / "file" / "below"))
    check_refused(run(*COMMANDS[command]), "nothing can be written there", f"let {variable} name")


@pytest.mark.parametrize("variable", ["REFIT_RUNS", "REFIT_REPORTS", "DATA_DIR"])
@pytest.mark.parametrize("value", ["~nobody-here/x", "x" * 5000])
def test_variable_that_cannot_name_a_folder_is_refused(variable, value, monkeypatch):
    monkeypatch.setenv(variable, value)
    check_refused(run("status", NAME), f"{variable}: ", "cannot be a folder")


def test_empty_variables_mean_the_defaults(monkeypatch):
    for variable in ("REFIT_RUNS", "REFIT_REPORTS", "DATA_DIR"):
        monkeypatch.setenv(variable, "")
    assert (paths.runs(), paths.reports()) == (paths.ROOT / "runs", paths.ROOT / "reports")
    assert run("plan", "fmnist_zoo").exit_code == 0


@pytest.mark.parametrize("name", ["data and more", "Dätä 数据", "a'b", 'a"b', "$(touch x)", "-p"])
def test_data_folder_may_have_any_name(name, folders):
    (folders / name).mkdir()
    for arguments in (["plan", "fmnist_zoo"], ["status", "fmnist_zoo"]):
        result = run(*arguments, f"--data-dir={folders / name}")
        assert result.exit_code == 0, result.output


def test_folder_whose_name_is_not_utf8_is_told_of_in_a_real_process(folders):
    command = [sys.executable, "-c", "from refit.cli import main; main()", "status", NAME]
    environment = os.environ | {"DATA_DIR": str(folders / "\udcff\x1b[31m")}
    failed = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert failed.returncode == 1
    assert failed.stderr.startswith("refit: DATA_DIR: ")
    assert r"\udcff\x1b[31m is not a folder" in failed.stderr
    assert len(failed.stderr.splitlines()) == 1


# --- pages that were spoilt ------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """The pages of one experiment, of invented trainings."""
    study = page_tools.opened(tmp_path_factory.mktemp("pages"), NAME, "smoke", seeds=1)
    page_tools.train(study)
    for sweep in ("grid1", "grid2"):
        page_tools.search(study, sweep)
    folder = page_tools.publish(study, seeds=1)
    assert run("verify", str(folder)).exit_code == 0
    return folder


SPOILT = {
    f"{NAME}/page.json": [b"[1]", b'{"digests": 3}', b"\xff", b"[" * 100_000],
    "verdicts.json": [b"[]"],
    "verdicts.csv": [b"a,b\n1\n1,2,3\n", b'"'],
    f"{NAME}/results.csv": [b"", b"\0", b"trial,seed,status\nx,y,done\n", b"trial,trial\n1,2\n"],
    f"{NAME}/claims.csv": [b"\xff\xfe", b"id\n"],
    f"{NAME}/search_grid1.csv": [b"\0", b"a\n1\n", b"\n" * 1000],
    "index.html": [b"\xff", b"<![if x", b"<div>" * 3000],
}


@pytest.mark.parametrize("name", SPOILT)
def test_spoilt_page_disagrees_in_a_sentence(name, made):
    whole = (made / name).read_bytes()
    try:
        for content in SPOILT[name]:
            (made / name).write_bytes(content)
            result = run("verify", str(made))
            check_refused(result)
            assert any(each in result.output for each in (name, NAME)), (content, result.output)
    finally:
        (made / name).write_bytes(whole)


@pytest.mark.parametrize("table", ["claims.csv", "figures.csv", "results.csv"])
@pytest.mark.parametrize("content", [b"id\n1\n", b"status,seconds\ndone,long\n", b"\xff"])
def test_index_over_spoilt_tables_is_refused_with_their_name(table, content, made, folders):
    copied = shutil.copytree(made, folders / "pages")
    (copied / NAME / table).write_bytes(content)
    with pytest.raises(ReportError, match=rf"{table}: cannot be read as a table"):
        index.write(copied)


# --- parameters of notebooks -----------------------------------------------------------------

WRONG = {
    "profile": (3, "no profile 3; known: smoke"),
    "seeds": ("x", "seeds is 'x'; give a whole number"),
    "workers": (-1, "workers is -1; give 1 to"),
    "train": ("no", "train is 'no'; give True or False"),
    "data_dir": (3, "DATA_DIR: 3 cannot be a folder"),
    "runs_dir": (["a"], r"runs_dir: \['a'\] cannot be a folder"),
    "reports_dir": (1.5, "reports_dir: 1.5 cannot be a folder"),
    "executor": ("slurm", "executor is 'slurm'; known: local, ray"),
}


@pytest.mark.parametrize("parameter", WRONG)
def test_parameter_that_papermill_alone_lets_through_is_refused(parameter, make_tiny):
    """As the first cells of every notebook do it."""
    value, said = WRONG[parameter]
    given = {
        "profile": "smoke", "seeds": 1, "data_dir": "", "runs_dir": "", "reports_dir": "",
        "train": True, "workers": 1, "executor": "local",
    } | {parameter: value}  # fmt: skip
    workers, executor = given.pop("workers"), given.pop("executor")
    with pytest.raises(DeclarationError, match=said):
        Study.open(NAME, **given).train(workers or None, executor)


def test_a_study_whose_runs_are_elsewhere_does_not_move_those_of_the_next(folders):
    for moved in ("one", "two"):
        assert Study.open(NAME, runs_dir=folders / moved).runs.is_relative_to(folders / moved)
    assert Study.open(NAME).runs.is_relative_to(folders / "Läufe 1")


@pytest.mark.parametrize("value", [True, 1.0, "2", 10**9, [1], None, -1])
def test_seeds_are_whole_numbers(value):
    with pytest.raises(DeclarationError, match=r"seeds is .*; give a whole number from 1"):
        Study.open(NAME, seeds=value)


@pytest.mark.parametrize("value", [True, 2.0, "2", 10**9])
def test_workers_are_whole_numbers(value):
    with pytest.raises(DeclarationError, match=r"workers is .*; give 1 to"):
        Study.open(NAME).train(value)


NOTEBOOKS = sorted(paths.NOTEBOOKS.glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_parameter_of_another_type_is_refused_before_anything_runs(path, folders):
    for name, value in {"profile": 3, "train": "no", "seeds": "x", "wrokers": 1}.items():
        with pytest.raises(ReportError, match=f"{path.name}.* parameter {name}"):
            notebook.execute(path, folders / "executed.ipynb", {name: value})
    assert not (folders / "executed.ipynb").exists()


def test_unknown_parameter_is_refused_inside_a_notebook_too(folders):
    """papermill alone only warns of it."""
    with pytest.raises(PapermillExecutionError, match="has no parameter wrokers; it has data_dir"):
        papermill.execute_notebook(
            NOTEBOOKS[-1], folders / "executed.ipynb", {"wrokers": 1, "train": False},
            kernel_name="python3", kernel_manager_class=notebook.CurrentPython, progress_bar=False,
        )  # fmt: skip


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_checks_all_that_it_is_told(path):
    source = "".join(cell.source for cell in nbformat.read(path, 4).cells)
    if "Study.open" in source:
        assert "profile, seeds, data_dir, runs_dir, reports_dir, train" in source
