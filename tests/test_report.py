"""Pages: notebooks are run by this Python, failures are kept and shown, nothing is fetched."""

import re
import shutil
import subprocess
import sys

import nbformat
import pandas as pd
import pytest
from bs4 import BeautifulSoup

from refit import paths
from refit.errors import DataError, ReportError
from refit.pages import index
from refit.pages.notebook import NotebookFailed, execute
from refit.pages.page import PageEntry, make, record, render
from refit.pages.tables import table
from refit.pages.verify import verify
from refit.study import Study

HOSTILE = "<script>alert(1)</script>"


def notebook(path, *cells):
    """Write a notebook of these code cells; the first is tagged `parameters`."""
    made = nbformat.v4.new_notebook(
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
        }
    )
    made.cells = [nbformat.v4.new_markdown_cell("# A report\n\n## Question\n\nWhy?\n\n## Results")]
    made.cells += [nbformat.v4.new_code_cell(source) for source in cells]
    made.cells[1].metadata["tags"] = ["parameters"]
    nbformat.write(made, path)
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """An executed notebook that prints, shows a hostile table and draws a figure; and its page."""
    folder = tmp_path_factory.mktemp("finished")
    source = notebook(
        folder / "source.ipynb",
        "epochs = 3\nname = 'nobody'",
        "import sys\nprint(f'{epochs} epochs by {name} in {sys.executable}')",
        "import pandas as pd\nfrom refit.pages.tables import table",
        f"table(pd.DataFrame({{'a': [{HOSTILE!r}]}}))",
        f"pd.DataFrame({{'b': [{HOSTILE!r}]}})",
        f"print({HOSTILE!r})",
        "print('1 of 2\\r2 of 2', file=sys.stderr)",
        "from refit.figures.picture import Picture\nPicture('CNN')",
    )
    foreign = folder / "jupyter" / "kernels" / "python3" / "kernel.json"
    foreign.parent.mkdir(parents=True)
    foreign.write_text('{"argv": ["false"], "display_name": "of another environment"}')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder / "jupyter"))
        execute(source, folder / "executed.ipynb", {"epochs": 7})
    render(folder / "executed.ipynb", folder / "page.html", f"Report {HOSTILE}")
    return folder


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    """What is left of a notebook whose second code cell raises, and the error."""
    folder = tmp_path_factory.mktemp("failed")
    source = notebook(folder / "source.ipynb", "epochs = 3", "raise ValueError('<b>boom</b>')", "1")
    with pytest.raises(NotebookFailed) as caught:
        execute(source, folder / "executed.ipynb", {})
    return folder, caught.value


def test_notebook_runs_with_its_parameters_in_this_python_whatever_kernels_are_installed(finished):
    page = (finished / "page.html").read_text()
    assert f"7 epochs by nobody in {sys.executable}" in page
    assert "2 of 2" in page
    assert "1 of 2\r" not in page, "of a progress bar only its last state"
    assert not list(finished.glob(".*"))


def test_page_is_complete_and_fetches_nothing(finished):
    page = (finished / "page.html").read_text()
    assert not re.findall(r"""(?:src|href|url\()\s*=?\s*["']?(?:https?:)?//""", page)
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
    assert 'src="data:image/png;base64,' in page
    assert 'alt="CNN"' in page
    assert '<a href="index.html">' in page
    assert re.search(r'<nav[^>]*>\s*<a href="#Question">Question</a>\s*<a href="#Results">', page)
    assert page.count("<h1") == 1


def test_text_from_outputs_and_titles_is_escaped(finished):
    page = (finished / "page.html").read_text()
    assert HOSTILE not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 5
    assert page.count("<script>") == 1


def test_failing_cell_is_named_and_the_notebook_kept(failed):
    folder, error = failed
    assert "source.ipynb: cell In [2] failed with ValueError: <b>boom</b>" in str(error)
    kept = nbformat.read(folder / "executed.ipynb", as_version=4)
    assert "An Exception was encountered" in kept.cells[0].source
    assert kept.cells[-1].execution_count is None


def test_page_of_a_failed_notebook_leads_to_the_cell(failed):
    folder, _ = failed
    render(folder / "executed.ipynb", folder / "page.html", "A report")
    page = (folder / "page.html").read_text()
    assert "Cell In [2] raised ValueError: &lt;b&gt;boom&lt;/b&gt;" in page
    assert page.index('class="banner"') < page.index('id="papermill-error-cell"')
    assert "output_error" in page
    assert "<b>boom" not in page


def test_nbval_keeps_what_a_failed_notebook_was(tmp_path):
    cells = [nbformat.v4.new_code_cell(source) for source in ("print(6 * 7)", "1 / 0")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "wrong.ipynb")
    shutil.copy(paths.NOTEBOOKS / "conftest.py", tmp_path)
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-current-env", "."]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 failed, 1 passed" in run.stdout
    assert "reports/nbval/wrong.ipynb" in run.stdout
    first, second = nbformat.read(tmp_path / "reports" / "nbval" / "wrong.ipynb", 4).cells
    assert first.outputs[0].text == "42\n"
    assert second.outputs[0].ename == "ZeroDivisionError"


