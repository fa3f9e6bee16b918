"""Networks that are kept: what their cards say, and what they say of a picture."""

import json

import keras
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image

from refit import files, paths
from refit.cli import main
from refit.data import digits
from refit.exports import networks

TRIAL = ("fmnist_tuning", "adam")


def refit(*arguments):
    return CliRunner().invoke(main, [str(each) for each in arguments])


pytestmark = pytest.mark.usefixtures("runs_apart")


@pytest.fixture(scope="module")
def kept():
    """The network of a trial on digits."""
    told = refit("keep", *TRIAL, "--profile", "smoke")
    assert told.exit_code == 0, told.output
    return networks.find(*TRIAL)


@pytest.fixture(scope="module")
def picture(kept, tmp_path_factory):
    """A test image of digits as a user might have it: larger, in colour, upright."""
    pixels = digits.read(None).test.images[0].squeeze(2)
    path = tmp_path_factory.mktemp("pictures") / "zähler.png"
    tinted = np.stack([pixels, pixels, pixels // 2], axis=2)
    Image.fromarray(tinted).resize((120, 90)).save(path)
    return path


def test_card_says_what_the_network_is(kept):
    path, card = kept
    assert (card.experiment, card.trial) == TRIAL
    assert card.profile == "smoke"
    assert "digits bundled with scikit-learn" in card.data["source"]
    assert len(card.classes) == 10
    assert files.digest(path) == card.sha256
    result = next((paths.runs() / networks.FOLDER).rglob(f"*{card.digest}/result.json"))
    metrics = json.loads(result.read_text(encoding="utf-8"))["metrics"]
    assert card.scores["test_accuracy"] == metrics["test_accuracy"]
    assert keras.saving.load_model(path).count_params() == metrics["total_params"]


def test_results_of_record_are_left_alone(kept):
    own = (paths.runs() / "smoke" / TRIAL[0]).rglob(f"*{kept[1].digest}/result.json")
    assert not list(own)


def test_test_images_are_recognised_as_often_as_the_card_says(kept):
    path, card = kept
    table, test = pd.read_csv(path.with_suffix(".csv")), digits.read(None).test
    chosen = test.take(np.flatnonzero(np.isin(test.ids, table["image"])))
    assert table["label"].tolist() == chosen.labels.tolist()
    right = (table["prediction"] == table["label"]).mean()
    assert right == pytest.approx(card.scores["test_accuracy"], abs=1e-6)
    from refit.training import network

    probabilities = network.predict(path, chosen.images)
    assert table["prediction"].tolist() == probabilities.argmax(axis=1).tolist()
    assert table["probability"].tolist() == pytest.approx(probabilities.max(axis=1), abs=1e-4)


def test_picture_gets_classes_with_probabilities_and_a_word_on_how_it_was_fitted(kept, picture):
    told = refit("predict", *TRIAL, picture)
    assert told.exit_code == 0, told.output
    line = told.output.splitlines()[-1]
    assert "from 120x90 to 28x28, turned grey" in line
    shares = [float(part.split()[-1]) for part in line.split(": ")[-1].split(" (")[0].split(",")]
    assert shares == sorted(shares, reverse=True)
    assert 0 < sum(shares) <= 1.001
    light = refit("predict", *TRIAL, picture, "--invert")
    assert "its ground is light" in light.output


def test_a_network_without_a_test_accuracy_predicts_all_the_same(kept, picture):
    path, card = kept
    scores = {"val_accuracy": card.scores["val_accuracy"]}
    place = path.with_suffix(".json")
    files.write_json(place, card.model_copy(update={"scores": scores}).model_dump(mode="json"))
    told = refit("predict", *TRIAL, picture)
    files.write_json(place, card.model_dump(mode="json"))
    assert told.exit_code == 0, told.output
    assert f"val accuracy {scores['val_accuracy']:.3f}" in told.output


def test_what_is_no_picture_is_named(kept, tmp_path):
    (tmp_path / "letter.png").write_text("no picture", encoding="utf-8")
    for path, said in (
        (tmp_path / "letter.png", "unknown format"),
        (tmp_path / "x.png", "No such"),
    ):
        told = refit("predict", *TRIAL, path)
        assert told.exit_code == 1
        assert str(path) in told.stderr
        assert said in told.stderr


def test_network_that_is_not_that_of_its_card_is_refused(kept):
    path, _ = kept
    whole = path.read_bytes()
    path.write_bytes(whole + b"x")
    told = refit("predict", *TRIAL, "picture.png")
    path.write_bytes(whole)
    assert told.exit_code == 1
    assert "is not the network" in told.stderr


def test_unknown_network_says_which_there_are():
    told = refit("predict", "transfer", "nothing", "picture.png")
    assert told.exit_code == 1
    assert "refit keep transfer nothing" in told.stderr


@pytest.mark.parametrize("card", sorted(paths.NETWORKS.glob("*.json")), ids=lambda path: path.stem)
def test_committed_networks_are_whole_and_small(card):
    found = networks.Card.model_validate_json(card.read_text(encoding="utf-8"))
    path, _ = networks.find(found.experiment, found.trial)
    assert path.parent == paths.NETWORKS
    model = keras.saving.load_model(path)
    assert model.output_shape == (None, len(found.classes))
    assert tuple(model.input_shape[1:]) == found.input_shape
    assert not getattr(model, "optimizer", None)
    assert sum(each.stat().st_size for each in paths.NETWORKS.iterdir()) < 8e6
