"""What the tests share: a place for results, tiny trials, and a browser."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from refit.experiments.trial import Trial

# What takes longest begins first: the whole main job, then the files that train most.
FIRST = ("test_reproduce.py", "test_ray.py", "test_training.py", "test_faults.py")
# WebGL without a graphics card, and nothing that would go over a network.
BROWSER_FLAGS = """
--headless --no-sandbox --disable-gpu --use-angle=swiftshader --enable-unsafe-swiftshader
--disable-dev-shm-usage --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync
"""
PATIENCE = 120  # seconds that a test waits for a browser on a loaded machine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = dict(zip(FIRST, range(-len(FIRST), 0), strict=True))
    items.sort(key=lambda item: order.get(item.path.name, 0))


@pytest.fixture(scope="session", autouse=True)
def _results_apart(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep what tests train and write away from the user's own results."""
    folder = tmp_path_factory.mktemp("refit")
    os.environ.setdefault("REFIT_RUNS", str(folder / "runs"))
    os.environ.setdefault("REFIT_REPORTS", str(folder / "reports"))


@pytest.fixture(scope="module")
def runs_apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Results of a module of their own, where others may have trained the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REFIT_RUNS", str(tmp_path_factory.mktemp("runs")))
        yield


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


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """A headless Chromium that selenium drives; `find_element`, `execute_script` and so on.

    `browser.get_log("browser")` empties the console. Tests wait in real time, generously: a loaded
    machine is slow.
    """
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    driver = shutil.which("chromedriver")
    if not (program and driver):
        pytest.skip("no browser to look at pages with: Chromium and its chromedriver are needed")
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = program
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in BROWSER_FLAGS.split():
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('browser')}")
    with Chrome(options, ChromeService(driver)) as started:
        started.set_page_load_timeout(PATIENCE)
        yield started
