"""Trials trained together on JAX: each member has the curve that it has alone."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import keras
import numpy as np
import pytest

from fault_tools import Driver
from refit import files, fused, paths
from refit.data import sets
from refit.errors import DeclarationError
from refit.experiments.trial import Trial
from refit.run_directory import directory, merging, packing, records, run_log
from refit.run_directory.directory import CHECKPOINT, PREDICTIONS, PROGRESS, RESULT
from refit.run_directory.events import event_files, read_scalars
from refit.running import timing
from refit.running.processes import GRACE
from refit.running.progress import Progress
from refit.training import checkpoint, circumstances

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="jax is not installed"
)

SGD = {"name": "sgd", "learning_rate": 0.01, "momentum": 0.9}
MLP = {"name": "mlp", "options": {"width": 24, "hidden_layers": 2}}
# Of the trainings that are interrupted while they run.
EPOCHS = 600
CNN = {"convolutions": 2, "filters": 6, "kernel_size": 3, "hidden": [16]}

GROUPS = ["mlp", "cnn", "normalized", "stopping", "stagnating", "diverging"]

TOGETHER = """
import json, sys
from pathlib import Path
from refit import fused, paths
def train(plain, folder, **options):
    facts = {"workers": 1, "git_revision": "none"}
    return fused.train_together(plain, Path(folder), None, paths.cache(), facts, **options)
def main():
    groups, folder, options = map(json.loads, sys.argv[1:])
    print(json.dumps([train(group, folder, **options) for group in groups]))
"""
MAIN = "if __name__ == '__main__':\n    main()\n"
# Of three members some have saved their second epoch when the process dies.
KILLED = """
import os, signal
from refit import storage
write, count = storage.write_checkpoint, []
def dying(*arguments):
    write(*arguments)
    count.append(arguments)
    if len(count) == {saved}:
        os.kill(os.getpid(), signal.SIGKILL)
storage.write_checkpoint = dying
"""
# In the second epoch the process is asked to end.
ASKED = """
import os, signal
from refit import fused_program
epoch, count = fused_program.Program.epoch, []
def asked(*arguments):
    count.append(arguments)
    if len(count) == 2:
        os.kill(os.getpid(), signal.SIGTERM)
    return epoch(*arguments)
fused_program.Program.epoch = asked
"""
# More than two members get no memory, in their second epoch.
STARVED = """
from refit import fused_program
epoch, tried = fused_program.Program.epoch, []
class XlaRuntimeError(RuntimeError):
    pass
def starving(self, state, own, order, images):
    tried.append(len(order))
    if len(order) > 2 and tried.count(len(order)) == 2:
        raise XlaRuntimeError("RESOURCE_EXHAUSTED: no memory")
    return epoch(self, state, own, order, images)
fused_program.Program.epoch = starving
"""
# A computer with hardly any memory.
SMALL = """
from refit import fused_group
fused_group.HOST_SHARE = 1e-6
"""
RUN = """
import json, signal, sys
from pathlib import Path
from refit import fused
from refit.experiments.trial import Trial
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
    plain, folder, options = map(json.loads, sys.argv[1:])
    trials = [Trial.model_validate(one) for one in plain]
    facts = {"git_revision": "none"}
    print("begun", flush=True)
    try:
        left, notes = fused.run_first(trials, Path(folder), None, facts, 2, 100.0, **options)
    except KeyboardInterrupt:
        sys.exit(130)
    print(json.dumps([[trial.name for trial in left], notes]))
"""
ONE_BY_ONE = """
import json, sys
from pathlib import Path
from refit import runner
from refit.experiments.trial import Trial
if __name__ == "__main__":
    plain, folder = map(json.loads, sys.argv[1:])
    trials = [Trial.model_validate(one) for one in plain]
    print(json.dumps(runner.run(trials, Path(folder), workers=2, describe=False).failures))
