"""Trainings: the same trial gives the same curve, whatever interrupts it or runs beside it."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

import fault_tools
from refit import paths
from refit.data import sets
from refit.data.arrays import Part
from refit.experiments.trial import Optimizer
from refit.run_directory import curve_metrics, directory
from refit.run_directory import log as run_log
from refit.run_directory.directory import BATCH_FILE, BATCHES, PREDICTIONS, RESULT
from refit.run_directory.events import read_scalars
from refit.running import runner
from refit.training import feed, fit, optimizers, stopping

DROPOUT_AND_PLATEAU = {
    "model": {"name": "cnn", "options": {"batch_normalization": True}},
    "optimizer": {
        "name": "sgd", "learning_rate": 0.01, "momentum": 0.9, "nesterov": True, "decay": 1e-6,
    },
    "callbacks": [
        {"name": "reduce_lr_on_plateau", "factor": 0.5, "patience": 1, "min_lr": 1e-5}
    ],
}  # fmt: skip
RECORDED = {"shuffle": True, "record_batches": True}


def stop(target, **settings):
    return {"callbacks": [{"name": "stop_at_target", "target": target} | settings]}


def trained(trial, folder: Path) -> dict:
    """The result of a trial, which is trained where it has none."""
    runner.check(runner.run([trial], folder, workers=1))
    return directory.result_of(trial, folder)


def losses(trial, folder: Path) -> list[float]:
    curves = run_log.read([trial], folder).curves
    assert curves["epoch"].tolist() == list(range(1, trial.epochs + 1))
    return curves[["train_loss", "val_loss", "train_accuracy", "val_accuracy"]].values.tolist()


def test_same_trial_gives_the_same_curve_alone_and_beside_others(make_tiny, tmp_path):
    trial = make_tiny(**DROPOUT_AND_PLATEAU)
    runner.check(runner.run([trial], tmp_path / "alone", workers=1))
    runner.check(runner.run([trial, make_tiny(seed=1)], tmp_path / "beside", workers=2))
    assert losses(trial, tmp_path / "alone") == losses(trial, tmp_path / "beside")


def test_training_killed_in_the_middle_of_an_epoch_resumes_exactly(make_tiny, tmp_path):
    trial = make_tiny(**DROPOUT_AND_PLATEAU, **RECORDED, epochs=8)
    runner.check(runner.run([trial], tmp_path / "whole", workers=1))

    run_dir = tmp_path / "killed" / trial.directory
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, trial.model_dump_json(), str(tmp_path / "killed")],
    )
    wait_for(lambda: epochs_done(run_dir) in range(2, 7))
    time.sleep(0.05)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    wait_for(lambda: lock_is_free(run_dir))  # the orphan noticed and stopped
    assert not (run_dir / RESULT).exists()
    runner.check(runner.run([trial], tmp_path / "killed", workers=1))
    result = json.loads((run_dir / RESULT).read_text())
    assert result["resumed_at_epoch"] >= 2
    assert losses(trial, tmp_path / "killed") == losses(trial, tmp_path / "whole")
    whole, killed = (run_log.batch_curves([trial], tmp_path / name) for name in ("whole", "killed"))
    pd.testing.assert_frame_equal(killed, whole, check_exact=True)
    assert len(whole) == 8 * 5


DRIVER = """
import sys
from pathlib import Path
from refit.running import runner
from refit.experiments.trial import Trial
if __name__ == "__main__":
    runner.run([Trial.model_validate_json(sys.argv[1])], Path(sys.argv[2]), workers=1)
