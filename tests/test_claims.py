"""Claims are decided where the measurements leave no doubt, and only there."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from scipy import stats

from refit.experiments.declaration import Declaration, Profile
from refit.experiments.predicates import Claim, Selection
from refit.run_directory import run_log
from refit.run_directory.run_log import RunLog
from refit.verdicts import claims, contrasts, interval_tests

# One step per seed; its mean is zero, so that a case's centre is its observed mean.
STEPS = np.array([-1.2, -0.5, 0.1, 0.5, 1.1])
EPOCHS = 10
CURVES = ("train_accuracy", "train_loss", "val_accuracy", "val_loss", "seconds_per_epoch")
FULL = Profile(description="as published")


def around(centre, width=0.002, seeds=5):
    """One number per seed. Two calls differ in their order, so that differences have a spread."""
    return list(centre + width * STEPS[:seeds])


def lines(change, width=0.002, start=0.5):
    """Straight curves, one per seed, that change by about `change` in all."""
    return [np.linspace(start, start + total, EPOCHS) for total in around(change, width)]


def valleys(*epochs, rise=0.1):
    """Curves with their minima at these epochs, that rise by `rise` per epoch from there."""
    return [rise * np.abs(np.arange(1, EPOCHS + 1) - epoch) for epoch in epochs]


def jumps(height, width=0.002):
    """Falling curves with one rise by about `height` at epoch 5."""
    return [
        np.linspace(1, 0.5, EPOCHS) + (step + 0.5 / 9) * (np.arange(EPOCHS) >= 4)
        for step in around(height, width)
    ]


def log_of(metric="val_accuracy", trials=None, **facts):
    """A run log of some trials, each a list with a number, or a curve, per seed.

    `facts` are columns of the results, one value for all trials or one per trial.
    """
    shared = {"planned_epochs": EPOCHS, "published_epochs": EPOCHS, "workers": 1}
    shared |= {"stand_in": False, "cut": False, "diverged": False, "sweep": "s", "batch_size": 32}
    rows, curves = [], []
    for name, values in trials.items():
        own = {key: f[name] if isinstance(f, dict) else f for key, f in (shared | facts).items()}
        for seed, value in enumerate(values):
            row = {"trial": name, "title": name, "seed": seed, "status": "done"} | own
            if np.ndim(value):
                frame = pd.DataFrame(dict.fromkeys(CURVES, np.nan), range(len(value)))
                frame[metric] = value
                frame["epoch"] = frame.index + 1
                curves.append(frame.assign(trial=name, seed=seed, sweep=own["sweep"]))
            rows.append(row | {metric: value[-1] if np.ndim(value) else value})
    columns = ["sweep", "trial", "seed", "epoch", *CURVES]
    empty = pd.DataFrame(columns=columns, dtype=float)
    return RunLog(pd.DataFrame(rows), pd.concat(curves) if curves else empty)


def grid_log(metric, points, **facts):
    """The log of a grid: `{(x, y): a number per seed}`, with the settings model.x and model.y."""
    names = {f"x{x}-y{y}": (x, y) for x, y in points}
    for axis, name in enumerate(("model.x", "model.y")):
        facts[name] = {trial: point[axis] for trial, point in names.items()}
    return log_of(metric, dict(zip(names, points.values(), strict=True)), **facts)


def pairs(centre, width=0.002, seeds=2):
    """Five matched pairs: x = 2 lies about `centre` above x = 1, whose level y decides."""
    effects = enumerate(around(centre, width), start=1)
    return {(x, y): [0.1 * y + effect * (x - 1)] * seeds for y, effect in effects for x in (1, 2)}


def ranked(x_counts, y_counts, noise=0.01):
    """A grid of three by three in which the settings count so much, for five seeds."""
    random = np.random.default_rng(0)
    return {
        (x, y): list(x_counts * x + y_counts * y + noise * random.normal(size=5))
        for x in (1, 2, 3)
        for y in (1, 2, 3)
    }


def repeated(changes):
    """Trials with two seeds each, between which the number moves by the changes."""
    return {f"r{number}": [0.5, 0.5 + change] for number, change in enumerate(changes)}


def confused_log(trials, images=1000):
    """Trials that take a share of the shirts, one number per seed, for coats."""
    rows = [
        (trial, seed, *pair, count)
        for trial, shares in trials.items()
        for seed, share in enumerate(shares)
        for pair, count in {
            ("Shirt", "Coat"): round(share * images),
            ("Shirt", "Shirt"): images - round(share * images),
            ("Coat", "Coat"): images,
        }.items()
    ]
    columns = ["trial", "seed", "true", "predicted", "count"]
    log = log_of("test_accuracy", trials)
    return RunLog(log.results, log.curves, pd.DataFrame(rows, columns=columns))


def claim(*holds, number=1, **settings):
    predicates = [{"metric": "val_accuracy"} | predicate for predicate in holds]
    fixed = {"id": f"C{number}", "by": "stated", "statement": "It is so.", "evidence": "0.9"}
    return Claim.model_validate(fixed | {"holds": predicates} | settings)


def judge(log, *judged, profile=FULL):
    """The claims' rows, by id."""
    declaration = Declaration.model_construct(claims=list(judged), classes=5)
    return claims.judge(declaration, profile, log).set_index("id")


def verdict(log, *holds, **settings):
    return judge(log, claim(*holds, **settings), **{}).loc["C1"]


A_OVER_B = {"is": "greater", "a": "a", "b": "b"}
X_EFFECT = {"is": "effect", "sweep": "s", "axis": "model.x", "a": 2, "b": 1}
CONFUSES = {
    "is": "confuses", "metric": "test_accuracy", "trial": "a",
    "actual": "Shirt", "predicted": "Coat", "low": 0.25, "high": 0.35,
}  # fmt: skip

