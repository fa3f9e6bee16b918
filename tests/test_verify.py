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
from refit.pages import verify as verification
from refit.pages.freshness import digests
from refit.pages.verify import verify

NAME = "transfer"
SEED = expand.load(NAME).seed
TRIAL, OTHER = "scratch-125", "transferred-125"


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


def of(frame: pd.DataFrame, seed: int, trial: str = TRIAL) -> pd.Series:
    return (frame["trial"] == trial) & (frame["seed"] == seed)


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


def copied_seed(frame: pd.DataFrame, trial: str = TRIAL) -> pd.DataFrame:
    """The curve of the second seed becomes that of the first, of a trial, but for times."""
    first, second = of(frame, SEED, trial), of(frame, SEED + 1)
    names = [n for n in frame.columns[4:] if "seconds" not in n]
    frame.loc[second, names] = frame.loc[first, names].to_numpy()
    return frame


def noisy_seed(frame: pd.DataFrame) -> pd.DataFrame:
    copied = copied_seed(frame)
    return copied.assign(train_loss=copied["train_loss"] + 1e-8 * copied.index)


def invented_seed(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([frame, frame[of(frame, SEED + 1)].assign(seed=SEED + 2)])


COVERED = {
    "a seed copied from another": ("curves.csv", copied_seed, f"{TRIAL} (seed {SEED + 1}) has the"),
    "a seed that nobody declared": ("results.csv", invented_seed, "is no trial of the declaration"),
    "another trial's row": (
        "results.csv",
        lambda frame: frame.assign(digest=frame["digest"].iloc[::-1].to_numpy()),
        "digest is",
    ),
    "a setting": (
        "results.csv",
        lambda frame: frame.assign(batch_size=frame["batch_size"].mask(of(frame, SEED), 8)),
        "batch_size is 8",
    ),
    "what follows from a curve": (
        "results.csv",
        lambda frame: frame.assign(val_loss_rise=frame["val_loss_rise"].mask(of(frame, SEED), 9.0)),
        "val_loss_rise is 9.0",
    ),
    "the size of a network": (
        "results.csv",
        lambda frame: frame.assign(
            trainable_params=frame["trainable_params"].mask(of(frame, SEED), 1.0),
            total_params=frame["total_params"].mask(of(frame, SEED), 101.0),
        ),
        "total_params is",
    ),
    "a seed copied from another with noise": (
        "curves.csv",
        noisy_seed,
        f"{TRIAL} (seed {SEED + 1}) has the",
    ),
    "a seed copied from another trial": (
        "curves.csv",
        lambda frame: copied_seed(frame, OTHER),
        f"{OTHER} (seed {SEED}) has the",
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


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        (
            ".html",
            '<span class="chip none">not judged here<',
            '<span class="chip yes">holds<',
            "does not show",
        ),
        (".html", '<p class="lead">None of', '<p class="lead">All hold of', "its summary is not"),
        (".html", "What cannot be judged here, and why", "What holds", "its conclusion is not"),
        (".html", "<article", '<article class="claim yes">It holds</article><article', "shows 5"),
        (".html", "</article>", f'<img src="{verification.PNG}AAAA"></article>', "picture 1 is"),
        ("/declaration.yaml", "claims:", "claims: ", "is not the declaration"),
    ],
)
def test_edited_page_is_found_though_the_checksums_were_written_anew(pages, name, old, new, said):
    edit(pages, f"{NAME}{name}", old, new)
    cover_up(pages)
    assert [problem for problem in verify(pages) if said in problem], verify(pages)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("seeds", 5, "has 0 rows of"),
        ("trials_total", 99, "trials_total is 99, should be 6"),
        ("trials_done", 5, "trials_done is 5, should be 6"),
        ("seconds", 1e6, "seconds is 1000000.0"),
        ("question", "What is best?", "question is 'What is best?'"),
        ("data_sets", {"digits_colour": ["digits_colour", "y"]}, "digest is"),
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