"""


def epochs_done(run_dir: Path) -> int:
    try:
        return json.loads((run_dir / "progress.json").read_text())["epoch"]
    except (OSError, ValueError):
        return 0


def lock_is_free(run_dir: Path) -> bool:
    with (run_dir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def wait_for(condition) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def test_settings_of_the_user_s_keras_change_no_training(make_tiny, tmp_path, monkeypatch):
    trial = make_tiny()
    settings = {"floatx": "float16", "epsilon": 0.1, "image_data_format": "channels_first"}
    (tmp_path / "keras.json").write_text(json.dumps(settings | {"backend": "torch"}))
    command = [sys.executable, "-c", DRIVER, trial.model_dump_json(), str(tmp_path / "own")]
    environment = {"KERAS_HOME": str(tmp_path), "KERAS_BACKEND": "jax", "KERAS_MAX_EPOCHS": "1"}
    subprocess.run(command, env=os.environ | environment, check=True)
    trained(trial, tmp_path / "plain")
    assert losses(trial, tmp_path / "own") == losses(trial, tmp_path / "plain")


def test_result_describes_the_training(make_tiny, tmp_path):
    trial = make_tiny()
    runner.check(runner.run([trial], tmp_path, workers=1))
    result = directory.result_of(trial, tmp_path)
    assert result["metrics"]["total_params"] == 245_601
    assert result["environment"]["intra_op_threads"] == 1
    assert result["environment"]["workers"] == 1
    assert np.sum(result["confusion_matrix"]) == 60
    correct = np.trace(result["confusion_matrix"])
    assert result["metrics"]["test_accuracy"] == pytest.approx(correct / 60)
    curves = run_log.read([trial], tmp_path).curves
    assert result["metrics"]["val_loss"] == pytest.approx(curves["val_loss"].iloc[-1])
    assert result["metrics"]["seconds"] == pytest.approx(curves["seconds_per_epoch"].sum())
    leftovers = {path.name for path in (tmp_path / trial.directory).iterdir()}
    assert not leftovers & {"checkpoint.npz", "progress.json"}


def test_weight_penalty_is_told_apart_from_cross_entropy(make_tiny, tmp_path):
    few = {"train_images": 16, "validation_images": 10, "test_images": 10}
    data = make_tiny().data.model_dump() | few
    resnet = make_tiny(model={"name": "resnet", "options": {"max_pool": True}}, epochs=1, data=data)
    runner.check(runner.run([resnet], tmp_path, workers=1))
    row = run_log.read([resnet], tmp_path).curves.iloc[0]
    assert row["train_loss"] > row["train_cross_entropy"] + 0.1
    assert row["val_loss"] > row["val_cross_entropy"] + 0.1


def test_divergence_is_a_result(make_tiny, tmp_path):
    wild = make_tiny(optimizer={"name": "sgd", "learning_rate": 1e20}, model={"name": "lenet_wide"})
    runner.check(runner.run([wild], tmp_path, workers=1))
    log = run_log.read([wild], tmp_path)
    assert bool(log.done["diverged"].iloc[0])
    assert log.summary()["diverged"].iloc[0] == 1


def test_plateau_halves_the_rate_and_decay_acts_on_top(make_tiny, tmp_path):
    """With an accuracy that cannot rise, the rate halves every `patience` epochs."""
    trial = make_tiny(
        **{**DROPOUT_AND_PLATEAU, "optimizer": {"name": "sgd", "learning_rate": 1e-9}}, epochs=4
    )
    runner.check(runner.run([trial], tmp_path, workers=1))
    rates = run_log.read([trial], tmp_path).curves["learning_rate"].tolist()
    assert rates == pytest.approx([1e-9] * 4)  # already below min_lr: never reduced

    reduced = make_tiny(
        callbacks=[{"name": "reduce_lr_on_plateau", "factor": 0.5, "patience": 1}],
        optimizer={"name": "sgd", "learning_rate": 1e-7},
        epochs=4,
    )
    runner.check(runner.run([reduced], tmp_path, workers=1))
    rates = run_log.read([reduced], tmp_path).curves["learning_rate"].tolist()
    assert rates == pytest.approx([1e-7, 1e-7, 5e-8, 2.5e-8])


def test_decay_divides_the_rate_by_the_steps():
    """The formula of Keras 2, on whatever rate a plateau has left."""
    spec = {"name": "sgd", "learning_rate": 0.1, "decay": 0.5}
    optimizer = optimizers.build(Optimizer.model_validate(spec))
    weight = keras.Variable([0.0])
    optimizer.build([weight])
    expected = 0.0
    for step, rate in enumerate([0.1, 0.1, 0.1, 0.05]):
        optimizer.learning_rate = rate
        optimizer.apply([keras.ops.ones(1)], [weight])
        expected -= rate / (1 + 0.5 * step)
        assert float(weight[0]) == pytest.approx(expected)


def steps(values, gradients, rates, l2, momentum=0.0, nesterov=False) -> np.ndarray:
    """PyTorch's SGD: the decay joins the gradient before the momentum does."""
    values, velocity = np.array(values), 0.0
    for gradient, rate in zip(gradients, rates, strict=True):
        joined = gradient + l2 * values
        velocity = momentum * velocity + joined
        values = values - rate * (joined + momentum * velocity if nesterov else velocity)
    return values


