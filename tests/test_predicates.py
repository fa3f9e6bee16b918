"""A predicate becomes one number per replicate and the interval in which the claim wants it."""

import math
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from pydantic import TypeAdapter, ValidationError

from log_tools import EPOCHS, confused_log, grid_log, log_of
from refit.experiments import expand, predicates
from refit.experiments.predicates import Claim, Selection
from refit.verdicts.contrasts import evaluate

CLAIM = {
    "id": "C1", "weight": "detail", "quote": "it is so", "place": "page 1", "by": "stated",
    "statement": "It is so.",
}  # fmt: skip
HOLDS = {"is": "value", "metric": "val_accuracy", "trial": "a", "low": 0.5}
NEED = {"needs": "size", "why": "The report gives no number."}


def contrast(log, **predicate):
    """What a predicate measures: its contrast."""
    content = {"metric": "val_accuracy"} | predicate
    return evaluate(TypeAdapter(predicates.AnyPredicate).validate_python(content), log)


def numbers(log, **predicate):
    """The numbers of the replicates, and the interval in which they are wanted."""
    found = contrast(log, **predicate)
    assert found.trials
    assert found.metric
    return found.values.to_dict(), found.low, found.high


def test_a_value_has_a_number_per_seed():
    log = log_of(trials={"a": [0.25, 0.5], "b": [0.75]})
    wanted = numbers(log, **{"is": "value", "trial": "a", "low": 0.1, "high": 0.9})
    assert wanted == ({0: 0.25, 1: 0.5}, 0.1, 0.9)
    assert numbers(log, **{"is": "value", "trial": "b", "low": 0.1})[2] == math.inf
    assert contrast(log, **{"is": "value", "trial": "nobody", "low": 0}).values.empty


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 0.5),
        ({"statistic": "max"}, 1.0),
        ({"statistic": "min", "epochs": [2, 3]}, 0.6),
        ({"statistic": "mean", "epochs": [2, 3]}, 0.7),
        ({"epochs": [3, 3]}, 0.6),
        ({"statistic": "largest_rise"}, 0.3),
        ({"statistic": "largest_rise", "epochs": [1, 3]}, -0.2),
        # The line through 0.8, 0.6, 0.9 rises by 0.1 in all.
        ({"statistic": "change", "epochs": [2, 4]}, 0.1),
        ({"inside": [0.6, 0.8]}, 0.4),
        ({"inside": [0.6, 0.8], "epochs": [2, 3]}, 1.0),
    ],
)
def test_a_value_can_be_read_from_part_of_a_curve(changes, expected):
    curve = [1.0, 0.8, 0.6, 0.9, 0.5]
    log = log_of(trials={"a": [curve, curve[:2]]})
    found = contrast(log, **{"is": "value", "trial": "a", "low": 0} | changes).values
    if "epochs" in changes and changes["epochs"][1] > 2:
        assert len(found) == 1, "the seed that ended before is left out"
    elif "epochs" not in changes:
        assert len(found) == 2, "of a curve as a whole none is"
    assert found[0] == pytest.approx(expected)


def test_a_curve_that_diverges_rises_without_end_and_a_flat_one_not_at_all():
    lost = np.r_[np.linspace(1, 0.4, 5), [math.nan] * 5]
    log = log_of("val_loss", {"a": [lost], "b": [np.full(EPOCHS, 0.2)]})
    for statistic in ("change", "largest_rise"):
        shape = {"is": "value", "metric": "val_loss", "statistic": statistic, "low": 0}
        assert contrast(log, **shape, trial="a").values[0] == math.inf
        assert contrast(log, **shape, trial="b").values[0] == 0


def test_comparisons_are_paired_by_seed():
    log = log_of(trials={"a": [0.5, 0.75, 0.5], "b": [0.25, 0.25]})
    sides = {"a": "a", "b": "b"}
    assert numbers(log, **{"is": "difference", "low": 0} | sides)[0] == {0: 0.25, 1: 0.5}
    assert numbers(log, **{"is": "ratio", "low": 1} | sides)[0] == {0: 2, 1: 3}
    assert contrast(log, **{"is": "difference", "low": 0} | sides).strict, "equal is not more"
    both = {"is": "difference", "low": -0.1, "high": 0.1} | sides
    assert not contrast(log, **both).strict


