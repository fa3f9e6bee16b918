"""The AutoKeras search: the report's network first, nothing trained twice, no AutoKeras left over.

All searches but the first test's are among networks of a single convolution in ResNet's place.
"""

import json
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from refit.data.arrays import Dataset, Part
from refit.errors import DeclarationError, TrialError, UnavailableError
from refit.experiments.trial import AUTOKERAS
from refit.models import layers
from refit.run_directory.events import read_scalars
from refit.searches import autokeras as autokeras_search
from refit.searches import candidates
from refit.training import recorder

EPOCHS = 2
# With this seed one of three candidates is trained with AdamW, and the best one, which is not the
# first, gets worse in its last epoch.
SEED = 18


def make_dataset(side: int = 8, classes: int = 3, train: int = 48) -> Dataset:
    """Noise that is brighter for later classes."""

    def part(images: int, seed: int) -> Part:
        labels = np.arange(images, dtype=np.int32) % classes
        noise = np.random.default_rng(seed).integers(0, 156, (images, side, side, 1))
        brightness = 99 * labels[:, None, None, None] // (classes - 1)
        return Part((noise + brightness).astype(np.uint8), labels, np.arange(images))

    names = tuple(f"class {number}" for number in range(classes))
    parts = {"train": part(train, 1), "validation": part(24, 2), "test": part(24, 3)}
    return Dataset(**parts, class_names=names, source="noise", embedded=True)


@pytest.fixture(scope="module")
def autokeras():
    return pytest.importorskip("autokeras", reason="AutoKeras is not installed")


def build_small(weights: None, include_top: bool, input_shape, scale: float = 1.0) -> keras.Model:
    assert (weights, include_top) == (None, False)
    inputs = keras.Input(input_shape)
    outputs = keras.layers.Conv2D(4, 3, strides=4, activation="relu")(inputs)
    outputs = keras.layers.BatchNormalization()(outputs)
    return keras.Model(inputs, keras.layers.Rescaling(scale)(outputs))


@pytest.fixture(scope="module")
def small_networks(autokeras):
    """Put a convolution in the place of every ResNet, so that a candidate takes seconds."""
    from autokeras.blocks import basic

    with pytest.MonkeyPatch.context() as patch:
        for versions in ("RESNET_V1", "RESNET_V2"):
            patch.setattr(basic, versions, dict.fromkeys(getattr(basic, versions), build_small))
        yield basic


@pytest.fixture(scope="session")
def make_trial(make_tiny):
    def make(candidates: int, augment: bool = False, version: str | None = None, **changes):
        options = {"candidates": candidates, "augment": augment, "version": version}
        settings = {"epochs": EPOCHS, "batch_size": 16, "seed": SEED, "shuffle": True}
        model = {"name": AUTOKERAS, "options": options}
        return make_tiny(model=model, **(settings | changes))

    return make


@pytest.fixture(scope="module")
def whole(small_networks, make_trial, tmp_path_factory):
    """An uninterrupted search, with the network as AutoKeras exports it."""
    folder = tmp_path_factory.mktemp("whole")
    exported = []
    plain = autokeras_search.plain
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            autokeras_search, "plain", lambda model: plain(exported.append(model) or model)
        )
        found = autokeras_search.run(make_trial(3), make_dataset(), folder, lambda: True)
    return SimpleNamespace(found=found, folder=folder, exported=exported[0])


def written(folder) -> dict:
    """When each candidate below a run directory was finished."""
    return {path: path.stat().st_mtime_ns for path in folder.glob("candidates/*/candidate.json")}


class BuiltError(Exception):
    """Ends a search where its first training would begin."""


def test_first_candidate_is_the_network_of_the_report(autokeras, make_trial, tmp_path, monkeypatch):
    seen = []

    def stop(recorder, logs=None):
        seen.append(recorder.model)
        raise BuiltError

    monkeypatch.setattr(candidates.CandidateRecorder, "on_train_begin", stop)
    monkeypatch.setattr(keras.Model, "_resolve_auto_jit_compile", lambda model: True)  # as on a GPU
    dataset = make_dataset(side=28, classes=10)
    with pytest.raises(BuiltError):
        autokeras_search.run(make_trial(1), dataset, tmp_path, lambda: True)
    assert not seen[0].jit_compile
    model = autokeras_search.plain(seen[0])
    assert layers.parameter_counts(model) == {
        "total_params": 23_608_205,
        "trainable_params": 23_555_082,
        "non_trainable_params": 53_123,
    }
    rows = layers.layer_table(model)
    assert [(row["type"], row["output_shape"], row["parameters"]) for row in rows] == [
        ("Normalization", [28, 28, 1], 3),
        ("Resizing", [32, 32, 1], 0),
        ("Concatenate", [32, 32, 3], 0),
        ("Functional", [1, 1, 2048], 23_587_712),
        ("GlobalMaxPooling2D", [2048], 0),
        ("Dense", [10], 20_490),
        ("Softmax", [10], 0),
    ]
    assert rows[3]["name"] == "resnet50"
    images = dataset.train.images / np.float32(255)
    mean, variance, _ = model.layers[1].get_weights()
    assert mean == pytest.approx(images.mean(), rel=1e-4)
    assert variance == pytest.approx(images.var(), rel=1e-4)


