"""Batches that do not fit into memory: what is done with them, and that the result tells."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from refit import files, paths
from refit.data.arrays import Part
from refit.errors import DeclarationError
from refit.experiments.declaration import Profile
from refit.run_directory import directory, run_log
from refit.run_directory.directory import RESULT
from refit.running import runner
from refit.training import fit, pipeline
from refit.verdicts import ledger

FACTS = {"workers": 1, "git_revision": ""}
CURVES = ["train_loss", "val_loss", "train_accuracy", "val_accuracy"]


def train(trial, folder, **options) -> dict:
    run_dir = folder / trial.directory
    run_dir.mkdir(parents=True)
    fit.train(trial, run_dir, None, paths.cache(), FACTS, lambda: True, **options)
    return files.read_json(run_dir / RESULT)


def curves(trial, folder) -> np.ndarray:
    return run_log.read([trial], folder).curves[CURVES].to_numpy()


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_added_up_gradients_make_the_same_training(make_tiny, tmp_path, optimizer):
    """In five parts too, of which the last batch of 7 images gives some one and some two."""
    trial = make_tiny(
        batch_size=51, shuffle=True, optimizer={"name": optimizer, "learning_rate": 0.01}
    )
    assert trial.data.train_images % trial.batch_size == 7
    train(trial, tmp_path / "whole")
    for parts in (2, 5):
        folder = tmp_path / f"{parts} parts"
        result = train(trial, folder, parts=parts, out_of_memory="accumulate")
        loss = curves(trial, folder)[:, 1]
        assert loss == pytest.approx(curves(trial, tmp_path / "whole")[:, 1], rel=2e-3)
        assert result["images_at_once"] == -(-51 // parts)
        assert not result["smaller_batches"]
    row = run_log.read([trial], folder).results.iloc[0]
    assert row["reason"] == (
        "a batch of 51 did not fit into memory: trained on at most 11 at once, adding up the "
        "gradients of a batch's parts"
    )
    assert not row["altered"]


def test_smaller_batches_make_another_training_which_is_compared_with_nothing(make_tiny, tmp_path):
    trial = make_tiny(batch_size=64, shuffle=True)
    result = train(trial, tmp_path / "smaller", parts=2, out_of_memory="smaller")
    smaller = make_tiny(batch_size=32, shuffle=True)
    train(smaller, tmp_path / "asked for")
    found = curves(trial, tmp_path / "smaller")
    np.testing.assert_array_equal(found, curves(smaller, tmp_path / "asked for"))
    assert (result["images_at_once"], result["smaller_batches"]) == (32, True)
    log = run_log.read([trial], tmp_path / "smaller")
    assert "trained on at most 32 at once, with smaller batches" in log.results["reason"].iloc[0]
    rows = log.done.assign(stand_in=False, demonstration=False, cut=False)
    profile = Profile(description="as published")
    assert ledger.incomparable(profile, rows) == "another network than published"


def test_batches_that_fit_leave_no_note(make_tiny, tmp_path):
    trial = make_tiny(epochs=1)
    result = train(trial, tmp_path, out_of_memory="accumulate")
    assert {"images_at_once", "batch_note"}.isdisjoint(result)
    assert run_log.read([trial], tmp_path).results["reason"].iloc[0] == ""


@pytest.mark.parametrize("shape", [(11, 6, 5, 3), (11, 4, 6, 5, 3)], ids=["images", "clips"])
@pytest.mark.parametrize("parts", [2, 3, 4])
def test_parts_of_a_batch_weigh_as_much_as_the_batch(shape, parts):
    """Batches of 4, 4 and 3 images; in 4 parts one of the last batch's has nothing new."""
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    part = Part(images, np.arange(11, dtype=np.int32), np.arange(11))
    order = tf.Variable(np.random.default_rng(1).permutation(11).astype(np.int32))
    found = [
        [tensor.numpy() for tensor in batch] for batch in pipeline.batches(part, 4, order, parts)
    ]
    assert len(found) == 3 * parts
    for number in range(3):
        whole = order.numpy()[4 * number : 4 * number + 4]
        of_batch = found[number * parts : (number + 1) * parts]
        seen = [labels[weights > 0] for _, labels, weights in of_batch]
        assert np.concatenate(seen).tolist() == whole.tolist()
        # The mean over the parts of their means of weighted values is the mean of the batch.
        means = [(labels * weights).mean() for _, labels, weights in of_batch]
        assert np.mean(means) == pytest.approx(whole.mean(), rel=1e-5)
        for scaled, labels, _ in of_batch:
            np.testing.assert_array_equal(scaled, images[labels].astype(np.float32) / 255)


def test_an_unknown_way_is_refused(make_tiny, tmp_path):
    with pytest.raises(DeclarationError, match="'guess'; known: fail, accumulate, smaller"):
        runner.run([make_tiny()], tmp_path, out_of_memory="guess")


# The fork server, and so every training, may take this many bytes more than it has taken.
MORE = 900 * 2**20
SCRIPT = """
import json, resource, sys
from multiprocessing import forkserver
from pathlib import Path
from refit import runner, finished
from refit.experiments.trial import Trial

if __name__ == "__main__":
    small, large = [Trial.model_validate(trial) for trial in json.loads(sys.argv[1])]
    folder = Path(sys.argv[2])
    runner.check(runner.run([small], folder, 1))  # starts the server
    server = forkserver._forkserver._forkserver_pid
    taken = int(Path(f"/proc/{server}/statm").read_text().split()[0]) * resource.getpagesize()
    resource.prlimit(server, resource.RLIMIT_AS, (taken + int(sys.argv[3]),) * 2)
    for way in ("fail", "accumulate"):
        print(way, runner.run([large], folder, 1, out_of_memory=way), flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory of another process")
@pytest.mark.skipif(
    "STRESS" not in os.environ, reason="a minute alone, and fails beside other work"
)
def test_training_that_runs_out_of_memory_fails_or_goes_on_as_it_is_told(make_tiny, tmp_path):
    """TensorFlow crashes on the CPU where it gets no memory, so that only a new process helps."""
    data = {"name": "digits", "test_images": 60, "fingerprint": "sklearn-digits"}
    data |= {"train_images": 1024, "validation_images": 60}
    small = make_tiny(name="small", epochs=1)
    large = make_tiny(name="large", epochs=1, batch_size=1024, model={"name": "cnn"}, data=data)
    trials = json.dumps([trial.model_dump(mode="json") for trial in (small, large)])
    command = [sys.executable, "-c", SCRIPT, trials, str(tmp_path), str(MORE)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, timeout=300)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.split("accumulate 1 trials")
    assert "fail 1 trials: 0 done before, 0 trained, 1 failed" in first
    assert "out_of_memory=accumulate adds up the gradients" in first
    assert ": 0 done before, 1 trained" in second
    assert "a batch of 1024 did not fit into memory: trained on at most" in second
    result = directory.result_of(large, tmp_path)
    assert result["images_at_once"] < 1024
