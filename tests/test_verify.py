"""Ways to make pages say what was not measured; `refit verify` must find every one of them.

Where a forger could also write the checksums anew, he does so: what remains is arithmetic.
"""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

import page_tools
from refit.errors import ReportError
from refit.experiments import expand
from refit.pages import index
from refit.pages.freshness import digests
from refit.pages.verify import verify

NAME = "transfer"
SEED = expand.load(NAME).seed
TRIAL = "scratch-125"


def publish(folder: Path, name: str, *searches: str) -> Path:
    """The folder of a page of invented trainings, two seeds of each, with which all is well."""
    study = page_tools.opened(folder, name, "smoke", seeds=2)
    page_tools.train(study)
    for sweep in searches:
        page_tools.search(study, sweep)
    page_tools.publish(study, seeds=2)
    assert verify(study.pages.parent) == []
    return study.pages.parent


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return publish(tmp_path_factory.mktemp("pages"), NAME)


@pytest.fixture
def pages(made, tmp_path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(made, tmp_path / "smoke"))


def cover_up(pages: Path, name: str = NAME, **changes) -> None:
    """Write the record of the page and the index anew, as if everything were as it was made."""
    path = pages / name / "page.json"
    record = json.loads(path.read_text()) | {"digests": digests(pages / f"{name}.html")}
    path.write_text(json.dumps(record | changes))
    index.write(pages)


def edit(pages: Path, name: str, old: str, new: str) -> None:
    text = (pages / name).read_text()
    assert old in text
    (pages / name).write_text(text.replace(old, new, 1))


def table(path: Path, change) -> None:
    """Replace a stored table by what a function makes of it."""
    change(pd.read_csv(path)).to_csv(path, index=False)


def of(frame: pd.DataFrame, seed: int) -> pd.Series:
    return (frame["trial"] == TRIAL) & (frame["seed"] == seed)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        (f"{NAME}.html", "shows that everything works", "proves the report right"),
        (f"{NAME}.html", "invented images", "the published images"),
        (f"{NAME}.html", "<td ", "<td title='' "),
        (f"{NAME}/curves.png", "a picture", "another one"),
        (f"{NAME}/declaration.yaml", "claims:", "claims: "),
        (f"{NAME}/curves.csv", "0", "1"),
        ("index.html", "not judged here", "hold"),
        ("verdicts.json", '"contradicted": 0', '"contradicted": 1'),
        ("verdicts.csv", ",claims,reproduced,0", ",claims,reproduced,1"),
    ],
)
def test_edited_prose_outputs_tables_and_pictures_are_found(pages, name, old, new):
    edit(pages, name, old, new)
    assert [problem for problem in verify(pages) if Path(name).name in problem]


@pytest.mark.parametrize("name", [f"{NAME}.html", f"{NAME}/curves.png", f"{NAME}/results.csv"])
def test_missing_files_are_found(pages, name):
    (pages / name).unlink()
    assert [problem for problem in verify(pages) if Path(name).name in problem]


def test_added_files_are_found(pages):
    (pages / NAME / "best.png").write_bytes(b"a picture that no notebook drew")
    assert verify(pages) == [f"{pages / NAME / 'best.png'}: was not there when the page was made"]


def test_swapped_pages_are_found(pages):
    other = shutil.copy(pages / "index.html", pages / f"{NAME}.html")
    assert [problem for problem in verify(pages) if str(other) in problem]


def copied_seed(frame: pd.DataFrame) -> pd.DataFrame:
    """The curve of the second seed becomes that of the first, but for times."""
    first, second = of(frame, SEED), of(frame, SEED + 1)
    names = [n for n in frame.columns[4:] if "seconds" not in n]
    frame.loc[second, names] = frame.loc[first, names].to_numpy()
    return frame


