"""Claims are decided where the measurements leave no doubt, and only there."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from log_tools import EPOCHS, around, confused_log, grid_log, lines, log_of
from refit.experiments.declaration import Declaration, Profile
from refit.experiments.predicates import Claim
from refit.run_directory import log as run_log
from refit.run_directory.log import RunLog
from refit.verdicts import claims, interval_tests

FULL = Profile(description="as published")


def valleys(*epochs, rise=0.1):
    """Curves with their minima at these epochs, that rise by `rise` per epoch from there."""
    return [rise * np.abs(np.arange(1, EPOCHS + 1) - epoch) for epoch in epochs]


def jumps(height, width=0.002):
    """Falling curves with one rise by about `height` at epoch 5."""
    return [
        np.linspace(1, 0.5, EPOCHS) + (step + 0.5 / 9) * (np.arange(EPOCHS) >= 4)
        for step in around(height, width)
    ]


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


def claim(*holds, number=1, **settings):
    predicates = [{"metric": "val_accuracy"} | predicate for predicate in holds]
    fixed = {"id": f"C{number}", "by": "stated", "statement": "It is so."} | {
        "weight": "detail",
        "quote": "it is so",
        "place": "page 1",
    }
    return Claim.model_validate(fixed | {"holds": predicates} | settings)


def judge(log, *judged, profile=FULL):
    """The claims' rows, by id."""
    declaration = Declaration.model_construct(claims=list(judged), classes=5)
    return claims.judge(declaration, profile, log).set_index("id")


def verdict(log, *holds, **settings):
    return judge(log, claim(*holds, **settings), **{}).loc["C1"]


A_OVER_B = {"is": "difference", "a": "a", "b": "b", "low": 0}
X_EFFECT = {"is": "effect", "sweep": "s", "axis": "model.x", "a": 2, "b": 1, "low": 0}
CONFUSES = {
    "is": "confuses", "metric": "test_accuracy", "trial": "a",
    "actual": "Shirt", "predicted": "Coat", "low": 0.25, "high": 0.35,
}  # fmt: skip

# Predicate, then the measurements that bear it out, refute it, and leave it open.
CASES = {
    "difference, low": (
        A_OVER_B | {"low": 0.01},
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
        {"is": "order", "trials": ["a", "b", "c"], "direction": "ascending", "at_least": 0.9},
        {"a": around(0.7), "b": around(0.8)[::-1], "c": around(0.9)},
        {"a": around(0.7), "b": around(0.9)[::-1], "c": around(0.8)},
        {"a": around(0.7), "b": around(0.8)[::-1], "c": around(0.81, 0.1)},
    ),
    "best": (
        {"is": "difference", "a": "a", "b": {"trials": ["b", "c"], "take": "best"}, "low": -0.002},
        {"a": around(0.9), "b": around(0.8)[::-1], "c": around(0.7)},
        {"a": around(0.8), "b": around(0.9)[::-1], "c": around(0.7)},
        {"a": around(0.9, 0.1), "b": around(0.89)[::-1], "c": around(0.7)},
    ),
    "gap": (
        {
            "is": "difference",
            "a": {"of": "c", "over": "d"},
            "b": {"of": "a", "over": "b"},
            "low": 0,
        },
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
    "change, rising": (
        {"is": "value", "trial": "a", "statistic": "change", "low": 0.1},
        {"a": lines(0.3)},
        {"a": lines(-0.3)},
        {"a": lines(0.12, 0.2)},
    ),
    "change, flat": (
        {
            "is": "value",
            "trial": "a",
            "statistic": "change",
            "epochs": [3, 8],
            "low": -0.05,
            "high": 0.05,
        },
        {"a": lines(0.0)},
        {"a": lines(-0.3)},
        {"a": lines(0.0, 0.2)},
    ),
    "share of epochs": (
        {"is": "value", "trial": "a", "inside": [0.5, 0.75], "low": 0.5},
        {"a": lines(0.3, 0.02)},
        {"a": lines(2.0, 0.2)},
        {"a": lines(0.45, 0.3)},
    ),
    "largest rise": (
        {
            "is": "value",
            "metric": "train_loss",
            "trial": "a",
            "statistic": "largest_rise",
            "high": 0.1,
        },
        {"a": jumps(0.05)},
        {"a": jumps(0.2)},
        {"a": jumps(0.09, 0.1)},
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


@pytest.mark.parametrize(("kind", "seeds"), [("value", 1), ("change, flat", 1)])
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
    found = judge(
        log_of(trials={"a": [0.9]}),
        claim(undecidable={"needs": "size", "why": "It names no value."}),
    )
    assert found.loc["C1", ["verdict", "note"]].tolist() == ["undecidable", "It names no value"]


def test_demonstration_data_decide_nothing():
    log, predicate = measured("difference, low", CASES["difference, low"][1])
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
        {"is": "value", "trial": "a", "statistic": "change", "low": 0, "epochs": [2, 4]},
        {"is": "share", "trial": "a", "low": 0.1, "at_least": 0.5},
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
        predicate = {"is": "difference", "a": {"sweep": "s", "take": take}, "b": "b", "low": -0.1}
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


# --- several parts ---------------------------------------------------------------------------

PARTS = {
    "holds": {"is": "difference", "a": "a", "b": "b", "low": 0},
    "fails": {"is": "difference", "low": 0, "a": "b", "b": "a"},
    "open": {"is": "difference", "low": 0, "a": "a", "b": "wild"},
    "missing": {"is": "difference", "low": 0, "a": "a", "b": "nobody"},
    "few": {"is": "difference", "low": 0, "a": "a", "b": "two"},
    "barred": {"is": "value", "trial": "a", "low": 0.1},
    "shared": {"is": "difference", "low": 0, "metric": "seconds", "a": "a", "b": "b"},
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
    harmless = {"is": "difference", "a": "a", "b": "b", "low": -1.0}
    assert verdict(log, A_OVER_B).verdict == "contradicted"
    assert verdict(log, A_OVER_B, *[harmless] * 9).verdict == "inconclusive"


def test_claim_that_the_report_contradicts_is_judged_all_the_same():
    log, predicate = measured("difference, low", CASES["difference, low"][1])
    found = verdict(log, predicate, contradicted_by_report=True, note="See A01.")
    assert found.verdict == "reproduced"
    assert found.note == "the report's own numbers speak against it. See A01"


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
    ],
)
def test_values_without_spread_are_taken_at_their_word(predicate, a, expected):
    log = log_of(trials={"a": [a] * 3, "b": [0.5] * 3})
    assert verdict(log, predicate).verdict == expected


def test_a_diverged_loss_is_above_every_other_and_not_missing():
    predicate = {"is": "difference", "low": 0, "metric": "val_loss", "a": "a", "b": "b"}
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
    predicate = {"is": "difference", "low": 0, "metric": "val_loss", "a": "a", "b": "b"}
    assert verdict(log, predicate).verdict == expected


def test_two_diverged_trainings_cannot_be_compared_by_their_losses():
    lost = {"a": [math.nan] * 3, "b": [math.nan] * 3}
    found = verdict(
        log_of("val_loss", lost),
        {"is": "difference", "low": 0, "metric": "val_loss", "a": "a", "b": "b"},
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
    hopeless = [
        claim({"is": "difference", "low": 0, "a": "a", "b": "c"}, number=i) for i in range(1, 41)
    ]
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
        claim({"is": "difference", "a": "a", "b": {"trials": ["c", "d"]}, "low": 0}, number=3),
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