"""
# Keras's own `fit`, and nothing of what trains a group.
ALONE = """
import json, math, random, sys
import keras
import numpy as np
from refit import data, models, optimizers, paths
from refit.training.callbacks import BestWeights, build
from refit.experiments.trial import Trial

class Ordered(keras.utils.PyDataset):
    def __init__(self, part, trial):
        super().__init__()
        self.images = np.asarray(part.images).astype(np.float32) / np.float32(255)
        self.labels, self.trial, self.epoch = part.labels, trial, 0
        self.draw()
    def draw(self):
        self.order = np.arange(len(self.labels))
        if self.trial.shuffle:
            generator = np.random.default_rng([self.trial.seed, self.epoch])
            self.order = generator.permutation(len(self.labels))
    def __len__(self):
        return math.ceil(len(self.labels) / self.trial.batch_size)
    def __getitem__(self, number):
        size = self.trial.batch_size
        chosen = self.order[number * size : (number + 1) * size]
        return self.images[chosen], self.labels[chosen]

class Epochs(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.images.epoch = epoch + 1
        self.model.images.draw()

def fit(trial):
    dataset = data.load(trial.data, None, paths.cache())
    random.seed(trial.seed)
    np.random.seed(trial.seed)
    shape = dataset.train.images.shape[1:]
    model = models.build(
        trial.model.name, shape, len(dataset.class_names), **trial.model.options
    )
    model.compile(
        optimizers.build(trial.optimizer), loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    model.images = Ordered(dataset.train, trial)
    # What keeps a file has no say in the training.
    used = [c for c in build(trial.callbacks, None) if not isinstance(c, BestWeights)]
    validation = np.asarray(dataset.validation.images).astype(np.float32) / np.float32(255)
    if trial.evaluate_untrained:
        untrained = model.evaluate(validation, dataset.validation.labels, verbose=0)[1]
        for callback in used:
            callback.best = untrained
    found = model.fit(
        model.images, validation_data=(validation, dataset.validation.labels), verbose=0,
        epochs=trial.epochs, shuffle=False, callbacks=[*used, Epochs()],
    )
    return found.history
if __name__ == "__main__":
    print(json.dumps([fit(Trial.model_validate(plain)) for plain in json.loads(sys.argv[1])]))
"""


def on_jax(script: str, *arguments: object, fails: bool = False) -> list:
    """What a script prints that runs on JAX, as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", script, *map(json.dumps, arguments)],
        env=os.environ | {"KERAS_BACKEND": "jax", "PJRT_NPROC": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode != 0) == fails, done.stderr
    return json.loads(done.stdout.splitlines()[-1]) if done.stdout else []


def together(groups: list[list[Trial]], folder: Path, patch: str = "", **options) -> list:
    """Train groups in one process; returns how each of their members ended."""
    fails = options.pop("fails", False)
    plain = [[trial.model_dump(mode="json") for trial in group] for group in groups]
    return on_jax(TOGETHER + patch + MAIN, plain, str(folder), options, fails=fails)


def curves(trial: Trial, folder: Path) -> dict[str, list[float]]:
    """The curves in the event files, by the names that Keras gives them."""
    run_dir, found = folder / trial.directory, {}
    for group, prefix in (("train", ""), ("validation", "val_")):
        for tag, steps in read_scalars(run_dir / group).items():
            assert list(steps) == list(range(len(steps)))
            found[prefix + tag.removeprefix("epoch_")] = list(steps.values())
    return found


def without_times(trial: Trial, folder: Path) -> dict[str, list[float]]:
    return {name: v for name, v in curves(trial, folder).items() if "seconds" not in name}


@pytest.fixture(scope="module")
def groups(make_tiny) -> dict[str, list[Trial]]:
    """Groups of all kinds, by their names."""

    def members(name: str, changes: list[dict], **common) -> list[Trial]:
        return [
            make_tiny(**{"name": f"{name}{n}", "seed": n, "shuffle": True} | common | change)
            for n, change in enumerate(changes)
        ]

    def cnn(**options) -> dict:
        return {"model": {"name": "cifar_cnn", "options": CNN | options}}

    def mlp(dropout: float, **optimizer) -> dict:
        model = {"name": "mlp", "options": MLP["options"] | {"dropout": dropout}}
        return {"model": model, "optimizer": SGD | optimizer}

    plateau = {"name": "reduce_lr_on_plateau", "factor": 0.5, "patience": 1}
    target = {"name": "stop_at_target", "target": 0.5}
    stagnant = {"name": "stop_when_stagnant", "patience": 2}
    return {
        "mlp": members(
            "mlp",
            [
                mlp(0.1, weight_decay=1e-3, decay=1e-3),
                mlp(0.1, weight_decay=2e-3, decay=1e-2, momentum=0.5),
                mlp(0.4, weight_decay=1e-3, decay=1e-3, learning_rate=0.05),
            ],
        ),
        "cnn": members(
            "cnn",
            [cnn(dropout=0.2), cnn(dropout=0.5) | {"optimizer": SGD | {"learning_rate": 0.02}}],
            optimizer=SGD,
            callbacks=[plateau],
        ),
        "normalized": members(
            "normalized",
            [cnn(batch_normalization=True), cnn(batch_normalization=True)],
            optimizer={"name": "adam", "learning_rate": 1e-3},
            batch_size=48,
            shuffle=False,
            evaluate_train=True,
            evaluate_untrained=True,
            callbacks=[{"name": "keep_best", "file": "model-{epoch:02d}-{val_loss:.3f}.h5"}],
        ),
        "stopping": members(
            "stopping",
            [{"optimizer": SGD | {"learning_rate": rate}} for rate in (1e-5, 0.05, 0.02)],
            model=MLP,
            epochs=6,
            callbacks=[target],
        ),
        "stagnating": members(
            "stagnating",
            [{"optimizer": SGD | {"learning_rate": rate}} for rate in (1e-6, 0.05, 0.01)],
            model=MLP,
            epochs=8,
            evaluate_untrained=True,
            callbacks=[stagnant, {"name": "keep_best", "at_least": 0.3}],
        ),
        "diverging": members(
            "diverging",
            [{"optimizer": SGD | {"learning_rate": rate}} for rate in (0.01, 1e20, 0.02)],
            model=MLP,
        ),
    }


@pytest.fixture(scope="module")
def trained(groups, tmp_path_factory) -> Path:
    """The folder with all groups trained."""
    folder = tmp_path_factory.mktemp("together")
    found = together(list(groups.values()), folder, convolution="patches")
    assert {tuple(one) for told in found for one in told} == {("", "", "")}, found
    return folder


@pytest.fixture(scope="module")
def alone(groups) -> dict[str, dict[str, list[float]]]:
    """The histories of all members, each trained by Keras's `fit`."""
    trials = [trial for group in groups.values() for trial in group]
    found = on_jax(ALONE, [trial.model_dump(mode="json") for trial in trials])
    return {trial.name: history for trial, history in zip(trials, found, strict=True)}


@pytest.mark.parametrize("name", GROUPS)
def test_every_member_has_the_curve_that_it_has_alone(name, groups, trained, alone):
    assert fused.groups(groups[name]) == [groups[name]]
    for trial in groups[name]:
        mine, other = curves(trial, trained), alone[trial.name]
        epochs = len(mine["loss"])
        if np.isfinite(other["loss"]).all():
            assert len(other["loss"]) == epochs
        for measure in ("loss", "accuracy", "val_loss", "val_accuracy"):
            np.testing.assert_allclose(mine[measure], other[measure][:epochs], 1e-4, 1e-4)
    losses = [tuple(curves(trial, trained)["loss"]) for trial in groups[name]]
    assert len(set(losses)) == len(losses)


def test_in_bfloat16_every_member_has_nearly_the_curve_that_it_has_alone(make_tiny, tmp_path):
    """Sums in another order differ by as much as they are rounded, 2^-8; 1e-3 was measured."""
    half = {"precision": "bfloat16", "shuffle": True}
    options = CNN | {"batch_normalization": True}
    grouped, single = tmp_path / "together", tmp_path / "alone"
    trials = [
        make_tiny(name=f"cnn{n}", seed=n, optimizer=SGD, model=model, **half)
        for n, dropout in enumerate((0.2, 0.5))
        for model in [{"name": "cifar_cnn", "options": options | {"dropout": dropout}}]
    ]
    assert together([trials], grouped) == [[["", "", ""]] * 2]
    plain = [make_tiny(**trials[-1].model_dump() | {"precision": "float32"})]
    told = on_jax(ONE_BY_ONE, [t.model_dump(mode="json") for t in trials + plain], str(single))
    assert told == {}
    for trial in trials:
        mine, other = without_times(trial, grouped), without_times(trial, single)
        for measure in ("loss", "val_loss"):
            np.testing.assert_allclose(mine[measure], other[measure], 2**-8)
        result = directory.result_of(trial, grouped)
        assert result["trial"]["precision"] == "bfloat16"
        assert "precision" not in result["fused"]
    assert curves(plain[0], single)["loss"] != curves(trials[-1], single)["loss"]


def test_rates_fall_as_the_callback_says(groups, trained, alone):
    rates = [curves(trial, trained)["learning_rate"] for trial in groups["cnn"]]
    expected = [alone[trial.name]["learning_rate"] for trial in groups["cnn"]]
    np.testing.assert_allclose(rates, expected, 1e-6)
    assert rates[0][-1] < rates[0][0]


def test_one_that_reaches_its_target_stops_and_the_others_go_on(groups, trained):
    epochs = [directory.result_of(t, trained)["metrics"]["epochs"] for t in groups["stopping"]]
    assert epochs[1] < epochs[2] < epochs[0] == 6


def test_those_that_stagnate_stop_after_what_they_had_untrained(groups, trained, alone):
    group = groups["stagnating"]
    epochs = [directory.result_of(trial, trained)["metrics"]["epochs"] for trial in group]
    assert epochs == [len(alone[trial.name]["loss"]) for trial in group]
    assert len(set(epochs)) == 3
    assert min(epochs) == 3, "as early as it may"


def test_one_that_diverges_stops_and_says_so(groups, trained):
    metrics = [directory.result_of(t, trained)["metrics"] for t in groups["diverging"]]
    assert [found["diverged"] for found in metrics] == [False, True, False]
    assert metrics[1]["epochs"] < 3


def test_a_result_has_all_but_times_of_its_own(groups, trained, make_tiny):
    for trial in groups["normalized"]:
        result = directory.result_of(trial, trained)
        metrics = result["metrics"]
        assert {"untrained_accuracy", "evaluated_train_accuracy", "test_accuracy"} <= set(metrics)
        times = [value for name, value in metrics.items() if "seconds" in name]
        assert len(times) == 5
        assert np.isnan(times).all()
        told = result["fused"]
        assert told["members"] == 2
        shares = curves(trial, trained)["share_seconds"]
        assert told["seconds"] == pytest.approx(sum(shares), 1e-5)
        assert told["seconds_per_epoch"] == pytest.approx(np.median(shares[1:]), 1e-5)
        assert result["environment"]["backend"] == "jax"
        assert (trained / trial.directory / PREDICTIONS).exists()
        assert files.read_object(trained / trial.directory / "trial.json")["seed"] == trial.seed
        found = curves(trial, trained)
        assert {"learning_rate", "seconds", "share_seconds", "evaluated_loss"} <= set(found)
        best = int(np.argmax(found["val_accuracy"]))
        name = f"model-{best + 1:02d}-{found['val_loss'][best]:.3f}.h5"
        assert name in result["files"]
        assert len(result["files"]) == 4
        kept = keras.models.load_model(trained / trial.directory / name, compile=False)
        part = sets.load(trial.data, None, paths.cache()).validation
        images = np.asarray(part.images).astype(np.float32) / 255
        right = kept.predict(images, verbose=0).argmax(axis=1) == part.labels
        assert right.mean() == pytest.approx(found["val_accuracy"][best], abs=1e-6)


def check_gone_on(group: list[Trial], folder: Path, trained: Path, at: list[int]) -> None:
    """That members have gone on at some epochs, and have each epoch of an undisturbed one once."""
    tolerance = 0 if len(set(at)) == 1 else 1e-5  # in pieces, sums are of another order
    for trial, epoch in zip(group, at, strict=True):
        assert directory.result_of(trial, folder)["resumed_at_epoch"] == epoch
        expected = without_times(trial, trained)
        for name, values in without_times(trial, folder).items():
            np.testing.assert_allclose(values, expected[name], tolerance, tolerance)
        assert len(curves(trial, folder)["share_seconds"]) == len(expected["loss"])
        files = event_files(folder / trial.directory / "train")
        steps = Counter(len(list(records.read(path))) for path in files)
        assert sum(n * (count - 1) for count, n in steps.items()) == len(expected["loss"])
        assert not (folder / trial.directory / CHECKPOINT).exists()


@pytest.mark.parametrize(("saved", "at"), [(6, [2, 2, 2]), (4, [2, 1, 1])])
def test_a_killed_group_goes_on_with_the_same_curves(saved, at, groups, trained, tmp_path):
    group = groups["mlp"]
    together([group], tmp_path, KILLED.format(saved=saved), save_seconds=0, fails=True)
    assert not list(tmp_path.rglob(RESULT))
    assert together([group], tmp_path) == [[["", "", ""]] * 3]
    check_gone_on(group, tmp_path, trained, at)


def test_a_damaged_checkpoint_costs_its_member_what_was_done(groups, trained, tmp_path):
    group = groups["mlp"]
    together([group], tmp_path, ASKED)
    path = tmp_path / group[0].directory / CHECKPOINT
    state, variables = checkpoint.read_checkpoint(path)
    assert len(state["history"]) == 2
    checkpoint.write_checkpoint(path, state, variables[1:])
    cut = tmp_path / group[1].directory / CHECKPOINT
    cut.write_bytes(cut.read_bytes()[:-100])
    assert together([group], tmp_path) == [[["", "", ""]] * 3]
    check_gone_on(group, tmp_path, trained, [0, 0, 2])


def test_what_was_begun_otherwise_begins_anew(groups, trained, tmp_path):
    """With other convolutions, or alone on another backend; its curves do not stay either."""
    group = groups["mlp"]
    together([group], tmp_path, ASKED, convolution="native")
    alone = tmp_path / group[0].directory / CHECKPOINT
    state, variables = checkpoint.read_checkpoint(alone)
    del state["circumstances"]
    checkpoint.write_checkpoint(alone, state, variables)
    assert together([group], tmp_path) == [[["", "", ""]] * 3]
    check_gone_on(group, tmp_path, trained, [0, 0, 0])
    assert (tmp_path / group[0].directory / "train.damaged1").is_dir()


def test_a_group_that_is_interrupted_saves_what_it_has_done(groups, tmp_path):
    group = [trial.model_copy(update={"epochs": EPOCHS}) for trial in groups["mlp"]]
    here, there = tmp_path / "here", tmp_path / "there"
    plain = json.dumps([trial.model_dump(mode="json") for trial in group])
    words = [plain, json.dumps(str(here)), json.dumps({"save_seconds": 1000})]
    driver = Driver([sys.executable, "-c", RUN, *words], {"KERAS_BACKEND": "jax"})
    told = [here / trial.directory / PROGRESS for trial in group]
    while driver.poll() is None and not all(path.exists() for path in told):
        time.sleep(0.05)
    time.sleep(0.5)  # for some epochs
    driver.interrupt()
    driver.interrupt()
    began = time.monotonic()
    driver.told(60)
    assert driver.returncode == 130
    assert time.monotonic() - began < GRACE
    epochs = {checkpoint.saved_epochs(here / trial.directory / CHECKPOINT) for trial in group}
    assert len(epochs) == 1
    (epoch,) = epochs
    assert 1 < epoch < EPOCHS
    assert on_jax(RUN, *map(json.loads, words)) == [[], {}]
    assert together([group], there) == [[["", "", ""]] * 3]
    check_gone_on(group, here, there, [epoch] * 3)


def test_one_whose_others_are_done_goes_on_as_it_was(groups, trained, tmp_path):
    group = groups["mlp"]
    together([group], tmp_path, ASKED)
    shutil.rmtree(tmp_path / group[0].directory)
    shutil.copytree(trained / group[0].directory, tmp_path / group[0].directory)
    shutil.rmtree(tmp_path / group[1].directory)
    left = [group[2].model_dump(mode="json")]
    assert on_jax(RUN, left, str(tmp_path), {}) == [[], {}]
    assert directory.result_of(group[2], tmp_path)["resumed_at_epoch"] == 2


def test_a_group_goes_on_where_it_was_carried_to(groups, trained, tmp_path, monkeypatch):
    group = groups["mlp"]
    places = [tmp_path / name / "smoke" / "fmnist_zoo" for name in ("here", "there")]
    together([group], places[0], ASKED)
    monkeypatch.setenv("REFIT_RUNS", str(tmp_path / "here"))
    told = packing.pack(tmp_path / "p.zip", ["fmnist_zoo"], "smoke", unfinished=True)
    assert "0 finished and 3 unfinished trials" in told[-1]
    monkeypatch.setenv("REFIT_RUNS", str(tmp_path / "there"))
    assert merging.merge([tmp_path / "p.zip"])[-1].endswith("3 to be gone on with")
    assert together([group], places[1]) == [[["", "", ""]] * 3]
    check_gone_on(group, places[1], trained, [2, 2, 2])


def test_times_of_a_group_are_shares_and_no_measure(groups, trained, tmp_path):
    group = groups["mlp"]
    log = run_log.read(group, trained)
    shares = [directory.result_of(trial, trained)["fused"]["seconds"] for trial in group]
    assert log.seconds == pytest.approx(sum(shares))
    log.save(tmp_path)
    assert run_log.read_csv(tmp_path).seconds == pytest.approx(sum(shares))
    assert log.measure(group[0].name, "total_seconds").empty
    assert np.isnan(timing.Times(trained).seconds(group[0], 160))
    with Progress(3, dict.fromkeys(group, 1.0), tmp_path) as progress:
        shutil.copytree(trained / group[0].directory, tmp_path / group[0].directory)
        progress.finished(group[0], "")
    said = f"after {shares[0]:.1f} s, its share of a group's time (1 of 3 trials done)"
    assert said in (tmp_path / "progress.log").read_text()


@pytest.mark.parametrize(("patch", "epoch"), [(STARVED, 1), (SMALL, 0)], ids=["tried", "known"])
def test_a_group_without_memory_is_cut(patch, epoch, groups, trained, tmp_path):
    group = groups["mlp"]
    assert together([group], tmp_path, patch, save_seconds=0) == [[["", "", ""]] * 3]
    for trial in group:
        result = directory.result_of(trial, tmp_path)
        assert result["fused"]["members"] == 1
        assert result["resumed_at_epoch"] == epoch
        for name, values in without_times(trial, trained).items():
            np.testing.assert_allclose(without_times(trial, tmp_path)[name], values, 1e-5, 1e-5)


def test_convolutions_mapped_as_they_are_give_the_same(groups, trained, tmp_path):
    group = groups["normalized"]
    assert together([group], tmp_path, convolution="native", members=1) == [[["", "", ""]] * 2]
    for trial in group:
        for name, values in without_times(trial, trained).items():
            np.testing.assert_allclose(without_times(trial, tmp_path)[name], values, 1e-4, 1e-4)


def test_what_cannot_be_trained_together_says_why(make_tiny, tmp_path, monkeypatch):
    plain = make_tiny(name="a")
    batches = make_tiny(name="b", record_batches=True)
    search = make_tiny(name="c", model={"name": "autokeras", "options": {"candidates": 1}})
    others = [
        make_tiny(name="d", epochs=4),
        make_tiny(name="e", model={"name": "cnn", "options": {"last_dropout": 0.0}}),
        make_tiny(name="f", model={"name": "cnn", "options": {"last_dropout": 0.1}}),
        make_tiny(name="g", model={"name": "cnn", "options": {"last_dropout": 0.2}}),
    ]
    twin = make_tiny(name="h", seed=5, optimizer={"name": "adam", "learning_rate": 0.1})
    found = fused.groups([plain, batches, search, *others, twin])
    assert [[trial.name for trial in group] for group in found] == [
        ["a", "h"], ["b"], ["c"], ["d"], ["e"], ["f", "g"]
    ]  # fmt: skip
    assert fused.why_alone(batches) == "it records every batch"
    assert fused.why_alone(search) == "a search trains many networks"
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert not fused.why_alone(plain, tmp_path)
    for backend, one_by_one, reason in (
        ("jax", True, "it was begun alone"), ("jax", False, ""), ("tensorflow", True, ""),
    ):  # fmt: skip
        made = circumstances.under(backend, not one_by_one)
        state = {"history": [{}], "circumstances": made}
        checkpoint.write_checkpoint(tmp_path / plain.directory / CHECKPOINT, state, [])
        assert fused.why_alone(plain, tmp_path) == reason


def test_groups_are_made_on_jax_only(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    assert not fused.used("auto")
    assert not fused.used("never")
    with pytest.raises(DeclarationError, match="fused is 'always', but KERAS_BACKEND is 'tens"):
        fused.used("always")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert fused.used("always")
    assert not fused.used("never")
    with pytest.raises(DeclarationError, match="fused is 'perhaps'; known: auto, always, never"):
        fused.used("perhaps")


@pytest.mark.parametrize(
    ("variable", "value"),
    [("CUDA_VISIBLE_DEVICES", ""), ("CUDA_VISIBLE_DEVICES", "-1"), ("JAX_PLATFORMS", "cpu")],
)
def test_a_gpu_that_is_hidden_is_none(variable, value, monkeypatch):
    for name in ("CUDA_VISIBLE_DEVICES", "JAX_PLATFORMS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setattr(Path, "glob", lambda folder, pattern: iter([folder / "nvidia0"]))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    assert fused.used("auto")
    assert fused.at_once(None, 16) == fused.GPU_GROUPS
    assert fused.at_once(None, 2) == 2
    assert fused.at_once(7, 7) == 7
    monkeypatch.setenv(variable, value)
    assert not fused.used("auto")
    assert fused.at_once(None, 16) == 16


def test_a_failure_is_told_for_every_member(groups, tmp_path):
    told = together([groups["mlp"]], tmp_path, convolution="guessed")
    assert [one[0] for one in told[0]] == ["bad declaration"] * 3
    assert "convolution is 'guessed'; known: native, patches" in told[0][0][1]
    mixed = [*groups["mlp"], *groups["cnn"]]
    assert "differ in more than numbers" in together([mixed], tmp_path)[0][4][1]


def test_groups_are_trained_before_what_goes_one_by_one(groups, trained, make_tiny, tmp_path):
    single = make_tiny(name="single", record_batches=True)
    trials = [*groups["mlp"], single, *groups["diverging"]]
    found = on_jax(RUN, [trial.model_dump(mode="json") for trial in trials], str(tmp_path), {})
    assert found == [["single"], {}]
    for trial in groups["mlp"]:
        assert without_times(trial, tmp_path) == without_times(trial, trained)
