"""Transfer: what is frozen stays as it was, phases survive interruptions, sources come first."""

import hashlib
import http.server
import shutil
import threading
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml
from click.testing import CliRunner
from keras.layers import BatchNormalization, Conv2D, Dense, GlobalAveragePooling2D
from keras.src.legacy.saving import legacy_h5_format

from refit import cli, paths
from refit.errors import DataError, DeclarationError, TrialError, UnavailableError
from refit.experiments import expand
from refit.models import networks
from refit.models.transfer import BASE
from refit.run_directory import directory
from refit.run_directory import log as run_log
from refit.run_directory.directory import CHECKPOINT, RESULT
from refit.running import runner
from refit.study import Study
from refit.training import checkpoint, fit, recorder, weights

# Keras itself calls NumPy in a way that NumPy 2 complains of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ADAM = {"name": "adam", "learning_rate": 0.01}
FACTS = {"workers": 1, "git_revision": ""}


def build_tiny(input_shape, num_classes):
    """A base of five layers, the input among them, and a head."""
    images = keras.Input(input_shape)
    outputs = Conv2D(4, 3, name="conv1")(images)
    outputs = BatchNormalization(name="norm1")(outputs)
    outputs = Conv2D(4, 3, name="conv2")(outputs)
    outputs = BatchNormalization(name="norm2")(outputs)
    base = keras.Model(images, outputs, name=BASE)
    inputs = keras.Input(input_shape)
    outputs = base(inputs)
    outputs = GlobalAveragePooling2D(name="pool")(outputs)
    outputs = Dense(num_classes, activation="softmax", name="predictions")(outputs)
    return keras.Model(inputs, outputs, name="tiny_transfer")


@pytest.fixture(scope="module", autouse=True)
def _tiny_network():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(networks.ARCHITECTURES, "tiny_transfer", build_tiny)
        yield


@pytest.fixture(scope="module")
def source(make_tiny):
    return make_tiny(
        name="source", model={"name": "tiny_transfer"}, optimizer=ADAM, epochs=1, keep_base=True
    )


@pytest.fixture(scope="module")
def make_transferred(make_tiny, source):
    def make(**changes):
        settings = {
            "name": "transferred",
            "model": {"name": "tiny_transfer"},
            "pretrained": {"trial": "source", "run": str(source.directory)},
            "optimizer": ADAM,
            "epochs": 4,
            "shuffle": True,
            "keep_base": True,
        }
        return make_tiny(**settings | changes)

    return make


def train(trial, folder: Path, wanted=lambda: True) -> dict:
    run_dir = folder / trial.directory
    run_dir.mkdir(parents=True, exist_ok=True)
    return fit.fit_trial(trial, run_dir, None, paths.cache(), FACTS, wanted)


@pytest.fixture(scope="module")
def trained_source(source, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    train(source, folder)
    return folder


@pytest.fixture
def runs(trained_source, tmp_path) -> Path:
    """A folder of its own in which the source has been trained."""
    return Path(shutil.copytree(trained_source, tmp_path / "runs"))


def base_weights(trial, folder: Path) -> dict[str, list[np.ndarray]]:
    base = networks.build("tiny_transfer", (28, 28, 1), 5).get_layer(BASE)
    base.load_weights(folder / trial.directory / directory.BASE_WEIGHTS)
    return {layer.name: layer.get_weights() for layer in base.layers if layer.get_weights()}


def changed(before: dict, after: dict) -> set[str]:
    return {
        name
        for name in before
        if any(not np.array_equal(a, b) for a, b in zip(before[name], after[name], strict=True))
    }


def test_without_fine_tuning_the_base_stays_as_it_was(source, make_transferred, runs):
    trial = make_transferred(epochs=2)
    result = train(trial, runs)
    assert changed(base_weights(source, runs), base_weights(trial, runs)) == set()
    assert result["metrics"]["trainable_params"] == 4 * 5 + 5
    assert "fine_tuning_gain" not in result["metrics"]


def test_fine_tuning_reaches_down_to_its_layer_and_no_further(source, make_transferred, runs):
    trial = make_transferred(fine_tuning={"after": 2, "from_layer": 3, "learning_rate": 0.001})
    result = train(trial, runs)
    before, after = base_weights(source, runs), base_weights(trial, runs)
    assert changed(before, after) == {"conv2"}  # its normalisation is in inference mode
    curve = run_log.read([trial], runs).curves
    assert curve["epoch"].tolist() == [1, 2, 3, 4]
    assert curve["learning_rate"].tolist() == pytest.approx([0.01, 0.01, 0.001, 0.001])
    metrics = result["metrics"]
    assert metrics["val_accuracy_before_fine_tuning"] == pytest.approx(curve["val_accuracy"][1])
    gain = curve["val_accuracy"][3] - curve["val_accuracy"][1]
    assert metrics["fine_tuning_gain"] == pytest.approx(gain)


def test_normalization_follows_a_short_training_where_it_is_told_to():
    """Keras's own momentum leaves the averages where they were after a few hundred steps."""
    images = np.random.default_rng(0).random((8, 32, 32, 3), np.float32)
    moved = []
    for options in ({}, {"normalization_momentum": 0.5}):
        model = networks.build("mobilenet_v2", (32, 32, 3), 2, alpha=0.35, **options)
        variance = model.get_layer(BASE).get_layer("bn_Conv1").moving_variance
        model(images, training=True)
        moved.append(1 - float(variance.numpy().mean()))
    assert moved[1] > 100 * moved[0] > 0


def test_networks_that_turn_images_are_left_uncompiled_on_a_gpu(monkeypatch):
    """XLA has no kernel for that, so a training compiled by it ends with an error."""
    gpu = tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind="": [gpu])
    for name, compiled in (("mobilenet_v2", False), ("lenet", True)):
        model = networks.build(name, (32, 32, 3), 2)
        model.compile(loss="sparse_categorical_crossentropy", jit_compile="auto")
        assert model.jit_compile == compiled


