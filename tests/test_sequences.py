"""Sequences of trials, each from the weights of the one before: declared, ordered, trained."""

import itertools

import keras
import numpy as np
import pytest

from refit import paths, tries
from refit.data import sets
from refit.errors import DeclarationError
from refit.experiments import expand
from refit.experiments.trial import CarriedOver
from refit.models import networks
from refit.run_directory import directory
from refit.run_directory import log as run_log
from refit.running import runner
from refit.running.order import Expected, Schedule
from refit.study import Study
from refit.training import feed, fit

CLASSES = 5
SHAPE = (28, 28, 1)


@pytest.fixture
def make_sequence(make_tiny):
    """A function that makes trials named by letters, each carried over from the one before."""

    def make(names: str, **changes) -> list:
        sequence: list = []
        for name in names:
            trial = make_tiny(name=name, epochs=1, keep_weights=True, **changes)
            if sequence:
                before = sequence[-1]
                start = CarriedOver(trial=before.name, run=str(before.directory))
                trial = trial.model_copy(update={"carried_over": start})
            sequence.append(trial)
        return sequence

    return make


def weights(trial, folder, name=directory.FINAL_WEIGHTS) -> list[np.ndarray]:
    model = networks.build("lenet", SHAPE, CLASSES)
    model.load_weights(folder / trial.directory / name)
    return model.get_weights()


def losses(trial, folder) -> list[float]:
    return run_log.read([trial], folder).curves["train_loss"].tolist()


# --- declared --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gesture():
    return expand.load("gesture")


def sources(declaration, sweep: str, profile: str = "small") -> dict[str, str]:
    trials = expand.expand(declaration, profile, 1)
    return {
        trial.name: trial.carried_over.trial if trial.carried_over else ""
        for trial in trials
        if trial.sweep == sweep
    }


def test_every_run_starts_from_the_one_before_but_for_the_restarts(gesture):
    found = sources(gesture, "conv3d_carried")
    names = list(found)
    assert len(names) == 24
    begun = [number for number, name in enumerate(names, start=1) if not found[name]]
    assert begun == [1, 13, 22]
    for before, name in itertools.pairwise(names):
        assert found[name] in ("", before)
    one_session = sources(gesture, "conv2d_rnn_carried")
    assert [number for number, start in enumerate(one_session.values()) if not start] == [0]
    assert set(sources(gesture, "conv3d").values()) == {""}


def test_a_profile_that_leaves_runs_out_keeps_the_sequence_of_the_others(gesture):
    assert sources(gesture, "conv3d_carried", "smoke") == {
        "conv3d-carried-sgd-20-0.1": "",
        "conv3d-carried-sgd-50-0.1": "conv3d-carried-sgd-20-0.1",
    }


def test_a_run_is_another_where_any_before_it_is_another(gesture):
    one, other = (
        [t for t in expand.expand(gesture, "small", 2) if t.sweep == "conv2d_rnn_carried"][n::18]
        for n in (0, 17)
    )
    assert one[0].seed + 1 == one[1].seed
    last = other[0]
    assert last.carried_over.run.startswith("conv2d_rnn_carried/conv2d_rnn-carried-adam-50-0.15-")
    changed = last.carried_over.model_copy(update={"run": last.carried_over.run[:-1] + "x"})
    assert last.model_copy(update={"carried_over": changed}).digest != last.digest
    assert other[0].carried_over.run != other[1].carried_over.run


@pytest.mark.parametrize(
    ("text", "changed", "said"),
    [
        ("restarts: [conv3d-carried-adam-20-0.1", "restarts: [conv3d-x", "no trial 'conv3d-x'"),
        ("carry_over: {}", "carry_over: {restart: []}", "carry_over.restart"),
        (
            "name: conv3d-sgd-low,",
            "name: conv3d-sgd-low, carried_over: {trial: a},",
            "carried_over: cannot be set here",
        ),
        ("{val_accuracy:.5f}.h5", "{val_accuracy:.5f}/../x.h5", "does not give the name of a file"),
        ("{val_accuracy:.5f}.h5", "{accurcy:.5f}.h5", "in braces may stand epoch, loss, accuracy"),
    ],
)
def test_mistakes_are_named_with_their_place(tmp_path, text, changed, said):
    whole = (expand.paths.EXPERIMENTS / "gesture.yaml").read_text()
    assert text in whole
    path = tmp_path / "gesture.yaml"
    path.write_text(whole.replace(text, changed))
    with pytest.raises(DeclarationError, match=r"gesture\.yaml") as caught:
        expand.load(path)
    assert said in str(caught.value)


# --- ordered ---------------------------------------------------------------------------------


def started(schedule: Schedule) -> list[str]:
    found = []
    while begun := schedule.start():
        found.append(begun.name)
    return found