# Predicate, then the measurements that bear it out, refute it, and leave it open.
CASES = {
    "greater": (
        A_OVER_B | {"by": 0.01},
        {"a": around(0.92), "b": around(0.9)[::-1]},
        {"a": around(0.9), "b": around(0.9)[::-1]},
        {"a": around(0.92, 0.05), "b": around(0.9)[::-1]},
    ),
    "difference": (
        {"is": "difference", "a": "a", "b": "b", "low": -0.01, "high": 0.01},
        {"a": around(0.9), "b": around(0.9)[::-1]},
        {"a": around(0.93), "b": around(0.9)[::-1]},
        {"a": around(0.9, 0.05), "b": around(0.9)[::-1]},
    ),
    "ratio": (
        {"is": "ratio", "metric": "seconds", "a": "a", "b": "b", "low": 2, "high": 4},
        {"a": around(30, 1), "b": around(10, 0.1)},
        {"a": around(10, 1), "b": around(10, 0.1)},
        {"a": around(30, 20), "b": around(10, 0.1)},
    ),
    "value": (
        {"is": "value", "trial": "a", "low": 0.89},
        {"a": around(0.9)},
        {"a": around(0.8)},
        {"a": around(0.9, 0.1)},
    ),
    "order": (
        {"is": "order", "trials": ["a", "b", "c"], "direction": "ascending"},
        {"a": around(0.7), "b": around(0.8)[::-1], "c": around(0.9)},
        {"a": around(0.7), "b": around(0.9)[::-1], "c": around(0.8)},
        {"a": around(0.7), "b": around(0.8)[::-1], "c": around(0.81, 0.1)},
    ),
    "best": (
        {"is": "best", "among": ["a", "b", "c", "d"], "winners": ["a", "d"]},
        {"a": around(0.9), "b": around(0.8)[::-1], "c": around(0.7), "d": around(0.85)},
        {"a": around(0.8), "b": around(0.9)[::-1], "c": around(0.7), "d": around(0.85)},
        {"a": around(0.9, 0.1), "b": around(0.89)[::-1], "c": around(0.7), "d": around(0.85)},
    ),
    "best, smallest": (
        {"is": "best", "among": ["a", "b"], "winners": ["a"], "smallest": True},
        {"a": around(0.8), "b": around(0.9)[::-1]},
        {"a": around(0.9), "b": around(0.8)[::-1]},
        {"a": around(0.89, 0.1), "b": around(0.9)[::-1]},
    ),
    "growing": (
        {"is": "growing", "pairs": [["a", "b"], ["c", "d"]]},
        {"a": around(0.9), "b": around(0.89)[::-1], "c": around(0.9), "d": around(0.6)},
        {"a": around(0.9), "b": around(0.6)[::-1], "c": around(0.9), "d": around(0.89)},
        {"a": around(0.9), "b": around(0.8)[::-1], "c": around(0.9, 0.1), "d": around(0.79)},
    ),
    "effect": (
        X_EFFECT,
        pairs(0.02),
        pairs(-0.02),
        pairs(0.01, 0.1),
    ),
    "separates": (
        {"is": "separates", "sweep": "s", "strong": ["model.x"], "weak": ["model.y"]},
        ranked(1, 0.1),
        ranked(0.1, 1),
        ranked(1, 1, noise=0.5),
    ),
    "repeats": (
        {"is": "repeats", "trial": {"sweep": "s", "take": "mean"}, "low": 0.01, "high": 0.03},
        repeated(around(0.02)),
        repeated(around(0.2)),
        repeated(around(0.025, 0.01)),
    ),
    "confuses": (
        CONFUSES,
        {"a": around(0.3)},
        {"a": around(0.2)},
        {"a": around(0.3, 0.1)},
    ),
    "trend, rising": (
        {"is": "trend", "trial": "a", "direction": "rising", "by": 0.1},
        {"a": lines(0.3)},
        {"a": lines(-0.3)},
        {"a": lines(0.12, 0.2)},
    ),
    "trend, falling": (
        {"is": "trend", "trial": "a", "direction": "falling"},
        {"a": lines(-0.3)},
        {"a": lines(0.3)},
        {"a": lines(-0.1, 0.3)},
    ),
    "trend, flat": (
        {"is": "trend", "trial": "a", "direction": "flat", "by": 0.05, "epochs": [3, 8]},
        {"a": lines(0.0)},
        {"a": lines(-0.3)},
        {"a": lines(0.0, 0.2)},
    ),
    "trend, not rising": (
        {"is": "trend", "trial": "a", "direction": "not rising", "by": 0.05},
        {"a": lines(-0.3)},
        {"a": lines(0.3)},
        {"a": lines(0.0, 0.3)},
    ),
    "minimum": (
        {"is": "minimum", "metric": "val_loss", "trial": "a", "between": [2, 6], "rise": 0.2},
        {"a": valleys(3, 4, 4, 4, 5)},
        {"a": valleys(9, 10, 9, 10, 9)},
        {"a": valleys(2, 10, 3, 9, 4)},
    ),
    "share": (
        {"is": "share", "trial": "a", "low": 0.5, "high": 0.75, "at_least": 0.5},
        {"a": lines(0.3, 0.02)},
        {"a": lines(2.0, 0.2)},
        {"a": lines(0.45, 0.3)},
    ),
    "largest rise, at most": (
        {"is": "largest_rise", "metric": "train_loss", "trial": "a", "at_most": 0.1},
        {"a": jumps(0.05)},
        {"a": jumps(0.2)},
        {"a": jumps(0.09, 0.1)},
    ),
    "largest rise, at least": (
        {"is": "largest_rise", "trial": "a", "at_least": 0.1, "epochs": [4, 6]},
        {"a": jumps(0.2)},
        {"a": jumps(0.05)},
        {"a": jumps(0.12, 0.1)},
    ),
    "chance": (
        {"is": "chance", "trial": "a", "tolerance": 0.02},
        {"a": around(0.2)},
        {"a": around(0.3)},
        {"a": around(0.2, 0.05)},
    ),
    "diverges": (
        {"is": "diverges", "metric": "train_loss", "trial": "a"},
        {"a": [math.nan] * 5},
        {"a": around(0.1)},
        {"a": [math.nan, 0.1, math.nan, 0.1, math.nan]},
    ),
}


def measured(kind, trials):
    predicate = CASES[kind][0]
    make = grid_log if kind in ("effect", "separates") else log_of
    log = make(predicate.get("metric", "val_accuracy"), trials)
    if kind == "confuses":
        log = confused_log(trials)
    if kind == "diverges":
        log.results["diverged"] = log.results["train_loss"].isna()
    return log, predicate


@pytest.mark.parametrize("kind", CASES)
def test_predicate_is_reproduced_contradicted_or_left_open(kind):
    for trials, expected in zip(
        CASES[kind][1:], ("reproduced", "contradicted", "inconclusive"), strict=True
    ):
        log, predicate = measured(kind, trials)
        found = verdict(log, predicate)
        assert (found.verdict, found.n) == (expected, 5), found.observed


@pytest.mark.parametrize("kind", [kind for kind in CASES if kind not in ("effect", "repeats")])
def test_two_seeds_show_a_direction_and_decide_nothing(kind):
    for trials, side in zip(CASES[kind][1:3], ("for", "against"), strict=True):
        log, predicate = measured(kind, {name: values[:2] for name, values in trials.items()})
        found = verdict(log, predicate)
        assert (found.verdict, found.n) == ("inconclusive", 2)
        assert f"observed {side} the claim" in found.note
        assert found["seeds needed"] >= 3


def test_every_predicate_has_its_cases():
    assert {case[0]["is"] for case in CASES.values()} == {
        kind.model_fields["kind"].annotation.__args__[0] for kind in contrasts._CONTRASTS
    }