def test_a_diverged_loss_is_above_every_other_and_two_cannot_be_compared():
    log = log_of("val_loss", {"a": [math.nan, math.nan], "b": [0.5, math.nan]})
    difference = {"is": "difference", "metric": "val_loss", "a": "a", "b": "b", "low": 0}
    assert numbers(log, **difference)[0] == {0: math.inf}


def test_a_loss_that_only_other_trials_have_is_missing_not_infinite():
    log = log_of(trials={"a": [0.5], "b": [0.5]})
    log.results["evaluated_train_loss"] = [0.25, math.nan]
    value = {"is": "value", "metric": "evaluated_train_loss", "low": 0}
    assert contrast(log, **value, trial="a").values.tolist() == [0.25]
    assert contrast(log, **value, trial="b").values.empty


def test_a_gap_is_compared_with_a_gap():
    log = log_of(trials={"a": [0.9], "b": [0.8], "c": [0.7], "d": [0.1]})
    gaps = {"a": {"of": "c", "over": "d"}, "b": {"of": "a", "over": {"trials": ["b"]}}}
    found = contrast(log, **{"is": "difference", "low": 0} | gaps)
    assert found.values[0] == pytest.approx(0.5)
    assert set(found.trials) == set("abcd")
    assert "(c − d)" in found.label


# Test accuracies per seed; over all seeds a is the best, and in the first two seeds b.
SCORED = {"a": [0.1, 0.2, 0.9], "b": [0.3, 0.3, 0.1]}


def selected(log, metric="test_accuracy", **changes):
    return log.measure(Selection.model_validate({"sweep": "s"} | changes), metric).to_dict()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"take": "max"}, {0: 0.3, 1: 0.3, 2: 0.9}),
        ({"take": "min"}, {0: 0.1, 1: 0.2, 2: 0.1}),
        ({"take": "max", "without": ["b"]}, {0: 0.1, 1: 0.2, 2: 0.9}),
        ({"take": "max", "trials": ["b"], "sweep": None}, {0: 0.3, 1: 0.3, 2: 0.1}),
        ({"take": "max", "where": {"batch_size": [64]}}, {0: 0.3, 1: 0.3, 2: 0.1}),
        # Chosen by the mean of the other seeds: b against a is .2 to .55, .2 to .5, .3 to .15.
        ({"take": "best"}, {0: 0.1, 1: 0.2, 2: 0.1}),
        ({"take": "best", "smallest": True}, {0: 0.3, 1: 0.3, 2: 0.9}),
        ({"take": "of_best"}, {0: 0.1, 1: 0.3, 2: 0.1}),
        ({"take": "of_best", "by": "test_accuracy"}, {0: 0.3, 1: 0.3, 2: 0.9}),
        ({"sweep": "elsewhere"}, {}),
    ],
)
def test_selections_give_a_number_per_seed(changes, expected):
    log = log_of("test_accuracy", SCORED, batch_size={"a": 32, "b": 64})
    log.results["best_val_accuracy"] = [0.9, 0.1, 0.2, 0.5, 0.5, 0.5]
    assert selected(log, **changes) == expected


def test_the_best_of_equal_trials_has_no_luck_in_it():
    """The highest of twenty lies far above their mean, the best by the other seeds does not."""
    noise = np.random.default_rng(1).normal(size=(20, 40))
    log = log_of("test_accuracy", {f"t{i}": list(row) for i, row in enumerate(noise)})
    highest, best = (pd.Series(selected(log, take=take)).mean() for take in ("max", "best"))
    assert highest > 1.5
    assert abs(best) < 0.5


def test_selections_need_all_trials_of_a_seed_and_the_best_two_seeds():
    log = log_of("test_accuracy", SCORED)
    log.results["status"] = ["done"] * 4 + ["missing", "done"]
    assert list(selected(log, take="max")) == [0, 2]
    log = log_of("test_accuracy", {name: values[:1] for name, values in SCORED.items()})
    assert selected(log, take="best") == {}
    assert selected(log, take="of_best", by="seconds") == {}