@pytest.mark.parametrize(
    "settings",
    [
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "momentum": 0.9},
        {"weight_decay": 0.1, "momentum": 0.9, "nesterov": True},
        {"weight_decay": 0.1, "decay": 0.5},
        {"weight_decay": 0.0, "decay": 0.5},
        {"weight_decay": 0.0, "momentum": 0.9},
    ],
)
def test_weight_decay_joins_the_gradient_of_weights_and_biases(settings):
    layer = keras.layers.Dense(2, bias_initializer="ones")
    layer.build((None, 1))
    layer.kernel.assign([[1.0, -2.0]])
    spec = Optimizer.model_validate({"name": "sgd", "learning_rate": 0.1} | settings)
    optimizer = optimizers.build(spec)
    optimizer.build(layer.trainable_variables)
    gradients = np.array([0.5, 0.0, -1.0, 0.0])
    for gradient in gradients:
        given = [gradient * keras.ops.ones_like(one) for one in layer.trainable_variables]
        optimizer.apply(given, layer.trainable_variables)
    rates = [0.1 / (1 + spec.decay * step) for step in range(len(gradients))]
    for variable, start in ((layer.kernel, [[1.0, -2.0]]), (layer.bias, [1.0, 1.0])):
        expected = steps(start, gradients, rates, spec.weight_decay, spec.momentum, spec.nesterov)
        np.testing.assert_allclose(np.asarray(variable), expected, rtol=1e-5)


# --- trainings to a target -------------------------------------------------------------------


@pytest.mark.parametrize("monitor", ["accuracy", "val_accuracy"])
def test_training_ends_after_the_first_epoch_at_the_target(make_tiny, tmp_path, monitor):
    plain = make_tiny(epochs=5, name="plain")
    trained(plain, tmp_path)
    column = {"accuracy": "train_accuracy"}.get(monitor, monitor)
    curve = run_log.read([plain], tmp_path).curves[column]
    target = float(curve[:4].max())  # reached exactly, and not by the last epoch first
    reached = int(np.argmax(curve >= target)) + 1
    trial = make_tiny(epochs=5, **stop(target, monitor=monitor))
    metrics = trained(trial, tmp_path)["metrics"]
    log = run_log.read([trial], tmp_path)
    assert log.curves[column].tolist() == curve[:reached].tolist()
    assert (metrics["epochs"], metrics["epochs_to_target"]) == (reached, reached)
    for metric, column in [
        ("seconds_to_target", "train_seconds"),
        ("processor_seconds_to_target", "processor_seconds"),
    ]:
        assert metrics[metric] == pytest.approx(log.curves[column].sum(), rel=1e-5)
        assert log.measure("tiny", metric).tolist() == [metrics[metric]]
    assert 0 < metrics["seconds_to_target"] < metrics["seconds"], "without validation"


def test_target_that_is_not_reached_takes_for_ever(make_tiny, tmp_path):
    trial = make_tiny(epochs=2, **stop(1.0))
    metrics = trained(trial, tmp_path)["metrics"]
    names = ["epochs_to_target", "seconds_to_target", "processor_seconds_to_target"]
    assert (metrics["epochs"], [metrics[name] for name in names]) == (2, [np.inf] * 3)
    assert run_log.read([trial], tmp_path).done[names].to_numpy().tolist() == [[np.inf] * 3]


