"""What the tests share: a place for results, and tiny trials."""

import os
from pathlib import Path

import pytest

from refit.experiments.trial import Trial

# The whole main job takes longer than any other file, so it begins first.
FIRST = "test_reproduce.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name != FIRST)


@pytest.fixture(scope="session", autouse=True)
def _results_apart(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep what tests train and write away from the user's own results."""
    folder = tmp_path_factory.mktemp("refit")
    os.environ.setdefault("REFIT_RUNS", str(folder / "runs"))
    os.environ.setdefault("REFIT_REPORTS", str(folder / "reports"))


@pytest.fixture
def folder(tmp_path) -> Path:
    """An empty data folder."""
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def tiny(**changes) -> Trial:
    """A short LeNet trial on embedded digits, with changes."""
    settings = {
        "sweep": "tests",
        "name": "tiny",
        "title": "a short training",
        "published_epochs": 3,
        "data": {
            "name": "digits_pairs",
            "train_images": 160,
            "validation_images": 60,
            "test_images": 60,
            "fingerprint": "sklearn-digits",
        },
        "model": {"name": "lenet"},
        "optimizer": {"name": "adam", "learning_rate": 0.001},
        "epochs": 3,
        "batch_size": 32,
        "seed": 1337,
    }
    return Trial.model_validate(settings | changes)


@pytest.fixture(scope="session")
def make_tiny():
    """A function that makes a short LeNet trial on embedded digits, with changes."""
    return tiny