@pytest.mark.parametrize(("kind", "seeds"), [("value", 1), ("diverges", 1), ("trend, flat", 1)])
def test_one_seed_gives_no_estimate_of_the_seeds_needed(kind, seeds):
    trials = {name: values[:seeds] for name, values in CASES[kind][1].items()}
    found = verdict(*measured(kind, trials))
    assert (found.verdict, found.n) == ("inconclusive", 1)
    assert math.isnan(found["seeds needed"])


# --- what cannot be decided ------------------------------------------------------------------


def test_nothing_measured_is_not_run(tmp_path, make_tiny):
    trials = [
        make_tiny(name=name, sweep="s", model={"name": "lenet", "options": {"x": x, "y": y}})
        for name, (x, y) in zip("abcd", itertools.product((1, 2), repeat=2), strict=True)
    ]
    log = run_log.read(trials, tmp_path)
    found = judge(log, *(claim(case[0], number=i) for i, case in enumerate(CASES.values())))
    assert set(found["verdict"]) == {"not run"}
    assert found["p"].isna().all()
    assert set(found["observed"]) == {""}


def test_undecidable_claim_says_why():
    found = judge(log_of(trials={"a": [0.9]}), claim(undecidable="It names no value."))
    assert found.loc["C1", ["verdict", "note"]].tolist() == ["undecidable", "It names no value"]


def test_demonstration_data_decide_nothing():
    log, predicate = measured("greater", CASES["greater"][1])
    profile = Profile(description="smoke", comparable=False)
    found = judge(log, claim(predicate), profile=profile).loc["C1"]
    assert (found.verdict, found.note) == ("not comparable", "demonstration data")
    assert found.observed.startswith("a − b, val_accuracy: ")
    assert np.isnan(found.p)


def test_demonstration_data_are_known_by_the_results_too():
    """A profile may stand for whatever clips the user has, and for embedded ones without any."""
    trials = {"a": around(0.92), "b": around(0.5)}
    found = judge(log_of(trials=trials, demonstration=True), claim(A_OVER_B)).loc["C1"]
    assert (found.verdict, found.note) == ("not comparable", "demonstration data")
    found = judge(log_of(trials=trials, demonstration=False), claim(A_OVER_B)).loc["C1"]
    assert found.verdict == "reproduced"


def test_stand_in_labels_bar_levels_but_not_differences():
    trials = {"a": around(0.92), "b": around(0.9)[::-1]}
    log = log_of(trials=trials, stand_in=True)
    found = judge(log, claim(A_OVER_B), claim(CASES["value"][0], number=2))
    assert found["verdict"].tolist() == ["reproduced", "not comparable"]
    assert found.loc["C2", "note"] == "stand-in labels"


@pytest.mark.parametrize(
    "predicate",
    [
        {"is": "value", "trial": "a", "low": 0.1},
        {"is": "value", "trial": "a", "low": 0.1, "epochs": [2, 4], "statistic": "mean"},
        {"is": "trend", "trial": "a", "direction": "rising", "epochs": [2, 4]},
        {"is": "minimum", "trial": "a", "between": [1, 3]},
        {"is": "share", "trial": "a", "low": 0.1, "at_least": 0.5},
        {"is": "chance", "trial": "a", "tolerance": 0.5},
    ],
)
def test_a_shortened_training_says_nothing_of_an_epoch_or_of_the_end(predicate):
    log = log_of(trials={"a": lines(0.3)}, published_epochs=50)
    found = verdict(log, predicate)
    assert (found.verdict, found.note) == ("not comparable", "fewer epochs than published")


@pytest.mark.parametrize(
    ("metric", "planned", "expected"),
    [
        ("val_accuracy", {"a": 10, "b": 16}, "reproduced"),
        ("val_accuracy", {"a": 10, "b": 17}, "not comparable"),
        ("val_accuracy", {"a": 1, "b": 16}, "not comparable"),
        ("seconds", {"a": 10, "b": 16}, "reproduced"),
        ("seconds", {"a": 9, "b": 16}, "not comparable"),
        ("seconds_per_epoch", {"a": 1, "b": 16}, "reproduced"),
    ],
)
def test_trials_are_compared_where_they_are_cut_by_the_same_share(metric, planned, expected):
    trials = {"a": around(0.92), "b": around(0.9)[::-1]}
    published = {"a": 50, "b": 80}
    log = log_of(metric, trials, planned_epochs=planned, published_epochs=published)
    assert verdict(log, A_OVER_B | {"metric": metric}).verdict == expected


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({"low": 0.0}, "reproduced"),
        ({"high": 0.0}, "contradicted"),
        ({"low": 0.01, "high": 0.03}, "not comparable"),
        ({"low": -0.01}, "not comparable"),
    ],
)
def test_a_cut_training_shows_the_sign_of_an_effect_but_not_its_size(bounds, expected):
    log = log_of(trials={"a": around(0.92), "b": around(0.90)[::-1]}, cut=True)
    judged = verdict(log, {"is": "difference", "a": "a", "b": "b"} | bounds)
    assert judged["verdict"] == expected