# --- trainings without progress --------------------------------------------------------------


class Stub:
    """A network of which only the end of its training is seen."""

    stop_training = False


def epochs_until_stagnant(values, patience, untrained=-np.inf) -> int | None:
    callback = stopping.StagnationStop("val_accuracy", patience)
    callback.set_model(Stub())
    callback.best = untrained
    for epoch, value in enumerate(values):
        callback.on_epoch_end(epoch, {"val_accuracy": value, "val_loss": 1.0})
        if callback.model.stop_training:
            return epoch + 1
    return None


@pytest.mark.parametrize(
    ("values", "patience", "untrained", "epochs"),
    [
        ([0.2] * 9, 1, -np.inf, 2),
        ([0.2] * 9, 3, -np.inf, 4),
        ([0.4, 0.3, 0.2, 0.1, 0.0], 2, -np.inf, 3),
        ([0.1, 0.2, 0.2, 0.3, 0.3, 0.3], 2, -np.inf, 6),
        ([0.1, 0.5, 0.2, 0.3, 0.4, 0.5], 3, -np.inf, 5),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 1, -np.inf, None),
        ([0.1, 0.1, 0.2, 0.1], 2, -np.inf, None),
        # The untrained network is the first to surpass, yet the first stop stays where it was.
        ([0.2] * 9, 3, 0.1, 4),
        ([0.2] * 9, 3, 0.2, 4),
        ([0.2, 0.3, 0.4, 0.45, 0.48], 3, 0.5, 4),
        ([0.2, 0.2, 0.6, 0.6, 0.6], 2, 0.5, 5),
        # An epoch too late to be the first stop, but one that rises.
        ([0.2, 0.2, 0.2, 0.6, 0.6, 0.6, 0.6], 3, 0.5, 7),
    ],
)
def test_stagnation_ends_a_training_after_as_many_epochs_without_a_rise(
    values, patience, untrained, epochs
):
    assert epochs_until_stagnant(values, patience, untrained) == epochs


STILL = {"optimizer": {"name": "sgd", "learning_rate": 1e-9}, "evaluate_untrained": True}


def stagnant(patience):
    return {"callbacks": [{"name": "stop_when_stagnant", "patience": patience}]}


def test_training_that_does_not_move_stops_after_patience_and_one(make_tiny, tmp_path):
    """Also where it was continued after two epochs: the count and the first value are kept."""
    whole = make_tiny(**STILL, **stagnant(3), epochs=9)
    trained(whole, tmp_path / "whole")
    fault_tools.interrupted(whole, tmp_path / "resumed", after=2)
    trained(whole, tmp_path / "resumed")
    results = [directory.result_of(whole, tmp_path / name) for name in ("whole", "resumed")]
    assert [result["resumed_at_epoch"] for result in results] == [0, 2]
    first, second = (result["metrics"] for result in results)
    assert first["epochs"] == second["epochs"] == 4
    for name in ("untrained_accuracy", "untrained_train_accuracy"):
        assert first[name] == second[name]
    assert first["untrained_accuracy"] == pytest.approx(first["best_val_accuracy"], abs=1e-6)


# --- what is measured beside the training ----------------------------------------------------

PERCEPTRON = {
    "model": {"name": "mlp", "options": {"width": 64, "dropout": 0.3}},
    "optimizer": {"name": "adam", "learning_rate": 0.01},
    "epochs": 5,
}
MEASURED = {"evaluate_untrained": True, "evaluate_train": True}


def keep(**settings):
    return {"callbacks": [{"name": "keep_best"} | settings]}


