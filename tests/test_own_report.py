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

import pandas as pd
import pytest
import yaml

from refit import paths
from refit.data import sets
from refit.experiments import predicates
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
        options = ", ".join(
            f"{key}={value!r}" for key, value in networks.default_options(name).items()
        )
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


def test_new_report_runs_at_once_and_judges_every_common_kind(checkout):
    assert refit(checkout, "new", "mine").returncode == 0
    again = refit(checkout, "new", "mine")
    assert again.returncode == 1
    assert "is there already" in again.stderr
    declared = yaml.safe_load((checkout / "experiments" / "mine.yaml").read_text(encoding="utf-8"))
    # Only a profile that is comparable is judged: here, at small scale, on embedded images.
    smoke = declared["profiles"]["smoke"]
    declared["profiles"]["small"] = smoke | {"comparable": True}
    path = checkout / "experiments" / "mine.yaml"
    path.write_text(yaml.safe_dump(declared, sort_keys=False), encoding="utf-8")
    made = refit(checkout, "reproduce", "mine", "--profile", "small", "--seeds", "3")
    assert made.returncode == 0, made.stderr
    page = checkout / "reports" / "small" / "mine"
    claims = pd.read_csv(page / "claims.csv")
    assert len(claims) == len(declared["claims"])
    kinds = {
        predicate["is"] for claim in declared["claims"] for predicate in claim.get("holds", [])
    }
    assert len(kinds) >= 8
    measured = claims.set_index("id")["estimate"].dropna()
    assert {"C01", "C02", "C04", "C06", "C07", "C08", "C09"} <= set(measured.index)
    notebook = (checkout / "notebooks" / "mine.ipynb").read_text(encoding="utf-8")
    assert "relu" not in notebook, "no names of trials: a profile may leave them out"


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