def test_what_others_wait_for_comes_first_and_these_only_when_it_has_ended(
    make_sequence, make_tiny
):
    sequence = make_sequence("abc")
    alone = [make_tiny(name=name) for name in "xy"]
    expected = dict.fromkeys(sequence, Expected(2.0, 1.0))
    expected |= {alone[0]: Expected(5.0, 1.0), alone[1]: Expected(7.0, 1.0)}
    schedule = Schedule([*sequence[::-1], *alone], expected)
    # Six seconds of a, b and c, one after another, are more than five, and less than seven.
    assert started(schedule) == ["y", "a", "x"]
    schedule.ended(alone[0])
    assert started(schedule) == []
    schedule.ended(sequence[0])
    assert started(schedule) == ["b"]
    schedule.ended(sequence[1])
    assert started(schedule) == ["c"]


def test_a_trial_whose_source_is_done_waits_for_nothing(make_sequence):
    sequence = make_sequence("ab")
    assert started(Schedule(sequence[1:], {sequence[1]: Expected(1.0, 1.0)})) == ["b"]


def test_all_that_a_trial_starts_from_is_found_in_its_order():
    study = Study.open("gesture", "full", train=False)
    last = [trial for trial in study.trials if trial.carried_over][-3:]
    chains = [study.before(trial) for trial in last]
    for chain, trial in zip(chains, last, strict=True):
        starts = [each.starts_from for each in (*chain, trial)]
        assert starts == ["", *(str(each.directory) for each in chain)]
    assert max(map(len, chains)) > 1


# --- trained ---------------------------------------------------------------------------------


def test_weights_are_carried_over_and_the_optimizer_is_new(make_sequence, make_tiny, tmp_path):
    first, second = make_sequence("ab")
    other = {"optimizer": second.optimizer.model_copy(update={"name": "sgd", "learning_rate": 0.1})}
    second = second.model_copy(update=other)
    runner.check(runner.run([second, first], tmp_path, workers=2))
    alone = make_tiny(name="alone", epochs=1)
    runner.check(runner.run([alone], tmp_path, workers=1))
    assert losses(first, tmp_path) == losses(alone, tmp_path)
    assert losses(second, tmp_path)[0] < losses(first, tmp_path)[0]
    # Tried in a folder that has none of them.
    folder = tmp_path / "tried"
    tried = tries.try_out(second, {"batch_size": 16}, [first], tmp_path / "none", folder, None)
    assert tried.metrics.set_index("metric").loc["train_loss", "b"] == losses(second, tmp_path)[0]
    assert not tried.file.exists(), "one epoch is no curve"
    # The same by hand: the weights with which the first ended, a new optimizer, one more epoch.
    keras.utils.set_random_seed(second.seed)
    dataset = sets.load(second.data, None, paths.cache())
    model = fit.build_model(second, SHAPE, CLASSES)
    model.set_weights(weights(first, tmp_path))
    history = model.fit(feed.batches(dataset.train, 32), verbose=0).history
    assert history["loss"][0] == pytest.approx(losses(second, tmp_path)[0], rel=1e-4)
    row = run_log.read([first, second], tmp_path).results.set_index("trial")["carried_over"]
    assert row["b"] == "a"
    assert row.isna()["a"]


def test_a_run_after_a_missing_one_fails_with_the_reason(make_sequence, tmp_path):
    _, second, third = make_sequence("abc")
    summary = runner.run([second, third], tmp_path, workers=1)
    assert summary.trained == 0
    reasons = [summary.failures[trial.directory.name] for trial in (second, third)]
    assert all(reason.startswith("not possible: ") for reason in reasons)
    assert "a has to be trained first" in reasons[0]
    assert "b has to be trained first" in reasons[1]


def test_the_best_model_is_kept_under_the_name_of_its_epoch(make_tiny, tmp_path):
    pattern = "model-{epoch:05d}-{loss:.5f}-{accuracy:.5f}-{val_loss:.5f}-{val_accuracy:.5f}.h5"
    kept = [{"name": "keep_best", "file": pattern}]
    trial = make_tiny(epochs=4, callbacks=kept, optimizer={"name": "adam", "learning_rate": 0.003})
    runner.check(runner.run([trial], tmp_path, workers=1))
    metrics = directory.result_of(trial, tmp_path)["metrics"]
    (path,) = (tmp_path / trial.directory).glob("*.h5")
    row = run_log.read([trial], tmp_path).curves.iloc[metrics["best_val_accuracy_epoch"] - 1]
    curves = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
    numbers = "-".join(f"{row[name]:.5f}" for name in curves)
    assert path.name == f"model-{row['epoch']:05d}-{numbers}.h5"
    results = run_log.read([trial], tmp_path).results.iloc[0]
    assert results["train_loss_at_best_val_accuracy"] == row["train_loss"]
    assert results["val_loss_at_best_val_accuracy"] == row["val_loss"]
    assert results["train_accuracy_at_best_val_accuracy"] == row["train_accuracy"]
    fall = metrics["best_val_accuracy"] - metrics["val_accuracy"]
    assert results["val_accuracy_fall"] == pytest.approx(fall, abs=1e-6)
    whole = keras.models.load_model(path)
    assert whole.count_params() == metrics["total_params"]