@pytest.mark.parametrize(
    ("planned", "expected"), [(EPOCHS, "contradicted"), (EPOCHS // 2, "not comparable")]
)
def test_trainings_too_short_to_differ_refute_nothing(planned, expected):
    log = log_of(trials={"a": around(0.92), "b": around(0.92)}, planned_epochs=planned)
    assert verdict(log, A_OVER_B)["verdict"] == expected


def test_accuracies_that_are_equal_by_chance_are_measured():
    """On few images the best of many often is as good as another one."""
    trials = {"a": [0.9], "b": [0.9], "c": [0.8]}
    best = {"is": "best", "among": ["a", "b", "c"], "winners": ["a"]}
    for losses, expected in (({"a": 1, "b": 2, "c": 3}, "inconclusive"), (1, "not comparable")):
        log = log_of(trials=trials, planned_epochs=10, published_epochs=50, train_loss=losses)
        assert verdict(log, best).verdict == expected


def test_shares_that_rounding_up_made_unequal_are_the_same_share():
    trials = {"a": around(0.92), "b": around(0.9)[::-1]}
    log = log_of(
        trials=trials, planned_epochs={"a": 3, "b": 10}, published_epochs={"a": 12, "b": 50}
    )
    assert verdict(log, A_OVER_B).verdict == "reproduced"


def test_the_best_of_a_grid_takes_the_whole_grid():
    log = log_of(trials={"a": around(0.92), "b": around(0.9)[::-1]})
    whole, cut = {"cut": {}}, {"cut": {"grid": {"batch_size": [32]}}}
    elsewhere = {"sweeps": {"other": cut["cut"]}}
    own = {"sweeps": {"s": {}}} | cut
    for take, settings, expected in [
        ("max", whole, "reproduced"),
        ("max", elsewhere, "reproduced"),
        ("max", own, "reproduced"),
        ("max", cut, "not comparable"),
        ("min", cut, "not comparable"),
        ("mean", cut, "reproduced"),
    ]:
        profile = Profile.model_validate({"description": "cut"} | settings)
        predicate = {"is": "greater", "a": {"sweep": "s", "take": take}, "b": "b", "by": -0.1}
        found = judge(log, claim(predicate), profile=profile).loc["C1"]
        assert found.verdict == expected, (take, settings)
        reason = "the best of a grid takes the whole grid"
        assert found.note == (reason if expected == "not comparable" else "")


WALL_TIMES = [
    "seconds", "seconds_to_target", "seconds_per_epoch", "train_seconds", "microseconds_per_sample",
]  # fmt: skip


@pytest.mark.parametrize("metric", WALL_TIMES)
def test_times_of_a_shared_machine_decide_nothing(metric):
    trials = {"a": around(30, 0.1), "b": around(20, 0.1)[::-1]}
    predicate = A_OVER_B | {"metric": metric}
    shared = verdict(log_of(metric, trials, workers={"a": 1, "b": 2}), predicate)
    assert shared.verdict == "inconclusive"
    assert shared.note == "times were measured while 2 trainings shared the machine"
    assert math.isnan(shared["seeds needed"])
    assert verdict(log_of(metric, trials, workers=1), predicate).verdict == "reproduced"


@pytest.mark.parametrize("metric", [*WALL_TIMES, "processor_seconds_to_target"])
def test_times_of_different_machines_decide_nothing(metric):
    trials = {"a": around(30, 0.1), "b": around(20, 0.1)[::-1]}
    predicate = A_OVER_B | {"metric": metric}
    machines = {"a": "laptop, tensorflow", "b": "server, tensorflow"}
    apart = verdict(log_of(metric, trials, workers={"a": 1, "b": 1}, machine=machines), predicate)
    assert apart.verdict == "inconclusive"
    assert apart.note == "times were measured on 2 different machines"
    alone = log_of(metric, trials, workers={"a": 1, "b": 1}, machine=dict.fromkeys("ab", "laptop"))
    assert verdict(alone, predicate).verdict == "reproduced"


@pytest.mark.parametrize("metric", ["processor_seconds_to_target", "processor_seconds"])
def test_processor_times_of_a_shared_machine_decide(metric):
    trials = {"a": around(30, 0.1), "b": around(20, 0.1)[::-1]}
    found = verdict(log_of(metric, trials, workers=2), A_OVER_B | {"metric": metric})
    assert (found.verdict, found.note) == ("reproduced", "")


# --- grids -----------------------------------------------------------------------------------


def flat(x1, x2, x3=None):
    """A grid whose numbers depend on x only, for three values of y and one seed."""
    values = {1: x1, 2: x2, 3: x3}
    return {(x, y): [v] for x, v in values.items() if v is not None for y in (1, 2, 3)}


SEEDS = {1: [0.5, 0.5, 0.5], 2: [1.0, 0.25, 1.0]}


@pytest.mark.parametrize(
    ("points", "changes", "expected", "count"),
    [
        (flat(0.5, 0.75), {}, "reproduced", 3),
        (flat(0.5, 0.75), {"a": 1, "b": 2}, "contradicted", 3),
        (flat(0.5, 0.5), {}, "contradicted", 3),
        (flat(0.5, 0.75), {"by": 0.25}, "contradicted", 3),
        (flat(0.5, 0.25), {"by": -0.5}, "reproduced", 3),
        # The mean of several levels.
        (flat(0.5, 0.5, 1.0), {"a": [2, 3], "by": 0.125}, "reproduced", 3),
        (flat(0.5, 0.5, 1.0), {"a": [2, 3], "by": 0.25}, "contradicted", 3),
        (flat(0.5, 0.5, 1.0), {"a": 3, "b": [1, 2]}, "reproduced", 3),
        # A trial without its counterpart does not count, nor does a third level.
        (flat(0.5, 0.75) | {(2, 4): [-9.0], (1, 5): [9.0]}, {}, "reproduced", 3),
        (flat(0.5, 0.75, -9.0), {}, "reproduced", 3),
        ({(1, 1): [0.5], (2, 2): [0.5]}, {}, "not run", 0),
        # Seeds are averaged within a pair: +0.5 and -0.25 are +0.125, with a third seed +0.25.
        ({(x, y): SEEDS[x][:2] for x, y in flat(1, 1)}, {"by": 0.0625}, "reproduced", 3),
        ({(x, y): SEEDS[x][:2] for x, y in flat(1, 1)}, {"by": 0.125}, "contradicted", 3),
        ({(x, y): SEEDS[x] for x, y in flat(1, 1)}, {"by": 0.125}, "reproduced", 3),
    ],
)
def test_an_effect_is_the_mean_over_matched_pairs(points, changes, expected, count):
    found = verdict(grid_log("val_accuracy", points), X_EFFECT | changes)
    assert (found.verdict, found.n) == (expected, count), found.observed
    assert math.isnan(found["seeds needed"])


def test_pairs_differ_in_nothing_else():
    """Those that x and y alone would make pairs differ in their batch sizes too."""
    log = grid_log("val_accuracy", flat(0.5, 0.75))
    log.results["batch_size"] = log.results["model.x"] * 8
    assert verdict(log, X_EFFECT).verdict == "not run"


def test_declared_repetitions_of_a_setting_are_pairs():
    """Repetitions of one seed differ in nothing else, so each makes a pair of its own."""
    log = grid_log("val_accuracy", flat(0.5, 0.75))
    log.results["seed"] = 4 + 10_000 * log.results["model.y"]
    log.results["model.y"] = 1
    found = verdict(log, X_EFFECT)
    assert (found.verdict, found.n) == ("reproduced", 3), found.observed


@pytest.mark.parametrize(
    ("facts", "expected", "count"),
    [
        ({"cut": True}, "reproduced", 3),
        ({"planned_epochs": 3}, "reproduced", 3),
        ({}, "inconclusive", 4),  # a whole training that learns nothing is a result
        ({"cut": True, "diverged": True}, "inconclusive", 4),
    ],
)
def test_pairs_cut_before_they_began_to_learn_are_left_out(facts, expected, count):
    points = flat(0.5, 0.75) | {(1, 4): [0.5], (2, 4): [0.2]}
    learned = {f"x{x}-y{y}": float((x, y) != (2, 4)) for x, y in points}
    found = verdict(grid_log("val_accuracy", points, learned=learned, **facts), X_EFFECT)
    assert (found.verdict, found.n) == (expected, count), found.observed
    assert ("without 1 network cut" in found.observed) == (count == 3)


def test_pairs_are_counted_as_what_they_are():
    noise = np.random.default_rng(2).normal(size=16)
    points = {(1, y): [0.0] for y in range(16)}
    points |= {(2, y): [value] for y, value in enumerate(noise - noise.mean() + 0.1)}
    found = verdict(grid_log("val_accuracy", points), X_EFFECT)
    assert (found.verdict, found.n) == ("inconclusive", 16)
    assert found.note == "16 matched pairs: observed for the claim, but not beyond doubt"
    assert "over 16 matched pairs" in found.observed
    assert math.isnan(found["seeds needed"]), "more seeds give no more pairs"
    two = {point: values for point, values in points.items() if point[1] < 2}
    assert verdict(grid_log("val_accuracy", two), X_EFFECT).note.startswith("2 matched pairs: ")
    one = {point: values for point, values in points.items() if point[1] < 1}
    assert verdict(grid_log("val_accuracy", one), X_EFFECT).note.startswith("1 matched pair: ")


@pytest.mark.parametrize(
    ("times", "expected", "count"),
    [
        # One infinite time leaves the signs: six of them are enough, five are not.
        ([math.inf, 12, 13, 11, 12, 13], "reproduced", 6),
        ([math.inf, 12, 13, 11, 12], "inconclusive", 5),
        ([12, 12.5, 13, 11, 12], "reproduced", 5),
        ([math.inf] * 3, "reproduced", 3),
    ],
)
def test_a_time_without_end_is_longer_than_every_other(times, expected, count):
    points = {(1, y): [5.0 + y / 10] for y, _ in enumerate(times)}
    points |= {(2, y): [time] for y, time in enumerate(times)}
    metric = "processor_seconds_to_target"
    found = verdict(grid_log(metric, points), X_EFFECT | {"metric": metric})
    assert (found.verdict, found.n) == (expected, count)
    back = verdict(grid_log(metric, points), X_EFFECT | {"metric": metric, "a": 1, "b": 2})
    assert back.verdict == expected.replace("reproduced", "contradicted")


def test_pairs_that_both_never_end_tell_nothing():
    metric = "processor_seconds_to_target"
    points = flat(5.0, 7.0) | {(1, 4): [math.inf], (2, 4): [math.inf]}
    found = verdict(grid_log(metric, points), X_EFFECT | {"metric": metric})
    assert (found.verdict, found.n) == ("reproduced", 3)


def endless(axis):
    """A grid whose numbers grow along an axis and are infinite at its end."""
    return {
        point: [point[axis] + sum(point) / 9 if point[axis] < 3 else math.inf] * 3
        for point in ranked(1, 1)
    }


@pytest.mark.parametrize(
    ("points", "expected", "count"),
    [
        # What never ends takes the last ranks, however far the others lie apart.
        (endless(axis=0), "reproduced", 3),
        (endless(axis=1), "contradicted", 3),
        # Where neither tells anything apart, neither does so better.
        ({point: [0.5] * 3 for point in ranked(1, 1)}, "contradicted", 3),
        # A seed that one trial lacks would compare other trials.
        (ranked(1, 0.1) | {(1, 1): [1.1] * 3}, "reproduced", 3),
    ],
)
def test_settings_separate_by_their_share_of_the_ranks(points, expected, count):
    found = verdict(grid_log("val_accuracy", points), CASES["separates"][0])
    assert (found.verdict, found.n) == (expected, count), found.observed


def test_every_strong_setting_beats_every_weak_one():
    """The batch size goes with x, so that it tells apart less than x and more than y."""
    log = grid_log("val_accuracy", ranked(1, 0.1))
    log.results["batch_size"] = np.where(log.results["model.x"] == 1, 8, 16)
    for strong, weak, expected in [
        (["model.x"], ["batch_size", "model.y"], "reproduced"),
        (["model.x", "batch_size"], ["model.y"], "reproduced"),
        (["model.x", "model.y"], ["batch_size"], "contradicted"),
        (["batch_size"], ["model.y", "model.x"], "contradicted"),
    ]:
        settings = {"is": "separates", "sweep": "s", "strong": strong, "weak": weak}
        assert verdict(log, settings).verdict == expected


@pytest.mark.parametrize(
    ("trials", "changes", "observed", "count"),
    [
        (repeated([0.25, 0.25, 0.25]), {}, "0.25", 3),
        # Divided by the mean of the two, 0.625.
        (repeated([0.25, 0.25, 0.25]), {"relative": True}, "0.4", 3),
        (repeated([0.25, -0.25, 0.25]), {}, "0.25", 3),
        # Only the first two seeds count, and only trials that have both, finite.
        ({name: [0.5, 0.75, 9.0] for name in "abc"}, {}, "0.25", 3),
        (repeated([0.25] * 3) | {"single": [9.0], "endless": [0.5, math.inf]}, {}, "0.25", 3),
        (repeated([0.25] * 3), {"trial": "r1"}, "0.25", 1),
        ({"single": [9.0]}, {}, "", 0),
    ],
)
def test_repeats_are_the_changes_between_two_seeds(trials, changes, observed, count):
    predicate = CASES["repeats"][0] | {"low": 0.0, "high": 1.0} | changes
    found = verdict(log_of(trials=trials), predicate)
    assert found.n == count
    if count:
        assert f"val_accuracy: {observed} over {count} repeated trial" in found.observed
        kind = "relative change" if changes.get("relative") else "change"
        assert found.observed.startswith(f"{kind} with another seed of ")
    assert found.verdict == {3: "reproduced", 1: "inconclusive", 0: "not run"}[count]


def test_a_single_repeated_trial_is_called_so():
    found = verdict(log_of(trials=repeated([0.02])), CASES["repeats"][0])
    assert found.note == "1 repeated trial: observed for the claim, but not beyond doubt"
    assert math.isnan(found["seeds needed"])


@pytest.mark.parametrize(
    ("changes", "expected", "count"),
    [
        ({"predicted": "Shirt", "low": 0.65, "high": 0.75}, "reproduced", 5),
        ({"actual": "Coat", "low": 0.0, "high": 0.0}, "contradicted", 5),
        # What is never predicted is a share of nothing, not a missing number.
        ({"predicted": "Bag", "low": None, "high": 0.0}, "reproduced", 5),
        ({"actual": "Bag"}, "not run", 0),
        ({"trial": "b"}, "not run", 0),
    ],
)
def test_confusions_are_shares_of_the_true_class(changes, expected, count):
    found = verdict(confused_log({"a": around(0.3)}), CONFUSES | changes)
    assert (found.verdict, found.n) == (expected, count), found.observed


# --- several parts ---------------------------------------------------------------------------

PARTS = {
    "holds": {"is": "greater", "a": "a", "b": "b"},
    "fails": {"is": "greater", "a": "b", "b": "a"},
    "open": {"is": "greater", "a": "a", "b": "wild"},
    "missing": {"is": "greater", "a": "a", "b": "nobody"},
    "few": {"is": "greater", "a": "a", "b": "two"},
    "barred": {"is": "value", "trial": "a", "low": 0.1},
    "shared": {"is": "greater", "metric": "seconds", "a": "a", "b": "b"},
}
PARTIAL = {
    "a": around(0.92), "b": around(0.9)[::-1], "wild": around(0.9, 0.1), "two": [0.8, 0.81],
}  # fmt: skip


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (["holds", "holds"], "reproduced"),
        (["holds", "open"], "inconclusive"),
        (["holds", "few"], "inconclusive"),
        (["holds", "shared"], "inconclusive"),
        (["holds", "missing"], "not run"),
        (["holds", "barred"], "not comparable"),
        (["barred", "shared"], "not comparable"),
        (["missing", "barred"], "not comparable"),
        (["fails", "holds"], "contradicted"),
        (["fails", "open"], "contradicted"),
        (["fails", "few"], "contradicted"),
        (["fails", "shared"], "contradicted"),
        (["fails", "missing"], "contradicted"),
        (["fails", "barred"], "contradicted"),
    ],
)
def test_all_parts_bear_a_claim_out_and_any_part_refutes_it(parts, expected):
    log = log_of(trials=PARTIAL, stand_in=True, workers=2)
    log.results["seconds"] = log.results["val_accuracy"]
    for order in itertools.permutations(parts):
        found = verdict(log, *(PARTS[part] for part in order))
        assert found.verdict == expected, found
        assert (found.p <= 0.05) == (expected in ("reproduced", "contradicted"))