@pytest.fixture(scope="module")
def undisturbed(make_transferred, trained_source, tmp_path_factory):
    """A transfer with fine-tuning after half of its epochs, and its curve."""
    folder = Path(shutil.copytree(trained_source, tmp_path_factory.mktemp("whole") / "runs"))
    tuning = {"after": 2, "from_layer": 0, "learning_rate": 0.001}
    trial = make_transferred(fine_tuning=tuning)
    train(trial, folder)
    return trial, run_log.read([trial], folder).curves


@pytest.mark.parametrize("ended", [1, 2, 3])
def test_interrupted_transfer_goes_on_exactly(undisturbed, runs, ended):
    """Ended in the head phase, at the switch, and while fine-tuning."""
    trial, curves = undisturbed
    run_dir = runs / trial.directory

    def wanted():
        return saved_epochs(run_dir) < ended

    with pytest.raises(recorder.OrphanedError):
        train(trial, runs, wanted)
    assert saved_epochs(run_dir) == ended
    assert train(trial, runs)["resumed_at_epoch"] == ended
    columns = ["epoch", "train_loss", "val_loss", "learning_rate"]
    resumed = run_log.read([trial], runs).curves
    assert resumed[columns].values.tolist() == curves[columns].values.tolist()


def test_events_lost_with_the_last_epoch_are_written_again(source, tmp_path, monkeypatch):
    """The checkpoint is saved first, so a kill in between leaves the events an epoch short."""
    with monkeypatch.context() as patch:
        patch.setattr(recorder, "tags", lambda row, group: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(source, tmp_path)
    assert saved_epochs(tmp_path / source.directory) == 1
    assert train(source, tmp_path)["resumed_at_epoch"] == 1
    assert run_log.read([source], tmp_path).curves["epoch"].tolist() == [1]


def saved_epochs(run_dir: Path) -> int:
    saved = checkpoint.read(run_dir / CHECKPOINT)
    return len(saved.state["history"]) if saved else 0


def test_damaged_checkpoint_starts_again_with_a_frozen_base(source, make_transferred, runs):
    trial = make_transferred(epochs=1)
    run_dir = runs / trial.directory
    run_dir.mkdir(parents=True)
    (run_dir / CHECKPOINT).write_bytes(b"PK, and then nothing")
    assert train(trial, runs)["resumed_at_epoch"] == 0
    assert changed(base_weights(source, runs), base_weights(trial, runs)) == set()


def test_missing_or_foreign_weights_are_named(source, make_transferred, tmp_path):
    trial = make_transferred()
    with pytest.raises(TrialError, match="source has to be trained first"):
        train(trial, tmp_path)
    path = tmp_path / source.directory / directory.BASE_WEIGHTS
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no weights at all")
    with pytest.raises(TrialError, match="does not hold the weights"):
        train(trial, tmp_path)
    keras.Sequential([keras.Input((3,)), Dense(2)]).save_weights(path)
    with pytest.raises(TrialError, match=r"base\.weights\.h5: does not hold the weights"):
        train(trial, tmp_path)


def test_layer_beyond_the_base_is_an_error(make_transferred, runs):
    tuning = {"after": 1, "from_layer": 5, "learning_rate": 0.001}
    with pytest.raises(TrialError, match=r"from_layer: is 5, and the base .* has 5 layers"):
        train(make_transferred(fine_tuning=tuning, epochs=2), runs)


def test_sources_are_trained_first_and_their_failure_is_told(make_tiny, tmp_path):
    """A LeNet has no base to keep, so it fails, and with it what would start from it."""
    plain = make_tiny(name="source", epochs=1, keep_base=True)
    start = {"trial": "source", "run": str(plain.directory)}
    second = make_tiny(name="second", epochs=1, pretrained=start)
    summary = runner.run([second, plain], tmp_path, workers=2)
    assert "has no base" in summary.failures[plain.directory.name]
    reason = summary.failures[second.directory.name]
    assert reason.startswith("not possible")
    assert "source has to be trained first" in reason
    assert summary.trained == 0


@pytest.fixture
def offline(monkeypatch, tmp_path):
    def refuse(*_):
        raise DataError("could not be downloaded")

    monkeypatch.setattr(weights, "download", refuse)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return tmp_path / "keras" / "models"


def imagenet(make_tiny, **changes):
    settings = {"model": {"name": "mobilenet_v2"}, "pretrained": {"weights": "imagenet"}}
    return make_tiny(**settings | {"name": "from-imagenet"} | changes)


def test_optional_sweep_without_weights_leaves_the_others_whole(make_tiny, tmp_path, monkeypatch):
    declaration = expand.load("transfer")
    missing = {"pretrained": {"weights": "own.h5"}}
    missing |= {"data": {"name": "digits_colour", "image_size": 32, "train_images": 20}}
    trial = imagenet(make_tiny, sweep="mobilenet_v2", **missing)
    study = Study(declaration, "full", [trial], tmp_path / "runs", tmp_path / "pages", None)
    summary = study.train()
    assert list(summary.failures) == [trial.directory.name]
    row = study.log().results.iloc[0]
    assert row["status"] == "failed"
    assert row["reason"].startswith("not available: UnavailableError: own.h5: is in none of")
    monkeypatch.setattr(cli, "open_studies", lambda *_, **__: [study])
    told = CliRunner().invoke(cli.main, ["status"]).output
    assert told.startswith(
        "transfer (full): 0 done, 0 failed, 0 missing, 1 not run\n  from-imagenet"
    )
    _, numbers, verdicts = study.measured
    assert set(numbers["verdict"]) == set(verdicts["verdict"]) == {"not_judged"}
    needed = imagenet(make_tiny, sweep="transferred", **missing)
    study = Study(declaration, "full", [needed], tmp_path / "runs", tmp_path / "pages", None)
    with pytest.raises(TrialError, match=r"own\.h5: is in none of"):
        study.train()


def test_weights_are_found_where_the_user_or_keras_keeps_them(make_tiny, offline, tmp_path):
    name = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5"
    trial = imagenet(make_tiny, model={"name": "mobilenet_v2", "options": {"alpha": 0.35}})
    with pytest.raises(UnavailableError):
        weights.find(trial, None)
    offline.mkdir(parents=True)
    (offline / name).touch()
    assert weights.find(trial, None) == offline / name
    mine = tmp_path / "data" / "weights"
    mine.mkdir(parents=True)
    (mine / name).touch()
    assert weights.find(trial, tmp_path / "data") == mine / name
    (mine / "own.weights.h5").touch()
    own = imagenet(make_tiny, pretrained={"weights": "own.weights.h5"})
    assert weights.find(own, tmp_path / "data") == mine / "own.weights.h5"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pretrained": {"weights": "../own.h5"}}, "not the name of a file"),
        ({"pretrained": {"weights": "own.pkl"}}, "ends in .h5"),
        ({"pretrained": {"weights": "own.h5"}}, "own.h5: is in none of .*weights"),
        ({"model": {"name": "lenet"}}, "no ImageNet weights for lenet"),
    ],
)
def test_weights_that_cannot_be_had_are_explained(make_tiny, offline, tmp_path, changes, message):
    with pytest.raises(UnavailableError, match=message):
        weights.find(imagenet(make_tiny, **changes), tmp_path)


