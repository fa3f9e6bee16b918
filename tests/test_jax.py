"""Keras on JAX, where TensorFlow cannot be imported: the same run directories, the same batches."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from refit import files as refit_files
from refit.data.arrays import Part
from refit.errors import DeclarationError, UnavailableError
from refit.experiments.trial import Trial
from refit.run_directory import directory
from refit.run_directory.directory import BATCHES, EVENT_FOLDERS, PREDICTIONS, RESULT
from refit.run_directory.events import event_files, read_scalars
from refit.run_directory.failures import FAILURE
from refit.running import runner
from refit.training.fit import pipeline

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="jax is not installed"
)

TRIALS = {
    "mlp": {"model": {"name": "mlp", "options": {}}, "shuffle": True},
    "cnn-dropout": {
        "model": {"name": "cnn", "options": {"last_dropout": 0.5}},
        "optimizer": {
            "name": "sgd", "learning_rate": 0.01, "momentum": 0.9, "decay": 1e-6,
            "weight_decay": 1e-4,
        },
        "callbacks": [{"name": "reduce_lr_on_plateau", "factor": 0.5, "patience": 1}],
    },
    "cnn-normalized": {
        "model": {"name": "cnn", "options": {"batch_normalization": True}},
        "record_batches": True,
        "evaluate_train": True,
        "evaluate_untrained": True,
    },
}  # fmt: skip
SEARCH = {"model": {"name": "autokeras", "options": {"candidates": 1}}}

TRAIN = """
import json, sys
from pathlib import Path
from refit import runner, finished
from refit.experiments.trial import Trial
if __name__ == "__main__":
    trials = [Trial.model_validate(plain) for plain in json.loads(sys.argv[1])]
    print(runner.run(trials, Path(sys.argv[2]), workers=2, out_of_memory=sys.argv[3]))
"""


@pytest.fixture(scope="module")
def blocked(tmp_path_factory) -> Path:
    """A folder for PYTHONPATH with a TensorFlow that cannot be imported."""
    folder = tmp_path_factory.mktemp("blocked")
    (folder / "tensorflow.py").write_text("raise ModuleNotFoundError('no TensorFlow here')")
    return folder


def on_jax(blocked: Path, script: str, *arguments: str) -> str:
    """What a script prints that runs on JAX, and all processes that it starts."""
    found = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    environment = {"KERAS_BACKEND": "jax", "TQDM_DISABLE": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(blocked), *found]))
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=os.environ | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def train_on_jax(blocked: Path, trials: list[Trial], folder: Path, memory: str = "fail") -> str:
    plain = json.dumps([trial.model_dump(mode="json") for trial in trials])
    return on_jax(blocked, TRAIN, plain, str(folder), memory)


def curves(trial: Trial, folder: Path) -> dict[str, dict[str, dict[int, float]]]:
    """Everything in the event files: folder -> tag -> step -> value."""
    run_dir = folder / trial.directory
    return {name: read_scalars(run_dir / name) for name in EVENT_FOLDERS}


def numbers(trial: Trial, folder: Path) -> list[tuple]:
    """What a training must repeat bit for bit: all values but times, and the predictions."""
    values = [
        (name, tag, steps)
        for name, tags in curves(trial, folder).items()
        for tag, steps in tags.items()
        if "seconds" not in tag
    ]
    return [*values, (folder / trial.directory / PREDICTIONS).read_bytes()]


def test_a_training_leaves_what_it_leaves_on_tensorflow(make_tiny, blocked, tmp_path):
    trials = [make_tiny(name=name, epochs=2, **changes) for name, changes in TRIALS.items()]
    search = make_tiny(name="search", **SEARCH)
    told = train_on_jax(blocked, [*trials, search], tmp_path / "jax")
    assert "4 trials: 0 done before, 3 trained, 1 failed" in told
    failure = refit_files.read_object(tmp_path / "jax" / search.directory / FAILURE)
    assert failure["kind"] == "not available"
    assert "AutoKeras computes on TensorFlow only" in failure["reason"]

    runner.check(runner.run(trials, tmp_path / "tensorflow", workers=2))
    for trial in trials:
        results = {}
        for backend in ("tensorflow", "jax"):
            folder = tmp_path / backend
            results[backend] = directory.result_of(trial, folder)
            assert results[backend]["environment"]["backend"] == backend
        here, there = results["jax"], results["tensorflow"]
        assert here["environment"]["intra_op_threads"] == 1
        assert "tensorflow" not in here["environment"]
        assert here["layers"] == there["layers"]
        assert here["metrics"].keys() == there["metrics"].keys()
        steps = [
            {name: {tag: list(s) for tag, s in tags.items()} for name, tags in found.items()}
            for found in (curves(trial, tmp_path / "jax"), curves(trial, tmp_path / "tensorflow"))
        ]
        assert steps[0] == steps[1]
        assert bool(steps[0][BATCHES]) == trial.record_batches
        files = [
            {path.name for path in (tmp_path / backend / trial.directory).iterdir()}
            - {path.name for path in event_files(tmp_path / backend / trial.directory)}
            for backend in ("jax", "tensorflow")
        ]
        assert files[0] == files[1] >= {RESULT, PREDICTIONS}


def test_the_same_bits_come_from_what_was_compiled_before_and_beside_others(
    make_tiny, blocked, tmp_path
):
    trial = make_tiny(name="cnn-dropout", epochs=2, **TRIALS["cnn-dropout"])
    assert "failed" not in train_on_jax(blocked, [trial], tmp_path / "alone")
    compiled = list((Path(os.environ["REFIT_RUNS"]) / "cache" / "compiled").rglob("*-cache"))
    assert compiled
    for path in compiled[::2]:
        path.write_bytes(path.read_bytes()[:100])  # as a process leaves it that is killed
    assert "failed" not in train_on_jax(blocked, [trial, make_tiny()], tmp_path / "beside")
    assert numbers(trial, tmp_path / "beside") == numbers(trial, tmp_path / "alone")


COLLECT = """
import sys
import keras
import numpy as np
from refit import pipeline, finished
from refit.data import Part
if __name__ == "__main__":
    with np.load(sys.argv[1]) as given:
        part = Part(given["images"], given["labels"], given["labels"])
        drawn = given["order"]
    order = pipeline.new_order(len(part))
    found = {}
    for parts in (1, 3):
        for most in (2**30, 0):
            pipeline.MOST_IN_MEMORY = most
            ordered = pipeline.batches(part, 4, order, parts)
            for positions in (np.arange(len(part), dtype=np.int32), drawn):
                order.assign(positions)
                for batch in map(ordered.__getitem__, range(len(ordered))):
                    found |= {str(len(found) + n): array for n, array in enumerate(batch)}
    flatten = keras.Sequential([keras.Input(part.images.shape[1:]), keras.layers.Flatten()])
    read = flatten.predict(pipeline.batches(part, 4, order), verbose=0)  # in Keras's threads
    np.savez(sys.argv[2], read=read, **found)