def test_a_part_must_refute_at_its_share_of_the_level():
    """Of many parts one can look false by chance."""
    trials = {"a": around(0.9, 0.01), "b": around(0.9165, 0.002)[::-1]}
    log = log_of(trials=trials)
    harmless = {"is": "greater", "a": "a", "b": "b", "by": -1.0}
    assert verdict(log, A_OVER_B).verdict == "contradicted"
    assert verdict(log, A_OVER_B, *[harmless] * 9).verdict == "inconclusive"


def test_claim_that_the_report_contradicts_is_judged_all_the_same():
    log, predicate = measured("greater", CASES["greater"][1])
    found = verdict(log, predicate, contradicted_by_report=True, note="See A01.")
    assert found.verdict == "reproduced"
    assert found.note == "the report's own numbers speak against it. See A01"


def test_selected_trials_take_part():
    trials = {"a": around(0.92), "b": around(0.9)[::-1], "c": around(0.95)}
    log = log_of(trials=trials, batch_size={"a": 32, "b": 64, "c": 128})
    best = {"take": "max", "where": {"batch_size": [64, 128]}}
    assert verdict(log, {"is": "greater", "a": best, "b": "a"}).verdict == "reproduced"
    worst = best | {"take": "min"}
    assert verdict(log, {"is": "greater", "a": worst, "b": "a"}).verdict == "contradicted"
    order = {"is": "order", "trials": [best, "a"], "direction": "descending"}
    assert verdict(log, order).verdict == "reproduced"
    nobody = best | {"sweep": "elsewhere"}
    assert verdict(log, {"is": "greater", "a": nobody, "b": "a"}).verdict == "not run"


