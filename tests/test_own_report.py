"""A report of one's own: what `refit new` writes runs at once, and what its guide lists is true.

`python -m tests.test_own_report` writes the lists of the guide anew.
"""

import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import nbformat
import pandas as pd
import pytest
import yaml

from refit import paths
from refit.data import sets
from refit.experiments import factories, predicates
from refit.experiments.metrics import CURVE_METRICS, MEANINGS, METRICS
from refit.models import networks

GUIDE = paths.ROOT / "docs" / "own-report.md"
BEGIN, END = (f"<!-- lists: {place} -->\n" for place in ("begin", "end"))


def first(documented) -> str:
    """The first sentence of a docstring."""
    return " ".join((inspect.getdoc(documented) or "").split("\n\n")[0].split())


def lists() -> str:
    """Predicates, metrics, data sets and models, as the code has them."""
    lines = ["### Predicates", ""]
    for kind in get_args(get_args(predicates.AnyPredicate)[0]):
        names = "`, `".join(get_args(kind.model_fields["kind"].annotation))
        fields = [name for name in kind.model_fields if name != "kind"]
        lines.append(f"- `{names}`: {first(kind)} Fields: {', '.join(fields)}.")
    lines += ["", "### Metrics", "", "Of curves, one value per epoch, read at the last one:", ""]
    told = [f"- `{name}` ({unit}): {MEANINGS[name]}" for name, unit in METRICS.items()]
    lines += [*told[: len(CURVE_METRICS)], "", "Of a training, one value:", ""]
    lines += told[len(CURVE_METRICS) :]
    lines += ["", "### Data sets", ""]
    lines += [f"- `{name}`: {first(source.read)}" for name, source in sets.SOURCES.items()]
    lines += [f"- `{name}`: what of it is in `DATA_DIR`, else a stand-in" for name in sets.ALIASES]
    lines += ["", "### Models", ""]
    for name, factory in networks.ARCHITECTURES.items():
        options = ", ".join(f"{key}={value!r}" for key, value in factories.defaults(name).items())
        lines.append(f"- `{name}`: {first(factory)} Options: {options or 'none'}.")
    return "\n".join(lines) + "\n"


def parts() -> tuple[str, str, str]:
    before, _, rest = GUIDE.read_text(encoding="utf-8").partition(BEGIN)
    between, _, after = rest.partition(END)
    return before, between, after


def test_guide_lists_what_there_is():
    assert parts()[1] == lists()


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy of the checkout without any experiment."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(paths.ROOT / "src", folder / "src")
    for name in ("experiments", "notebooks"):
        (folder / name).mkdir()
    return folder


def refit(checkout: Path, *arguments: str) -> subprocess.CompletedProcess:
    places = {"REFIT_RUNS": "runs", "REFIT_REPORTS": "reports", "PYTHONPATH": "src"}
    environment = os.environ | {name: str(checkout / place) for name, place in places.items()}
    command = [sys.executable, "-m", "refit", *arguments]
    return subprocess.run(
        command, cwd=checkout, env=environment, capture_output=True, text=True, check=False
    )


NAME = "mine.v2"  # of which no part is an ending


@pytest.fixture(scope="module")
def declared(checkout) -> dict:
    """A report as `refit new` writes it, run at small scale, on embedded images, and judged."""
    assert refit(checkout, "new", NAME).returncode == 0
    path = checkout / "experiments" / f"{NAME}.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    # Only a profile that is comparable is judged.
    content["profiles"]["small"] = content["profiles"]["smoke"] | {"comparable": True}
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    made = refit(checkout, "reproduce", NAME, "--profile", "small", "--seeds", "3")
    assert made.returncode == 0, made.stderr
    return content


def test_new_report_runs_at_once_and_judges_every_common_kind(checkout, declared):
    again = refit(checkout, "new", NAME)
    assert again.returncode == 1
    assert "is there already" in again.stderr
    page = checkout / "reports" / "small" / NAME
    assert page.with_name(f"{NAME}.html").is_file()
    claims = pd.read_csv(page / "claims.csv")
    assert len(claims) == len(declared["claims"])
    kinds = {
        predicate["is"] for claim in declared["claims"] for predicate in claim.get("holds", [])
    }
    assert len(kinds) >= 8
    measured = claims.set_index("id")["estimate"].dropna()
    assert {"C01", "C02", "C04", "C06", "C07", "C08", "C09"} <= set(measured.index)
    notebook = (checkout / "notebooks" / f"{NAME}.ipynb").read_text(encoding="utf-8")
    assert "relu" not in notebook, "no names of trials: a profile may leave them out"


@pytest.mark.usefixtures("declared")
def test_a_page_whose_process_ends_is_told_and_the_index_made(checkout):
    path = checkout / "notebooks" / f"{NAME}.ipynb"
    notebook = nbformat.read(path, 4)
    source = "import os; os.kill(os.getppid(), 9)"
    notebook.cells[2:] = [nbformat.v4.new_code_cell(source, id="ends-its-parent")]
    nbformat.write(notebook, path)
    index = checkout / "reports" / "small" / "index.html"
    index.unlink()
    told = refit(checkout, "report", NAME, "--profile", "small")
    assert told.returncode == 1
    assert f"failed: {NAME}; all pages: " in told.stderr
    assert index.is_file()


def test_missing_notebook_is_told_before_anything_is_trained(checkout):
    if not (checkout / "experiments" / "mine.yaml").exists():
        refit(checkout, "new", "mine")
    (checkout / "notebooks" / "mine.ipynb").unlink()
    told = refit(checkout, "reproduce", "mine")
    assert told.returncode == 1
    assert "mine.ipynb is missing" in told.stderr
    assert not (checkout / "runs" / "smoke").exists()


def test_name_that_leads_elsewhere_is_refused(checkout):
    told = refit(checkout, "new", "../mine")
    assert told.returncode == 1
    assert "cannot name a folder" in told.stderr
    assert not list(checkout.glob("*.yaml"))


if __name__ == "__main__":
    before, _, after = parts()
    GUIDE.write_text(before + BEGIN + lists() + END + after, encoding="utf-8")