@pytest.mark.parametrize("take", ["max", "mean", "best"])
def test_repetitions_take_part_in_selections(take):
    """`b` is a repetition, so its seeds lie 10,000 above those of `a`."""
    log = log_of("test_accuracy", SCORED)
    log.results["seed"] = [0, 1, 2, 10_000, 10_001, 10_002]
    assert len(selected(log, take=take)) == 3


X_EFFECT = {"is": "effect", "sweep": "s", "axis": "model.x", "a": 2, "b": 1, "low": 0}
GRID = {(1, 1): [0.5], (2, 1): [0.75], (1, 2): [0.25], (2, 2): [1.0]}


@pytest.mark.parametrize(
    ("points", "changes", "expected"),
    [
        (GRID, {}, [0.25, 0.75]),
        (GRID, {"a": 1, "b": 2}, [-0.25, -0.75]),
        (GRID, {"axis": "model.y"}, [-0.25, 0.25]),
        # Of a list of levels the mean counts; where one is not declared, that of the others.
        (GRID | {(3, 1): [0.25]}, {"a": [2, 3]}, [0.0, 0.75]),
        # A trial without its counterpart does not count.
        (GRID | {(2, 4): [-9.0], (1, 5): [9.0]}, {}, [0.25, 0.75]),
        # Seeds are averaged within a pair.
        ({(1, 1): [0.5, 0.5], (2, 1): [1.0, 0.25]}, {}, [0.125]),
        ({(1, 1): [math.inf], (2, 1): [math.inf]}, {}, []),
        ({(1, 1): [0.5], (2, 2): [0.5]}, {}, []),
    ],
)
def test_an_effect_has_a_number_per_matched_pair(points, changes, expected):
    found = contrast(grid_log("val_accuracy", points), **X_EFFECT | changes)
    assert sorted(found.values, key=abs) == expected
    assert (found.unit, found.strict) == ("matched pair", True)


@pytest.mark.parametrize(
    ("axis", "side", "said"),
    [
        ("model.kernel2", 3, "kernel 2 of 3"),
        ("model.filters1", [16, 32], "filters 1 of 16 or 32"),
        ("optimizer.learning_rate", 0.01, "learning rate of 0.01"),
        ("batch_size", 8, "batch size of 8"),
        ("model.initializer", "he_uniform", "initializer of he_uniform"),
    ],
)
def test_the_sides_of_an_effect_are_settings_in_words(axis, side, said):
    effect = X_EFFECT | {"axis": axis, "a": side}
    assert contrast(grid_log("val_accuracy", GRID), **effect).sides[0] == said


def test_pairs_differ_in_nothing_else_but_declared_repetitions():
    log = grid_log("val_accuracy", GRID)
    log.results["batch_size"] = log.results["model.x"] * 8
    assert contrast(log, **X_EFFECT).values.empty
    log = grid_log("val_accuracy", GRID)
    log.results["seed"] = 4 + 10_000 * log.results["model.y"]
    log.results["model.y"] = 1
    assert len(contrast(log, **X_EFFECT).values) == 2


@pytest.mark.parametrize(
    ("facts", "count"),
    [
        ({"cut": True}, 1),
        ({"planned_epochs": 3}, 1),
        ({}, 2),  # a whole training that learns nothing is a result
        ({"cut": True, "diverged": True}, 2),
    ],
)
def test_pairs_cut_before_they_began_to_learn_are_left_out(facts, count):
    learned = {f"x{x}-y{y}": float((x, y) != (2, 2)) for x, y in GRID}
    found = contrast(grid_log("val_accuracy", GRID, learned=learned, **facts), **X_EFFECT)
    assert len(found.values) == count
    assert ("without 1 network cut" in found.label) == (count == 1)


def ranked(x_counts, y_counts):
    """A grid of three by three in which the settings count so much, for two seeds."""
    return {(x, y): [x_counts * x + y_counts * y] * 2 for x in (1, 2, 3) for y in (1, 2, 3)}


X_OVER_Y = {"is": "separates", "sweep": "s", "strong": ["model.x"], "weak": ["model.y"]}