# Test accuracies per seed, and what the best by validation is chosen by: now a, now b.
SCORED = {"a": [0.1, 0.2, 0.3], "b": [0.6, 0.5, 0.4]}
VALIDATED = {"a": [0.9, 0.1, 0.8], "b": [0.5, 0.5, 0.8]}
OF_BEST = {"sweep": "s", "take": "of_best"}


def scored(by=VALIDATED, metric="best_val_accuracy", **changes):
    """A log of two trials, with the numbers `by` per seed beside the test accuracies."""
    results = log_of("test_accuracy", SCORED).results
    return RunLog(results.assign(**{metric: by["a"] + by["b"]} | changes), pd.DataFrame())


def of_best(log, metric="test_accuracy", **changes):
    return log.measure(Selection.model_validate(OF_BEST | changes), metric).to_dict()


def test_of_best_is_the_number_of_each_seeds_best_trial():
    assert of_best(scored()) == {0: 0.1, 1: 0.5, 2: 0.3}, "the first of two equal ones"
    assert of_best(scored(), "best_val_accuracy") == {0: 0.9, 1: 0.5, 2: 0.8}
    assert of_best(scored(metric="val_accuracy"), by="val_accuracy") == {0: 0.1, 1: 0.5, 2: 0.3}
    assert of_best(scored(), by="test_accuracy") == {0: 0.6, 1: 0.5, 2: 0.4}
    assert of_best(scored(), "val_loss") == of_best(scored(), sweep="elsewhere") == {}


def test_of_best_needs_all_trials_of_a_seed():
    status = ["done"] * 4 + ["missing", "done"]
    assert of_best(scored(status=status)) == {0: 0.1, 2: 0.3}
    assert of_best(scored(status=["done"] * 3 + ["missing"] * 3)) == {}


def test_of_best_without_a_number_to_choose_by_is_not_measured():
    assert of_best(scored(by={"a": [0.9, math.nan, 0.8], "b": [0.5] * 3})) == {0: 0.1, 2: 0.3}


def test_of_best_by_what_was_not_measured_at_all_is_not_run():
    found = verdict(
        scored(),
        {"is": "value", "metric": "test_accuracy", "low": 0, "trial": OF_BEST | {"by": "seconds"}},
    )
    assert found.verdict == "not run"


def test_of_best_takes_part_in_claims():
    log = scored()
    value = {"is": "value", "metric": "test_accuracy", "trial": OF_BEST, "high": 0.55}
    found = verdict(log, value)
    assert (found.verdict, found.n) == ("inconclusive", 3)
    assert "best of s, test_accuracy: 0.3 " in found.observed
    below = {"is": "greater", "metric": "test_accuracy", "a": OF_BEST | {"take": "max"}}
    assert verdict(log, below | {"b": OF_BEST, "by": -0.01}).n == 3


@pytest.mark.parametrize("take", ["max", "mean", "of_best"])
def test_repetitions_take_part_in_selections(take):
    """`b` is a repetition, so its seeds lie 10,000 above those of `a`."""
    log = scored(seed=[0, 1, 2, 10_000, 10_001, 10_002])
    assert len(of_best(log, take=take)) == 3


def test_another_network_than_published_is_not_judged():
    log = log_of(
        trials={"a": around(0.92), "b": around(0.9)[::-1]}, altered={"a": True, "b": False}
    )
    found = verdict(log, A_OVER_B)
    assert (found.verdict, found.note) == ("not comparable", "another network than published")
    count = {"is": "value", "metric": "total_params", "trial": "a", "low": 7, "high": 7}
    assert verdict(log_of("total_params", {"a": [7] * 3}), count).verdict == "reproduced"
    log = log_of("total_params", {"a": [7] * 3}, altered=True)
    assert verdict(log, count).verdict == "not comparable"