def test_killed_kernel_is_a_failed_cell(tmp_path):
    source = notebook(tmp_path / "source.ipynb", "a = 1", "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(NotebookFailed, match="kernel was killed"):
        execute(source, tmp_path / "executed.ipynb", {})
    assert "DeadKernelError" in (tmp_path / "executed.ipynb").read_text()


def test_kernel_that_does_not_start_is_told_like_a_failed_cell(tmp_path, monkeypatch):
    source = notebook(tmp_path / "source.ipynb", "a = 1")
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(NotebookFailed, match="no kernel ran it: Kernel died"):
        execute(source, tmp_path / "executed.ipynb", {})
    render(tmp_path / "executed.ipynb", tmp_path / "page.html", "A report")


def test_neither_start_up_files_nor_the_working_folder_reach_a_notebook(tmp_path, monkeypatch):
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "own.py").write_text("leaked = True")
    (tmp_path / "pandas.py").write_text("leaked = True")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.chdir(tmp_path)
    asked = "import pandas\nassert not hasattr(pandas, 'leaked')\nassert 'leaked' not in globals()"
    execute(notebook(tmp_path / "source.ipynb", "a = 1", asked), tmp_path / "executed.ipynb", {})


def test_unknown_parameter_is_refused_before_anything_runs(tmp_path):
    source = notebook(tmp_path / "source.ipynb", "epochs = 3\nseeds = 1")
    with pytest.raises(ReportError, match=r"no parameter epoch; it has epochs, seeds"):
        execute(source, tmp_path / "executed.ipynb", {"epoch": 1})
    assert not (tmp_path / "executed.ipynb").exists()


@pytest.mark.parametrize("content", [None, "", "{}", "not json"])
def test_what_is_no_notebook_is_refused(tmp_path, content):
    path = tmp_path / "source.ipynb"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ReportError, match=r"source\.ipynb"):
        execute(path, tmp_path / "executed.ipynb", {})
    with pytest.raises(ReportError, match=r"source\.ipynb"):
        render(path, tmp_path / "page.html", "title")


def test_index_covers_recorded_pages_and_names_damaged_records(tmp_path):
    folder = tmp_path / "smoke"
    facts = {"trials_total": 20, "data": "embedded digits", "question": HOSTILE}
    record(
        folder,
        PageEntry("zoo", HOSTILE, "finished", trials_done=20, seconds=3700.0, **facts),
    )
    record(folder, PageEntry("grid", "Grid", "failed", trials_done=3, seconds=75.0, **facts))
    for name, content in (("broken", '{"name": "brok'), ("other", '{"status": "perhaps"}')):
        (folder / name).mkdir()
        (folder / name / "page.json").write_text(content)
    page = index.write(folder).read_text()
    assert HOSTILE not in page
    assert page.count("&lt;script&gt;") == 3
    assert '<a href="zoo.html">' in page
    assert "20 of 20 trainings</span> · 62 min" in page
    assert "3 of 20 trainings</span> · 75 s" in page
    assert "Demonstration" in page
    assert [name in page for name in ("broken/page.json", "other/page.json")] == [True, True]


def test_index_without_pages_says_so(tmp_path):
    assert "No report has been made yet" in index.write(tmp_path / "full").read_text()


def test_table_formats_numbers_and_marks_what_is_missing():
    frame = pd.DataFrame(
        {"parameters": [1234567, 5], "accuracy": [0.91234, None], "diverged": [True, False]},
        index=pd.Index(["cnn1", "cnn2"], name="trial"),
    )
    html = table(frame, "Results & times", {"accuracy": ".1%"}).data
    assert ">1,234,567<" in html
    assert ">91.2%<" in html
    assert ">–<" in html
    assert ">yes<" in html
    assert 'data-value="0.91234"' in html
    assert '<th scope="col">trial</th>' in html
    assert "<caption>Results &amp; times</caption>" in html


def test_table_refuses_formats_for_columns_that_are_not_there():
    with pytest.raises(ReportError, match="no column 'accurracy'"):
        table(pd.DataFrame({"accuracy": [1.0]}), formats={"accurracy": ".2f"})


def test_of_what_nobody_trained_as_published_a_page_says_so_and_why(tmp_path, monkeypatch):
    for variable, folder in (("REFIT_RUNS", "runs"), ("REFIT_REPORTS", "out"), ("DATA_DIR", "")):
        monkeypatch.setenv(variable, str(tmp_path / folder) if folder else "")
    study = Study.open("gesture", "full", train=False)
    assert not make(study, {"train": False, "profile": "full"})
    index.write(study.pages.parent)
    assert verify(study.pages.parent) == []
    page = BeautifulSoup(study.pages.with_suffix(".html").read_text("utf-8"), "html.parser")
    said = " ".join(page.select_one(".summary").get_text(" ").split())
    assert f"0 of {len(study.trials)} trained as published: needs the gesture videos" in said
    assert len(page.select("article.claim.none")) == len(study.declaration.claims)
    assert not page.select("figure, img, .absent")
    assert not [cell for table in page.select(".table") if not (cell := table.td)]
    with pytest.raises(DataError):
        Study.open("gesture", "full")