@pytest.mark.parametrize(
    ("points", "low", "high"),
    [
        (ranked(10, 1), 0.9, 1.5),
        (ranked(1, 10), -1.5, -0.9),
        (ranked(0, 0), 0, 0),
        # What never ends takes the last ranks, however far the others lie apart.
        (ranked(10, 1) | {(3, y): [math.inf] * 2 for y in (1, 2, 3)}, 0.9, 1.5),
    ],
)
def test_settings_separate_by_their_share_of_the_ranks(points, low, high):
    found = contrast(grid_log("val_accuracy", points), **X_OVER_Y).values
    assert len(found) == 2
    assert ((found >= low) & (found <= high)).all()


def test_a_setting_of_many_values_that_do_nothing_tells_nothing_apart():
    """Adjusted for their number, twelve values of pure noise lead over two by nothing."""
    random = np.random.default_rng(3)
    points = {(x, y): list(random.normal(size=50)) for x in range(12) for y in (1, 2)}
    found = contrast(grid_log("val_accuracy", points), **X_OVER_Y).values
    assert abs(found.mean()) < 3 * found.std() / math.sqrt(len(found))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((1, 2, 3, 4), 1.0),
        ((4, 3, 2, 1), -1.0),
        ((2, 1, 3, 4), 2 / 3),  # one of six pairs the other way round takes 2/6 off
        ((1, 2, 3, math.inf), 1.0),
        ((5, 5, 5, 5), 0.0),
    ],
)
def test_an_order_is_a_rank_correlation_per_seed(values, expected):
    log = log_of(trials={name: [float(v)] for name, v in zip("abcd", values, strict=True)})
    order = {"is": "order", "trials": list("abcd"), "at_least": 0.6}
    for direction, sign in (("ascending", 1), ("descending", -1)):
        found, low, _ = numbers(log, **order, direction=direction)
        assert (found, low) == ({0: pytest.approx(sign * expected)}, 0.6)


def test_a_share_counts_networks_by_their_median_seed_and_seeds_of_a_single_one():
    trials = {"a": [0.9, 0.9, 0.1], "b": [0.1, 0.9, 0.1], "c": [0.95, math.inf, 0.95]}
    share = {"is": "share", "low": 0.5, "high": 0.97, "at_least": 0.5}
    log = log_of(trials=trials)
    found = contrast(log, **share, trial={"sweep": "s"})
    assert (found.values.to_dict(), found.unit) == ({"a": 1, "b": 0, "c": 1}, "network")
    assert (found.kind, found.low, found.high) == ("flag", 0.5, math.inf)
    found = contrast(log, **share, trial="b")
    assert (found.values.to_dict(), found.unit) == ({0: 0, 1: 1, 2: 0}, "seed")


def test_repeats_are_the_changes_between_the_seeds_of_a_trial():
    trials = {"a": [0.5, 0.75], "b": [0.5, 0.5, 0.8], "c": [9.0], "d": [0.5, math.inf]}
    repeats = {"is": "repeats", "trial": {"sweep": "s"}, "high": 1}
    found, *_ = numbers(log_of(trials=trials), **repeats)
    assert found == {"a": 0.25, "b": pytest.approx(0.2)}
    found, *_ = numbers(log_of(trials=trials), **repeats, relative=True)
    assert found == {"a": pytest.approx(0.4), "b": pytest.approx(1 / 3)}


def test_confusions_are_shares_of_the_true_class():
    log = confused_log({"a": [0.3, 0.2]})
    confuses = {"is": "confuses", "metric": "test_accuracy", "trial": "a", "high": 0.5}
    assert numbers(log, **confuses, actual="Shirt", predicted="Coat")[0] == {0: 0.3, 1: 0.2}
    # What is never predicted is a share of nothing, not a missing number.
    assert numbers(log, **confuses, actual="Coat", predicted="Bag")[0] == {0: 0, 1: 0}
    assert contrast(log, **confuses, actual="Bag", predicted="Coat").values.empty