def test_search_keeps_the_weights_of_the_best_epoch_of_the_best_candidate(whole):
    rows = whole.found.candidates
    assert [row["number"] for row in rows] == [1, 2, 3]
    (chosen,) = (row for row in rows if row["chosen"])
    assert chosen["val_loss"] == min(row["val_loss"] for row in rows)
    assert chosen["number"] > 1
    assert chosen["kept_epoch"] < EPOCHS
    history = whole.found.history
    assert len(history) == chosen["epochs"] == EPOCHS
    kept = history[chosen["kept_epoch"] - 1]
    assert kept["val_loss"] == chosen["val_loss"] == min(row["val_loss"] for row in history)
    assert kept["val_accuracy"] == chosen["val_accuracy"]
    assert chosen["seconds"] == pytest.approx(sum(row["seconds"] for row in history))
    assert chosen["parameters"] == whole.found.model.count_params()

    validation = make_dataset().validation
    probabilities = whole.found.model.predict(validation.images / np.float32(255), verbose=0)
    right = probabilities[np.arange(len(validation)), validation.labels]
    assert -np.log(right).mean() == pytest.approx(kept["val_loss"], rel=1e-4)
    accuracy = (probabilities.argmax(axis=1) == validation.labels).mean()
    assert accuracy == pytest.approx(kept["val_accuracy"])


def test_candidates_differ_and_none_is_pretrained_or_enlarged(whole):
    rows = whole.found.candidates
    first = {"version": "resnet50", "reduction_type": "global_max", "dropout": 0.0}
    assert first.items() <= rows[0].items()
    settings = ("version", "reduction_type", "dropout", "optimizer", "learning_rate")
    assert len({tuple(row[name] for name in settings) for row in rows}) == 3
    assert not any(row["pretrained"] or row["imagenet_size"] for row in rows)


def test_learning_rate_of_adamw_falls_over_the_whole_training(whole):
    numbers = [
        row["number"] for row in whole.found.candidates if row["optimizer"] == "adam_weight_decay"
    ]
    folder = whole.folder / "candidates" / f"{numbers[0]:02}"
    rates = [row["learning_rate"] for row in read_history(folder)]
    fractions = [1 - epoch / EPOCHS for epoch in range(EPOCHS)]
    assert rates == pytest.approx([rates[0] * fraction for fraction in fractions])


def read_history(folder) -> list[dict]:
    return json.loads((folder / "candidate.json").read_text())["history"]


def test_every_candidate_has_its_curves_as_events(whole):
    for row in whole.found.candidates:
        folder = whole.folder / "candidates" / f"{row['number']:02}"
        history = read_history(folder)
        for group, prefix in (("train", ""), ("validation", "val_")):
            scalars = read_scalars(folder / group)
            for name in ("accuracy", "loss"):
                values = [epoch[prefix + name] for epoch in history]
                logged = scalars[f"epoch_{name}"]
                assert list(logged.values()) == pytest.approx(values)
    progress = json.loads((whole.folder / "progress.json").read_text())
    assert (progress["epoch"], progress["epochs"]) == (3 * EPOCHS, 3 * EPOCHS)


def test_plain_network_predicts_the_same_and_loads_without_autokeras(whole, tmp_path):
    images = np.random.default_rng(4).random((20, 8, 8, 1), np.float32)
    expected = whole.exported.predict(images, verbose=0)
    model = whole.found.model
    assert not any(type(layer).__module__.startswith("autokeras") for layer in model.layers)
    assert type(whole.exported.layers[1]).__module__.startswith("autokeras")
    np.testing.assert_allclose(model.predict(images, verbose=0), expected, atol=1e-5)

    np.save(tmp_path / "images.npy", images)
    path = whole.folder / autokeras_search.BEST
    subprocess.run([sys.executable, "-c", READER, path, tmp_path], check=True)
    np.testing.assert_allclose(np.load(tmp_path / "read.npy"), expected, atol=1e-5)