@pytest.fixture(scope="module")
def measured(tmp_path_factory, make_tiny):
    """A perceptron with dropout, plain and with all that can be measured; and their folder."""
    folder = tmp_path_factory.mktemp("{measured}")  # braces mean something to Keras
    trials = {
        "plain": make_tiny(**PERCEPTRON, name="plain"),
        "measured": make_tiny(**PERCEPTRON, **MEASURED, **keep(at_least=0.5), name="measured"),
        "unreached": make_tiny(**PERCEPTRON, **keep(at_least=1.0), name="unreached"),
        "slow": make_tiny(
            **PERCEPTRON | {"optimizer": {"name": "sgd", "learning_rate": 1e-4}, "epochs": 1},
            **MEASURED, name="slow",
        ),
        "another seed": make_tiny(
            **PERCEPTRON | {"epochs": 1}, **MEASURED, name="another", seed=2
        ),
    }  # fmt: skip
    runner.check(runner.run(list(trials.values()), folder))
    return trials, folder


def metrics_of(measured, name) -> dict:
    trials, folder = measured
    return directory.result_of(trials[name], folder)["metrics"]


def test_measuring_more_changes_nothing(measured):
    trials, folder = measured
    assert losses(trials["measured"], folder) == losses(trials["plain"], folder)
    assert losses(trials["unreached"], folder) == losses(trials["plain"], folder)
    absent = ("trained_", "target", "batch")
    plain = metrics_of(measured, "plain")
    assert not [name for name in plain if any(part in name for part in absent)]
    curves = run_log.read([trials["plain"]], folder).curves
    assert curves[["evaluated_train_accuracy", "evaluated_train_loss"]].isna().all(axis=None)


def test_untrained_network_guesses_as_its_seed_says(measured):
    names = ("untrained_accuracy", "untrained_train_accuracy")
    first, same, other = (
        [metrics_of(measured, trial)[name] for name in names]
        for trial in ("measured", "slow", "another seed")
    )
    assert first == same != other
    assert first + other == pytest.approx([1 / 5] * 4, abs=0.15)
    trials, folder = measured
    log = run_log.read([trials["measured"]], folder)
    assert [log.measure("measured", name).tolist() for name in names] == [[v] for v in first]


def test_best_weights_are_those_of_the_best_epoch(measured):
    """And the evaluation of the training images is that of the network after the epoch."""
    trials, folder = measured
    trial, metrics = trials["measured"], metrics_of(measured, "measured")
    best = metrics["best_val_accuracy_epoch"]
    assert 1 < best < trial.epochs, "else the last weights, or the first, would pass for the best"
    dataset = sets.load(trial.data, None, paths.cache())
    model = fit.build_model(trial, dataset.train.images.shape[1:], len(dataset.class_names))
    model.optimizer.build(model.trainable_variables)  # whose state is in the file as well
    model.load_weights(folder / trial.directory / directory.BEST_WEIGHTS)
    val, train = (
        model.evaluate(feed.batches(part, 50), verbose=0, return_dict=True)
        for part in (dataset.validation, dataset.train)
    )
    assert val["accuracy"] == pytest.approx(metrics["best_val_accuracy"], abs=1e-6)
    curve = run_log.read([trial], folder).curves.set_index("epoch").loc[best]
    assert val["loss"] == pytest.approx(curve["val_loss"], rel=1e-4)
    assert train["accuracy"] == pytest.approx(curve["evaluated_train_accuracy"], abs=1e-6)
    assert train["loss"] == pytest.approx(curve["evaluated_train_loss"], rel=1e-4)


def test_training_images_are_recognised_better_without_dropout(measured):
    trials, folder = measured
    log = run_log.read([trials["measured"]], folder)
    curves = log.curves
    assert (curves["evaluated_train_accuracy"] > curves["train_accuracy"]).all()
    assert (curves["evaluated_train_loss"] < curves["train_loss"]).all()
    for name in ("evaluated_train_accuracy", "evaluated_train_loss"):
        assert log.measure("measured", name).tolist() == pytest.approx([curves[name].iloc[-1]])


def test_weights_of_a_training_below_the_threshold_are_not_kept(measured):
    trials, folder = measured
    assert metrics_of(measured, "unreached")["best_val_accuracy"] < 1
    for name, kept in (("unreached", []), ("plain", []), ("measured", [directory.BEST_WEIGHTS])):
        files = (folder / trials[name].directory).iterdir()
        assert [path.name for path in files if "weights" in path.name] == kept