def test_weights_in_the_published_format_are_loaded(make_tiny, offline, tmp_path):
    """A file as Keras publishes them, its legacy HDF5 layout, with weights of our own."""
    options = {"alpha": 0.35}
    trial = imagenet(make_tiny, model={"name": "mobilenet_v2", "options": options})
    published = networks.build("mobilenet_v2", (32, 32, 3), 3, **options).get_layer(BASE)
    offline.mkdir(parents=True)
    name = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5"
    with h5py.File(offline / name, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, published)
    model = networks.build("mobilenet_v2", (32, 32, 3), 2, **options)
    digest = hashlib.sha256((offline / name).read_bytes()).hexdigest()
    assert weights.load(model, trial, tmp_path, None) == {name: digest}
    loaded = model.get_layer(BASE).get_weights()
    assert all(map(np.array_equal, loaded, published.get_weights()))


@pytest.mark.parametrize(
    ("digest", "told"),
    [
        ("b232c16a9a15777778a8a7b13a7f3ebfae0d905fd7c76d8f6bebb087e972e484", "8-bit weights, not"),
        ("0" * 64, "not compared with"),
    ],
)
def test_pages_say_which_file_of_weights_a_network_started_from(make_tiny, tmp_path, digest, told):
    trial = make_tiny(epochs=1)
    content = train(trial, tmp_path)
    directory.write_result(tmp_path / trial.directory, content | {"weights": {"own.h5": digest}})
    facts = run_log.provenance([trial], tmp_path).set_index("fact")["value"]
    assert facts["weights"].startswith(f"own.h5: {told} the file that Keras publishes (SHA-256")