READER = """
import sys
sys.modules["autokeras"] = None
import keras
import numpy as np
model = keras.models.load_model(sys.argv[1], compile=False)
images = np.load(sys.argv[2] + "/images.npy")
np.save(sys.argv[2] + "/read.npy", model.predict(images, verbose=0))
"""


def test_layer_that_plain_keras_lacks_is_refused(autokeras):
    inputs = keras.Input((8, 8, 1), dtype="uint8")
    model = keras.Model(inputs, autokeras.CastToFloat32()(inputs))
    with pytest.raises(TrialError, match="cast_to_float32"):
        autokeras_search.plain(model)


def test_interrupted_search_goes_on_after_its_last_finished_candidate(
    whole, make_trial, tmp_path, capsys
):
    trial, dataset = make_trial(3), make_dataset()
    unfinished = tmp_path / "candidates" / "02"
    with pytest.raises(recorder.OrphanedError):
        autokeras_search.run(trial, dataset, tmp_path, lambda: not unfinished.exists())
    finished = written(tmp_path)
    assert [path.parent.name for path in finished] == ["01"]

    found = autokeras_search.run(trial, dataset, tmp_path, lambda: True)
    assert finished.items() <= written(tmp_path).items()
    for row, expected in zip(found.candidates, whole.found.candidates, strict=True):
        close = {"val_loss": pytest.approx(expected["val_loss"], rel=1e-4)}
        assert row | {"seconds": 0} == expected | {"seconds": 0} | close
    assert len(read_scalars(unfinished / "train")["epoch_loss"]) == EPOCHS
    assert capsys.readouterr().out == ""


def test_search_leaves_only_its_best_weights_and_a_damaged_state_is_begun_anew(
    whole, make_trial, tmp_path
):
    weights = [path.name for path in whole.folder.rglob("*") if path.suffix in (".h5", ".keras")]
    assert weights == [autokeras_search.BEST]
    (tmp_path / "autokeras").mkdir()
    (tmp_path / "autokeras" / "oracle.json").write_text('{"ongoing_tri')
    trial = make_trial(1, epochs=1)
    found = autokeras_search.run(trial, make_dataset(), tmp_path, lambda: True)
    assert len(found.candidates) == 1


def test_augmentation_and_version_are_as_declared(small_networks, make_trial, tmp_path):
    trial = make_trial(2, augment=True, version="resnet101", epochs=1)
    found = autokeras_search.run(trial, make_dataset(), tmp_path, lambda: True)
    assert {row["version"] for row in found.candidates} == {"resnet101"}
    first = {"horizontal_flip": True, "vertical_flip": True, "translation_factor": 0.1}
    assert first.items() <= found.candidates[0].items()


def test_batch_that_does_not_fit_is_an_error_not_another_batch(
    small_networks, make_trial, tmp_path
):
    def wanted():
        raise tf.errors.ResourceExhaustedError(None, None, "out of memory")

    with pytest.raises(MemoryError, match="16 images"):
        autokeras_search.run(make_trial(1), make_dataset(), tmp_path, wanted)


def test_search_in_which_everything_diverges_says_so(
    small_networks, make_trial, tmp_path, monkeypatch
):
    infinite = partial(build_small, scale=np.inf)
    monkeypatch.setattr(small_networks, "RESNET_V1", {"resnet50": infinite})
    with pytest.raises(TrialError, match="finite loss"):
        autokeras_search.run(make_trial(1), make_dataset(), tmp_path, lambda: True)


def test_two_classes_are_refused(make_trial, tmp_path):
    with pytest.raises(DeclarationError, match="three or more classes"):
        autokeras_search.run(make_trial(1), make_dataset(classes=2), tmp_path, lambda: True)


@pytest.mark.parametrize("broken", [False, True], ids=["missing", "broken"])
def test_autokeras_that_cannot_be_imported_is_named(make_trial, tmp_path, monkeypatch, broken):
    monkeypatch.setitem(sys.modules, "autokeras", None)
    if broken:
        monkeypatch.delitem(sys.modules, "autokeras")
        monkeypatch.syspath_prepend(tmp_path)
        (tmp_path / "autokeras.py").write_text("import keras; keras.nothing")
    with pytest.raises(UnavailableError, match="make setup"):
        autokeras_search.run(make_trial(1), make_dataset(), tmp_path, lambda: True)
