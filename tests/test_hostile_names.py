"""Names and labels that are code: pages and figures show them as text, and run nothing of them."""

import re
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from refit import files
from refit.figures import confusions, samples
from refit.figures.picture import Picture
from refit.pages import index
from refit.pages.page import PageEntry, record, render
from refit.pages.tables import table

NAMES = [
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    '"><svg onload="alert(1)">',
    "' onmouseover='alert(1)",
    "</title></style></table></details>",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:alert(1)",
    "&lt;b&gt;&#60;i&#62;",
    "<!--",
    "]]>",
    "$\\frac{$",
    "$x_1$ and \\$",
    "100 % {0} {x}",
    "\u202egnp.exe\u200f",
    "猫 кошка äöü",
    "long " * 50,
]


@pytest.fixture(params=NAMES, ids=range(len(NAMES)))
def name(request) -> str:
    return request.param


def joined(text: str) -> str:
    """A text without its line breaks and repeated spaces, which a browser does not show."""
    return " ".join(text.split())


def shown(picture: Picture) -> NotebookNode:
    """A figure as a notebook keeps it."""
    return new_output("display_data", {"text/html": picture._repr_html_()})


def page_of(folder: Path, name: str) -> str:
    """The page of a notebook in which a name stands wherever one can."""
    frame = pd.DataFrame({name: [name, 1.5], "trial": [name, "b"]}).set_index("trial")
    outputs = [
        new_output("stream", name="stdout", text=f"{name}\n"),
        new_output("display_data", {"text/html": table(frame, name).data}),
        new_output("display_data", {"text/html": frame.to_html(), "text/plain": name}),
        shown(Picture(name, 1)),
        new_output("execute_result", {"text/plain": repr(name)}),
        new_output("error", ename=name, evalue=name, traceback=[f"\x1b[31m{name}\x1b[0m"]),
    ]
    notebook = new_notebook(cells=[new_markdown_cell("# A report\n\n## Question")])
    notebook.cells.append(new_code_cell(f"name = {name!r}", outputs=outputs))
    for cell in notebook.cells:
        cell.metadata["papermill"] = {}
    nbformat.write(notebook, folder / "executed.ipynb")
    render(folder / "executed.ipynb", folder / "page.html", name)
    return (folder / "page.html").read_text()


def check_harmless(html: str, scripts: int = 1) -> BeautifulSoup:
    """The page runs its own script and nothing else, and fetches nothing."""
    soup = BeautifulSoup(html, "html.parser")
    assert len(soup.find_all("script")) == scripts
    assert not soup.find_all(["iframe", "object", "embed", "base", "link", "form"])
    for element in soup.find_all(True):
        assert not [key for key in element.attrs if key.lower().startswith("on")], element
        for key in ("src", "href", "action", "srcdoc"):
            link = element.get(key, "#")
            assert re.match(r"#|data:image/png;base64,|[a-z0-9%.]+\.html$", link, re.I), link
    return soup


def test_page_shows_a_name_as_text_wherever_it_stands(name, tmp_path):
    soup = check_harmless(page_of(tmp_path, name))
    assert joined(soup.title.get_text()).startswith(joined(name))
    assert soup.select_one("header span").get_text() == name
    assert name in [image.get("alt") for image in soup.find_all("img")]
    cells = [cell.get_text() for cell in soup.select("table.sortable td, table.sortable caption")]
    assert cells.count(name) == 3
    assert joined(name) in joined(soup.select_one("[role=alert]").get_text())
    assert len(soup.select("main")) == len(soup.select("nav")) == 1


def test_index_shows_a_name_as_text(name, tmp_path):
    entry = PageEntry(
        "zoo", name, "finished", name, trials_done=1, trials_total=1, seconds=1.0, data=name,
        hardware=name,
    )  # fmt: skip
    record(tmp_path / "smoke", entry)
    soup = check_harmless(index.write(tmp_path / "smoke").read_text())
    assert soup.select_one("article h3 a").get_text() == name
    assert soup.select_one("article p").get_text() == name


def table_of(names: tuple[str, ...]) -> pd.DataFrame:
    """A row per pair of classes: confusions, and results with a class as the only setting."""
    pairs = pd.DataFrame({"true": [*names, *names], "predicted": [*names, *names[::-1]]})
    return pairs.assign(seed=1, count=[3, 3, 1, 1], trial=[*"abcd"], x=[1.0, 2.0, 3.0, 4.0])


LABELS, CLIPS = np.array([0, 0, 1]), np.zeros((3, 4, 8, 8, 3), np.uint8)
FIGURES = {
    "samples": lambda names: samples.images(CLIPS[:, 0], LABELS, names, names[0]),
    "clips": lambda names: samples.clips(CLIPS, LABELS, names, names[0]),
    "confusions": lambda names: confusions.matrix(table_of(names), names[0]),
    "predictions": lambda names: confusions.predictions(table_of(names), names[0]),
}


@pytest.mark.parametrize("figure", FIGURES)
def test_figure_shows_names_as_they_are_written(figure, name):
    drawn = FIGURES[figure]((name, "other"))
    soup = BeautifulSoup(drawn._repr_html_(), "html.parser")
    assert [tag.name for tag in soup.find_all()] == ["figure", "img", "figcaption", "b"]
    assert soup.img["alt"].startswith(name)
    assert name in soup.figcaption.get_text() or figure != "samples"


def test_no_spreadsheet_takes_a_name_for_a_formula(tmp_path):
    formulas = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", '=HYPERLINK("http://a.b", "c")']
    frame = pd.DataFrame(
        {"true": [*formulas, "a-b"], "count": [-1.0] * 7, "mixed": [-1] * 6 + ["="]}
    )
    files.write_table(tmp_path / "table.csv", frame)
    found = pd.read_csv(tmp_path / "table.csv")
    assert found["true"].tolist() == [*(f"'{formula}" for formula in formulas), "a-b"]
    assert found["count"].tolist() == [-1.0] * 7
    assert found["mixed"].tolist() == ["-1"] * 6 + ["'="]


def test_names_are_read_as_they_were_written(tmp_path):
    names = ["=1+1", "-x", "'quoted", "NA", "None", "nan", "007", "a", None]
    frame = pd.DataFrame({"trial": names, "mixed": names, "value": [0.1, None, *range(7)]})
    files.write_table(tmp_path / "table.csv", frame)
    pd.testing.assert_frame_equal(files.read_table(tmp_path / "table.csv"), frame)