def test_what_was_not_measured_has_no_numbers():
    nothing = log_of(trials={"a": [0.5]})
    nothing.results["status"] = "missing"
    for predicate in (
        {"is": "value", "trial": "a", "low": 0},
        {"is": "value", "trial": "a", "inside": [0, 1], "low": 0},
        {"is": "difference", "a": "a", "b": {"sweep": "s", "take": "best"}, "low": 0},
        X_EFFECT,
        X_OVER_Y,
        {"is": "order", "trials": list("abc"), "direction": "ascending", "at_least": 0.5},
        {"is": "share", "trial": {"sweep": "s"}, "low": 0, "at_least": 0.5},
        {"is": "repeats", "trial": "a", "low": 0},
    ):
        assert contrast(nothing, **predicate).values.empty, predicate


@pytest.mark.parametrize(
    ("predicate", "message"),
    [
        ({"is": "louder", "trial": "a"}, "louder"),
        ({"is": "value", "trial": "a"}, "give low, high or both"),
        ({"is": "value", "trial": "a", "low": 2, "high": 1}, "lies above high"),
        ({"is": "value", "trial": "a", "low": math.inf}, "finite"),
        ({"is": "value", "trial": "a", "low": 1, "epochs": [5, 2]}, "run backwards"),
        ({"is": "value", "metric": "seconds", "trial": "a", "low": 1, "epochs": [1, 2]}, "one val"),
        ({"is": "value", "metric": "seconds", "trial": "a", "low": 1, "statistic": "min"}, "one v"),
        (
            {"is": "value", "metric": "val_loss", "trial": {"sweep": "s"}, "low": 1}
            | {"inside": [0, 1]},
            "name one trial",
        ),
        ({"is": "value", "metric": "seconds", "trial": "a", "low": 1, "inside": [0, 1]}, "no curv"),
        ({"is": "difference", "a": "a", "b": "b"}, "give low, high or both"),
        ({"is": "order", "trials": ["a", "b"], "direction": "ascending", "at_least": 0.5}, "least"),
        ({"is": "share", "trial": "a", "low": 0, "at_least": 1}, "at_least"),
        ({"is": "share", "trial": {"take": "max"}, "low": 0, "at_least": 0.5}, "every trial"),
        ({"is": "separates", "sweep": "s", "strong": [], "weak": ["model.x"]}, "strong"),
        ({"is": "effect", "sweep": "s", "axis": "model.x", "a": 1, "low": 0}, "b"),
    ],
)
def test_predicate_that_cannot_be_meant_is_refused(predicate, message):
    with pytest.raises(ValidationError, match=message):
        Claim.model_validate(CLAIM | {"holds": [{"metric": "val_accuracy"} | predicate]})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "predicates .* or a reason"),
        ({"holds": [HOLDS], "undecidable": NEED}, "cannot have"),
        ({"undecidable": NEED | {"needs": "videos"}}, "has predicates"),
        ({"undecidable": NEED | {"needs": "patience"}}, "needs"),
        ({"undecidable": {"needs": "size"}}, "why"),
        ({"holds": [HOLDS], "changed": [{"date": "2026-11-28"}]}, "why"),
        ({"holds": [HOLDS], "weight": "heavy"}, "weight"),
        ({"holds": [HOLDS], "quote": ""}, "quote"),
        ({"holds": [HOLDS], "evidence": "0.9"}, "evidence"),
    ],
)
def test_claims_say_what_they_rest_on(changes, message):
    with pytest.raises(ValidationError, match=message):
        Claim.model_validate(CLAIM | changes)


def test_what_is_missing_but_can_be_had_stands_beside_the_predicates():
    claim = CLAIM | {"holds": [HOLDS], "undecidable": NEED | {"needs": "videos"}}
    assert Claim.model_validate(claim).holds
    assert not Claim.model_validate(CLAIM | {"undecidable": NEED}).holds


def test_every_kind_of_predicate_is_declared_somewhere():
    """A kind that no report needs is one too many."""
    declared = [claim for name in expand.names() for claim in expand.load(name).claims]
    kinds = {type(predicate) for claim in declared for predicate in claim.holds}
    assert kinds == set(get_args(get_args(predicates.AnyPredicate)[0]))
    assert {claim.undecidable.needs for claim in declared if claim.undecidable} < set(
        get_args(predicates.Need)
    )