def test_resumed_training_has_the_best_weights_of_both_its_parts(make_tiny, tmp_path):
    changes = {"optimizer": STILL["optimizer"]} | keep()  # so that the first epoch is the best
    trial = make_tiny(**changes, epochs=2)
    run_dir = fault_tools.interrupted(trial, tmp_path, after=1)
    best = (run_dir / directory.BEST_WEIGHTS).read_bytes()
    assert trained(trial, tmp_path)["resumed_at_epoch"] == 1
    assert (run_dir / directory.BEST_WEIGHTS).read_bytes() == best


# --- shuffling -------------------------------------------------------------------------------


def orders(seed, epochs=3, images=10, batch_size=4) -> list[list[int]]:
    """The labels, one per image, as the batches of some epochs bring them."""
    labels = np.arange(images, dtype=np.int32)
    pictures = np.broadcast_to(labels[:, None, None, None], (images, 2, 2, 1)).astype(np.uint8)
    shuffling = feed.Shuffling(images, seed)
    found = []
    for epoch in range(epochs):
        shuffling.on_epoch_begin(epoch)
        batches = list(feed.batches(Part(pictures, labels, labels), batch_size, shuffling.order))
        assert [len(batch) for _, batch in batches] == [4, 4, 2]
        for shown, batch in batches:
            np.testing.assert_allclose(shown[:, 0, 0, 0] * 255, batch, rtol=1e-6)
        found.append(np.concatenate([batch for _, batch in batches]).tolist())
    return found


def test_every_epoch_has_its_own_order_which_the_seed_decides():
    first = orders(seed=3)
    assert len({tuple(order) for order in first}) == 3
    assert all(sorted(order) == list(range(10)) for order in first)
    assert first == orders(seed=3)
    assert first != orders(seed=4)


def test_shuffled_training_is_another_one_and_repeats_itself(make_tiny, tmp_path):
    plain, shuffled = make_tiny(name="plain"), make_tiny(shuffle=True)
    runner.check(runner.run([plain, shuffled], tmp_path / "one"))
    runner.check(runner.run([shuffled], tmp_path / "two"))
    assert losses(shuffled, tmp_path / "one") == losses(shuffled, tmp_path / "two")
    assert losses(shuffled, tmp_path / "one") != losses(plain, tmp_path / "one")


# --- single batches --------------------------------------------------------------------------