def test_best_of_a_sweep_is_held_against_all_of_it():
    trials = {"a": around(0.9), "b": around(0.92)[::-1], "c": around(0.95)}
    log = log_of(trials=trials, sweep={"a": "s", "b": "s", "c": "other"})
    best = {"is": "best", "sweep": "s"}
    assert verdict(log, best | {"winners": ["b"]}).verdict == "reproduced"
    assert verdict(log, best | {"winners": ["a"]}).verdict == "contradicted"
    cut = Profile.model_validate({"description": "cut", "cut": {"grid": {"batch_size": [32]}}})
    found = judge(log, claim(best | {"winners": ["b"]}), profile=cut).loc["C1"]
    assert (found.verdict, found.note) == (
        "not comparable", "the best of a grid takes the whole grid"
    )  # fmt: skip


def test_best_is_not_refuted_by_the_luck_of_many_losers():
    """In most seeds one of twenty equal losers beats the winner, but on average none does."""
    noise = np.random.default_rng(5).normal(0, 1, (21, 12))
    noise -= noise.mean(axis=1, keepdims=True)
    trials = {f"t{i}": list(row) for i, row in enumerate(noise)}
    trials["t0"] = list(noise[0] + 0.5)
    predicate = {"is": "best", "among": list(trials), "winners": ["t0"]}
    found = verdict(log_of(trials=trials), predicate)
    assert found.verdict == "inconclusive"
    assert "observed for" in found.note


# --- statistics ------------------------------------------------------------------------------


def test_p_values_of_an_interval_are_two_one_sided_tests():
    values = pd.Series(around(0.5, 0.1))
    for low, high in [(0.4, 0.7), (0.45, 0.56), (0.6, 0.9), (0.1, 0.2), (0.499, 0.501)]:
        above = stats.ttest_1samp(values, low, alternative="greater").pvalue
        below = stats.ttest_1samp(values, high, alternative="less").pvalue
        inside, outside = interval_tests.IntervalTest("", values, low, high).p_values()
        assert inside == pytest.approx(max(above, below))
        assert outside == pytest.approx(min(1 - above, 1 - below))
        assert max(inside, outside) >= 0.5, "never both"
    one_sided = interval_tests.IntervalTest("", values, 0.4).p_values()
    assert one_sided[0] == pytest.approx(
        stats.ttest_1samp(values, 0.4, alternative="greater").pvalue
    )
    assert sum(one_sided) == pytest.approx(1)


@pytest.mark.parametrize(
    ("predicate", "a", "expected"),
    [
        ({"is": "value", "trial": "a", "low": 0.5}, 0.5, "reproduced"),
        ({"is": "value", "trial": "a", "high": 0.5}, 0.5, "reproduced"),
        ({"is": "value", "trial": "a", "low": 0.25, "high": 0.5}, 0.75, "contradicted"),
        (A_OVER_B, 0.75, "reproduced"),
        (A_OVER_B, 0.5, "contradicted"),
        ({"is": "best", "among": ["a", "b"], "winners": ["a"]}, 0.5, "contradicted"),
    ],
)
def test_values_without_spread_are_taken_at_their_word(predicate, a, expected):
    log = log_of(trials={"a": [a] * 3, "b": [0.5] * 3})
    assert verdict(log, predicate).verdict == expected


def test_a_flat_curve_neither_rises_nor_falls():
    log = log_of(trials={"a": [np.full(EPOCHS, 0.2)] * 3})
    for direction, expected in (("rising", "contradicted"), ("falling", "contradicted")):
        found = verdict(log, {"is": "trend", "trial": "a", "direction": direction})
        assert found.verdict == expected


def test_a_diverged_loss_is_above_every_other_and_not_missing():
    predicate = {"is": "greater", "metric": "val_loss", "a": "a", "b": "b"}
    lost = {"a": [math.nan] * 4, "b": around(0.5, seeds=4)}
    found = verdict(log_of("val_loss", lost), predicate)
    assert (found.verdict, found.n) == ("reproduced", 4)
    assert "inf" in found.observed
    low = {"is": "value", "metric": "val_loss", "trial": "a", "high": 9.0}
    assert verdict(log_of("val_loss", lost), low).verdict == "contradicted"


@pytest.mark.parametrize(("seeds", "expected"), [(5, "inconclusive"), (6, "reproduced")])
def test_where_some_seeds_diverge_only_their_signs_count(seeds, expected):
    lost = {"a": [math.nan, *around(0.6)], "b": [*around(0.5), 0.5]}
    log = log_of("val_loss", {name: values[:seeds] for name, values in lost.items()})
    predicate = {"is": "greater", "metric": "val_loss", "a": "a", "b": "b"}
    assert verdict(log, predicate).verdict == expected


def test_curves_that_diverge_can_be_judged():
    curve = np.r_[np.linspace(1, 0.4, 5), [math.nan] * 5]
    log = log_of("val_loss", {"a": [curve, curve + 0.1, curve - 0.1]})
    kinds = {
        "falling": {"is": "trend", "direction": "falling"},
        "rising": {"is": "trend", "direction": "rising"},
        "minimum": {"is": "minimum", "between": [4, 6], "rise": 1.0},
        "quiet": {"is": "largest_rise", "at_most": 0.5},
        "low": {"is": "share", "high": 2.0, "at_least": 0.9},
    }
    found = {
        name: verdict(log, {"metric": "val_loss", "trial": "a"} | kind).verdict
        for name, kind in kinds.items()
    }
    assert found == {
        "falling": "contradicted", "rising": "reproduced", "minimum": "reproduced",
        "quiet": "contradicted", "low": "contradicted",
    }  # fmt: skip


def test_two_diverged_trainings_cannot_be_compared_by_their_losses():
    lost = {"a": [math.nan] * 3, "b": [math.nan] * 3}
    found = verdict(
        log_of("val_loss", lost), {"is": "greater", "metric": "val_loss", "a": "a", "b": "b"}
    )
    assert (found.verdict, found.n) == ("not run", 0)


def test_pairs_are_formed_by_seed():
    """A spread that both trials share, far larger than their difference, does not count."""
    luck = np.array([0.5, -0.3, 0.1, 0.4, -0.2])
    steps = np.array([0.010, 0.012, 0.009, 0.011, 0.010])
    log = log_of(trials={"a": list(luck + steps), "b": list(luck)})
    assert verdict(log, A_OVER_B).verdict == "reproduced"
    shuffled = log_of(trials={"a": list(luck[::-1] + steps), "b": list(luck)})
    assert verdict(shuffled, A_OVER_B).verdict == "inconclusive"


def test_hopeless_claims_beside_it_can_leave_a_borderline_one_undecided():
    trials = {"a": around(0.9, 0.01), "b": around(0.885, 0.002)[::-1], "c": around(0.9, 0.01)[::-1]}
    log = log_of(trials=trials)
    borderline = claim(A_OVER_B, number=0)
    alone = judge(log, borderline).loc["C0"]
    hopeless = [claim({"is": "greater", "a": "a", "b": "c"}, number=i) for i in range(1, 41)]
    crowded = judge(log, borderline, *hopeless).loc["C0"]
    assert (alone.verdict, crowded.verdict) == ("reproduced", "inconclusive")
    assert alone.p == crowded.p
    assert crowded["seeds needed"] > 5, "the seeds at hand did not do"