"""


def test_batches_are_the_same_on_both_backends(blocked, tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (11, 6, 5, 3), np.uint8)
    labels = generator.integers(0, 5, 11).astype(np.int32)
    drawn = generator.permutation(11).astype(np.int32)
    np.savez(tmp_path / "given.npz", images=images, labels=labels, order=drawn)
    on_jax(blocked, COLLECT, str(tmp_path / "given.npz"), str(tmp_path / "found.npz"))
    part = Part(images, labels, labels)
    expected = []
    order = pipeline.new_order(11)
    for parts in (1, 3):
        for most in (2**30, 0):
            monkeypatch.setattr(pipeline, "MOST_IN_MEMORY", most)
            ordered = pipeline.batches(part, 4, order, parts)
            for positions in (np.arange(11, dtype=np.int32), drawn):
                order.assign(positions)
                expected += [array.numpy() for batch in ordered for array in batch]
    with np.load(tmp_path / "found.npz") as found:
        np.testing.assert_array_equal(
            found["read"].reshape(images.shape), np.float32(images[drawn]) / 255
        )
        assert len(found.files) == len(expected) + 1
        for number, array in enumerate(expected):
            other = found[str(number)]
            assert (other.dtype, other.shape) == (array.dtype, array.shape)
            assert other.tobytes() == array.tobytes()


FORKED = """
import sys
import refit.training.fit, refit.running.runner
from jax._src import xla_bridge
print(xla_bridge.backends_are_initialized(), "autokeras" in sys.modules)
"""


def test_what_the_fork_server_loads_starts_no_backend(blocked):
    assert on_jax(blocked, FORKED).split() == ["False", "False"]


def test_an_unknown_backend_is_refused(make_tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    with pytest.raises(DeclarationError, match="'torch'; refit knows tensorflow and jax"):
        runner.run([make_tiny()], tmp_path)


def test_a_backend_that_is_not_installed_is_named(make_tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(UnavailableError, match=r"jax is not installed.*KERAS_BACKEND=tensorflow"):
        runner.run([make_tiny()], tmp_path)