def invented_seed(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([frame, frame[of(frame, SEED + 1)].assign(seed=SEED + 2)])


COVERED = {
    "a seed copied from another": ("curves.csv", copied_seed, f"{TRIAL} (seed {SEED + 1}) has the"),
    "a seed that nobody declared": ("results.csv", invented_seed, "is no trial of the declaration"),
    "another trial's row": (
        "results.csv",
        lambda frame: frame.assign(digest=frame["digest"].iloc[::-1].to_numpy()),
        "has digest",
    ),
    "a bad seed left out": (
        "results.csv", lambda frame: frame[~of(frame, SEED + 1)], f"has 0 rows of {TRIAL}",
    ),
    "a row twice": (
        "results.csv", lambda frame: pd.concat([frame, frame[of(frame, SEED)]]), "has 2 rows of",
    ),
    "a test accuracy": (
        "results.csv",
        lambda frame: frame.assign(
            test_accuracy=frame["test_accuracy"].mask(of(frame, SEED), 0.99)
        ),
        "test_accuracy is 0.99",
    ),
    "a validation accuracy": (
        "results.csv",
        lambda frame: frame.assign(val_accuracy=frame["val_accuracy"].mask(of(frame, SEED), 0.99)),
        "val_accuracy is 0.99",
    ),
    "confusions": (
        "confusions.csv",
        lambda frame: frame.assign(count=frame["count"].mask(of(frame, SEED), 200)),
        "test_accuracy is",
    ),
    "no confusions": (
        "confusions.csv", lambda frame: frame[~of(frame, SEED)], f"lacks {TRIAL} (seed {SEED})",
    ),
    "the end of a curve": (
        "curves.csv",
        lambda frame: frame[~(of(frame, SEED) & (frame["epoch"] == frame["epoch"].max()))],
        "has no curve of",
    ),
    "a curve of nobody": (
        "curves.csv",
        lambda frame: pd.concat([frame, frame[of(frame, SEED)].assign(trial="best")]),
        f"best (seed {SEED}) is no finished trial",
    ),
    "a verdict": (
        "claims.csv", lambda frame: frame.assign(verdict="reproduced"), "recomputed",
    ),
    "a published number": (
        "figures.csv", lambda frame: frame.assign(published=frame["published"] + 0.1), "recomputed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", COVERED)
def test_edited_measurements_are_found_though_the_checksums_were_written_anew(pages, what):
    name, change, said = COVERED[what]
    table(pages / NAME / name, change)
    cover_up(pages)
    assert [problem for problem in verify(pages) if said in problem], verify(pages)


def test_edited_searches_are_found_though_the_checksums_were_written_anew(tmp_path):
    pages = publish(tmp_path, "fmnist_grid", "grid1", "grid2")
    path = pages / "fmnist_grid" / "search_grid1.csv"
    whole = path.read_bytes()
    for change, said in (
        (lambda frame: frame.drop(index=0), "random search 1 is not whole"),
        (lambda frame: frame[frame["tuner"] != "bayesian"], "bayesian search 1 is not whole"),
        (lambda frame: frame.assign(score=frame["score"] + 0.1), "its curve says"),
    ):
        table(path, change)
        cover_up(pages, "fmnist_grid")
        assert [problem for problem in verify(pages) if said in problem]
        path.write_bytes(whole)


def test_verdict_edited_on_the_page_is_found_though_the_checksums_were_written_anew(pages):
    chips = ('<span class="chip none">not judged here<', '<span class="chip yes">holds<')
    edit(pages, f"{NAME}.html", *chips)
    cover_up(pages)
    assert [problem for problem in verify(pages) if "does not show" in problem]


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("seeds", 5, "has 0 rows of"),
        ("trials_total", 99, "says 99, should be 6"),
        ("trials_done", 5, "says 5, should be 6"),
        ("seconds", 1e6, "says 1000000.0 seconds"),
        ("question", "What is best?", "says 'What is best?'"),
        ("data_sets", {"digits_colour": ["digits_colour", "y"]}, "has digest"),
    ],
)
def test_record_that_says_more_than_was_done_is_found(pages, field, value, said):
    cover_up(pages, **{field: value})
    assert [problem for problem in verify(pages) if said in problem]


def test_page_without_its_record_is_found(pages):
    (pages / NAME / "page.json").unlink()
    assert [problem for problem in verify(pages) if "is no record of what the page was" in problem]


def test_folder_without_pages_is_refused(tmp_path):
    with pytest.raises(ReportError, match="holds no report"):
        verify(tmp_path)