@pytest.mark.parametrize("page", [b"<html>Please log in</html>", b""])
def test_an_answer_that_is_no_file_of_weights_is_not_kept(make_tiny, monkeypatch, tmp_path, page):
    """As of a proxy or a hotel's network, which answers every address with a page of its own."""

    class Portal(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_):
            pass

    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    with http.server.HTTPServer(("127.0.0.1", 0), Portal) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(weights, "URL", f"http://127.0.0.1:{server.server_port}/")
        with pytest.raises(UnavailableError, match=r"could not be downloaded into .*models"):
            weights.find(imagenet(make_tiny), None)
        server.shutdown()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.fixture
def declared(tmp_path):
    """A function that loads the declaration of `transfer` with some text replaced."""

    def load(**changes):
        text = (paths.EXPERIMENTS / "transfer.yaml").read_text()
        content = yaml.safe_load(text)
        for sweep, settings in changes.items():
            content["sweeps"][sweep]["entries"][0] |= settings
        path = tmp_path / "transfer.yaml"
        path.write_text(yaml.safe_dump(content))
        return expand.load(path)

    return load


def test_run_directory_of_the_source_is_part_of_what_a_trial_is(declared):
    def first(declaration):
        trials = expand.expand(declaration, "smoke", seeds=2)
        by_name = {(trial.name, trial.seed): trial for trial in trials}
        for seed in (6, 7):
            run = by_name["transferred-125", seed].pretrained.run
            assert run == str(by_name["small-base", seed].directory)
        return by_name["transferred-125", 6]

    same, other = first(declared()), first(declared(pretraining={"batch_size": 16}))
    assert same.digest == first(declared()).digest != other.digest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"transferred": {"pretrained": {"trial": "nobody"}}}, "'nobody' should be a trial"),
        ({"pretraining": {"keep_base": False}}, "'small-base' should be a trial"),
        ({"transferred": {"pretrained": {"weights": "a.h5"}}}, "either weights or trial"),
        ({"transferred": {"fine_tuning": {"after": 30}}}, "30 epochs leave none to fine-tune in"),
        ({"from_scratch": {"fine_tuning": {"after": 1, "from_layer": 0, "learning_rate": 0.1}}},
         "needs weights to start from"),
    ],
)  # fmt: skip
def test_declared_transfers_that_cannot_be_are_errors(declared, changes, message):
    with pytest.raises(DeclarationError, match=message):
        declared(**changes)


def test_switch_is_cut_with_the_epochs(declared, monkeypatch):
    monkeypatch.setattr(expand.sets, "resolve", lambda spec, data_dir: spec)  # no photographs here
    trials = {trial.name: trial for trial in expand.expand(declared(), "small")}
    assert trials["mobilenet-v2"].epochs == 6
    assert trials["mobilenet-v2"].fine_tuning.after == 3


def test_result_is_not_written_before_the_base(source, tmp_path, monkeypatch):
    """What counts as done must be able to serve those that start from it."""

    def full_disk(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(weights, "keep", full_disk)
    with pytest.raises(OSError, match="no space"):
        train(source, tmp_path)
    assert not (tmp_path / source.directory / RESULT).exists()