def test_recorded_batches_are_all_there_and_change_nothing(make_tiny, tmp_path):
    plain, recorded = make_tiny(name="plain"), make_tiny(record_batches=True)
    runner.check(runner.run([plain, recorded], tmp_path))
    assert losses(recorded, tmp_path) == losses(plain, tmp_path)
    log = run_log.read([recorded], tmp_path)
    run_dir = tmp_path / recorded.directory
    scalars = read_scalars(run_dir / BATCHES)
    assert {tag: list(values) for tag, values in scalars.items()} == {
        "batch_loss": list(range(15)), "batch_accuracy": list(range(15)),
    }  # fmt: skip
    assert not (tmp_path / plain.directory / BATCHES).exists()
    for group in ("train", "validation"):
        assert not [tag for tag in read_scalars(run_dir / group) if "batch" in tag]

    batches = run_log.batch_curves([plain, recorded], tmp_path)
    assert set(batches["trial"]) == {"tiny"}
    assert batches["batch"].tolist() == list(range(15))
    # 160 images are five full batches, so that an epoch's mean is that of its batches.
    epochs = batches.groupby(batches["batch"] // 5)
    for column, curve in [("batch_loss", "train_loss"), ("batch_accuracy", "train_accuracy")]:
        np.testing.assert_allclose(epochs[column].mean(), log.curves[curve], rtol=1e-5)
    assert (log.measure("tiny", "batch_loss_noise") > 0).all()
    assert log.measure("tiny", "batch_loss_oscillation").empty, "too few batches to tell"


WHITE = np.random.default_rng(0).normal(0, 0.3, 20_000)
# Means of 100 batches that go up and down by one: 5 of 9 steps rise.
WAVE = np.repeat(np.arange(10) % 2, 100).astype(float)


@pytest.mark.parametrize(
    ("losses", "noise", "oscillation"),
    [
        (WHITE, pytest.approx(0.3, rel=0.02), pytest.approx(0.3 / 10 / np.sqrt(np.pi), rel=0.1)),
        (WHITE + np.linspace(500, 0, 20_000), pytest.approx(0.3, rel=0.02), 0.0),
        (np.linspace(3, 1, 1000), pytest.approx(0, abs=0.002), 0.0),
        (WAVE, pytest.approx(np.sqrt(9 / 999 / 2)), pytest.approx(5 / 9)),
        # A block that is not full does not count.
        (
            np.r_[WAVE, [9.0] * 99],
            pytest.approx(np.sqrt((9 + 64) / 1098 / 2)),
            pytest.approx(5 / 9),
        ),
        (np.array([1.0, 3.0]), pytest.approx(np.sqrt(2)), None),
        (np.array([1.0, np.nan]), np.inf, None),
        (np.r_[WAVE, np.inf, 1.0], np.inf, np.inf),
        (np.array([1.0]), None, None),
    ],
)
def test_noise_is_from_batch_to_batch_and_oscillation_from_block_to_block(
    make_tiny, tmp_path, losses, noise, oscillation
):
    trial = make_tiny(**RECORDED)
    (tmp_path / trial.directory).mkdir(parents=True)
    stored = dict.fromkeys(curve_metrics.BATCH_COLUMNS, losses)
    np.savez(tmp_path / trial.directory / BATCH_FILE, **stored)
    found = curve_metrics.batch_metrics(trial, tmp_path, {"classes": 5, "val_accuracy": 1.0})
    assert found.get("batch_loss_noise") == noise
    assert found.get("batch_loss_oscillation") == oscillation


# --- test images -----------------------------------------------------------------------------


def test_mean_over_test_batches_gives_the_smaller_last_one_the_same_weight(make_tiny, tmp_path):
    trial = make_tiny(test_batch_size=32)
    metrics = trained(trial, tmp_path)["metrics"]
    predicted = np.load(tmp_path / trial.directory / PREDICTIONS)
    right = predicted == sets.load(trial.data, None, paths.cache()).test.labels
    assert metrics["test_accuracy"] == right.mean()
    expected = (right[:32].mean() + right[32:].mean()) / 2
    assert metrics["mean_batch_test_accuracy"] == pytest.approx(expected, abs=1e-12)
    assert expected != pytest.approx(right.mean(), abs=1e-6), "else this tells nothing"


def test_where_the_test_images_validate_the_last_epoch_has_their_accuracy(make_tiny, tmp_path):
    plain = make_tiny()
    trial = make_tiny(data=plain.data.model_dump() | {"validation": "test"})
    metrics = trained(trial, tmp_path)["metrics"]
    assert metrics["val_accuracy"] == pytest.approx(metrics["test_accuracy"], abs=1e-6)
    assert metrics["val_loss"] == pytest.approx(metrics["test_loss"], rel=1e-4)


def test_training_interrupted_after_its_last_epoch_still_gets_its_result(make_tiny, tmp_path):
    trial = make_tiny(**RECORDED, test_batch_size=32)
    whole, curves = trained(trial, tmp_path / "whole"), losses(trial, tmp_path / "whole")
    batches = run_log.batch_curves([trial], tmp_path / "whole")
    run_dir = fault_tools.interrupted(trial, tmp_path, after=3)
    again = trained(trial, tmp_path)
    assert (whole["resumed_at_epoch"], again["resumed_at_epoch"]) == (0, 3)
    lasting = {name: v for name, v in whole["metrics"].items() if "seconds" not in name}
    assert again["metrics"].items() >= lasting.items()
    for name in ("confusion_matrix", "layers", "data"):
        assert again[name] == whole[name]
    assert losses(trial, tmp_path) == curves
    pd.testing.assert_frame_equal(run_log.batch_curves([trial], tmp_path), batches)
    assert not (run_dir / "checkpoint.npz").exists()