@pytest.mark.parametrize("crowd", [1, 10])
def test_as_many_seeds_as_needed_decide(crowd):
    """With mean and spread as they are, the estimate is the first number that is enough."""
    rng = np.random.default_rng(3)

    def found(count):
        steps = rng.normal(size=count)
        steps = (steps - steps.mean()) / steps.std(ddof=1)
        log = log_of(trials={"a": list(0.9 + 0.01 * (1 + steps)), "b": [0.9] * count})
        crowded = [claim(A_OVER_B, number=i) for i in range(crowd)]
        return judge(log, *crowded).loc["C0"]

    needed = int(found(4)["seeds needed"])
    assert found(needed - 1).verdict == "inconclusive"
    assert found(needed - 1)["seeds needed"] == needed
    assert found(needed).verdict == "reproduced"


# --- calibration -----------------------------------------------------------------------------

DRAWS = 1000


def draws(count, names, effect=0.0):
    """Logs of trials with five seeds and unit spread; the first lies `effect` above the others."""
    noise = np.random.default_rng(1337).normal(size=(count, len(names) * 5))
    noise[:, :5] += effect
    results = log_of(trials={name: [0.0] * 5 for name in names}).results
    for values in noise:
        yield RunLog(results.assign(val_accuracy=values), pd.DataFrame())


@pytest.fixture(scope="module")
def no_difference():
    """Verdicts and p-values of three claims about equal trials, an array (draw, claim) each."""
    experiment = [
        claim(A_OVER_B, number=1),
        claim({"is": "difference", "a": "c", "b": "d", "high": 0.0}, number=2),
        claim({"is": "best", "among": ["a", "c", "d"], "winners": ["a"]}, number=3),
    ]
    tables = [judge(log, *experiment) for log in draws(DRAWS, "abcd")]
    return tuple(np.array([table[column] for table in tables]) for column in ("verdict", "p"))


def fair_count(level, count=DRAWS):
    """How many of `count` draws are decided at a level, at most, in 99 of 100 cases.

    The t-test decides exactly `level` of the draws without a difference; a fixed number of draws
    scatters around it, by 0.7 points at five percent.
    """
    return stats.binom.ppf(0.99, count, level)


def test_one_claim_without_a_difference_is_rarely_decided(no_difference):
    """By itself a claim is decided where its p is at most five percent."""
    p_values = no_difference[1][:, 0]
    decided = (p_values <= 0.05).sum()
    assert 0.02 * DRAWS < decided <= fair_count(0.05)
    for log, p_value in zip(draws(30, "abcd"), p_values, strict=False):
        alone = judge(log, claim(A_OVER_B)).loc["C1"]
        assert alone.p == p_value
        assert (alone.verdict in ("reproduced", "contradicted")) == (p_value <= 0.05)


def test_several_claims_without_differences_are_rarely_decided(no_difference):
    """Holm's correction holds for the experiment: rarely is even one of its claims decided."""
    decided = no_difference[0] != "inconclusive"
    assert decided.mean() <= 0.05
    assert decided.any(axis=1).sum() <= fair_count(0.05)
    for way in ("reproduced", "contradicted"):
        assert (no_difference[0][:, 0] == way).mean() <= 0.025


def test_difference_of_three_standard_deviations_is_found_with_five_seeds():
    """Three of one trial's deviations, for a claim by itself; paired differences scatter more."""
    found = [judge(log, claim(A_OVER_B)).loc["C1", "verdict"] for log in draws(200, "ab", 3.0)]
    assert found.count("reproduced") / len(found) >= 0.9
    assert "contradicted" not in found


def test_differences_of_three_standard_deviations_are_found_among_several_claims():
    """Three deviations of the paired difference, with Holm's correction over five claims."""
    experiment = [claim(A_OVER_B | {"b": other}, number=i) for i, other in enumerate("bcdef")]
    effect = 3.0 * math.sqrt(2)
    found = [judge(log, *experiment)["verdict"] for log in draws(100, "abcdef", effect)]
    assert np.mean([verdicts == "reproduced" for verdicts in found]) >= 0.9


def test_an_effect_that_is_none_is_rarely_decided():
    """Pairs of equal trials, whatever luck the two of a pair share: LEVEL of the claims."""
    count, random = 300, np.random.default_rng(1337)
    results = grid_log("val_accuracy", {(x, y): [0.0] for x in (1, 2) for y in range(4)}).results
    luck = np.tile(random.normal(size=4), 2)
    found = []
    for noise in random.normal(size=(count, len(results))):
        log = RunLog(results.assign(val_accuracy=luck + noise), pd.DataFrame())
        found.append(judge(log, claim(X_EFFECT)).loc["C1", "verdict"])
    decided = found.count("reproduced") + found.count("contradicted")
    assert 0.02 * count < decided <= fair_count(interval_tests.LEVEL, count)
    assert decided + found.count("inconclusive") == count


# --- what is no claim ------------------------------------------------------------------------


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
        ({"is": "best", "among": ["a", "b"], "winners": ["c"]}, "not among"),
        ({"is": "best", "among": ["a", "b"], "winners": ["b", "a"]}, "cannot fail"),
        ({"is": "best", "winners": ["b"]}, "either among or sweep"),
        ({"is": "best", "among": ["a", "b"], "sweep": "s", "winners": ["b"]}, "either among or"),
        ({"is": "best", "among": ["a"], "winners": ["a"]}, "at least two"),
        ({"is": "trend", "trial": "a", "direction": "flat"}, "flat needs by"),
        ({"is": "trend", "trial": "a", "direction": "up"}, "direction"),
        ({"is": "trend", "metric": "seconds", "trial": "a", "direction": "rising"}, "no curve"),
        ({"is": "trend", "trial": "a", "direction": "rising", "statistic": "min"}, "statistic"),
        ({"is": "minimum", "trial": "a", "between": [9, 2]}, "run backwards"),
        ({"is": "share", "trial": "a", "low": 0, "at_least": 1.5}, "at_least"),
        ({"is": "largest_rise", "trial": "a"}, "either at_most or at_least"),
        ({"is": "largest_rise", "trial": "a", "at_most": 1, "at_least": 1}, "either at_most"),
        ({"is": "chance", "metric": "val_loss", "trial": "a", "tolerance": 0.1}, "accuracy"),
        ({"is": "repeats", "trial": "a"}, "give low, high or both"),
        (CONFUSES | {"low": None, "high": None}, "give low, high or both"),
        ({"is": "separates", "sweep": "s", "strong": [], "weak": ["model.x"]}, "strong"),
        ({"is": "effect", "sweep": "s", "axis": "model.x", "a": 1}, "b"),
    ],
)
def test_predicate_that_cannot_be_meant_is_refused(predicate, message):
    with pytest.raises(ValidationError, match=message):
        claim(predicate)
