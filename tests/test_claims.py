"""Claims are decided where the measurements leave no doubt, and only there."""

import itertools
import math

import numpy as np
import pytest

from log_tools import EPOCHS, around, confused_log, grid_log, lines, log_of
from refit.experiments import expand
from refit.experiments.declaration import Declaration, Profile, Source, Sweep
from refit.experiments.predicates import Claim
from refit.run_directory import log as run_log
from refit.verdicts import claims, contrasts, words

PROFILES = {
    "full": Profile(description="as published"),
    "small": Profile(description="cut"),
    "smoke": Profile(description="embedded", comparable=False),
}


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
    fixed = {"id": f"C{number}", "by": "stated", "statement": "It is so.", "weight": "detail"}
    fixed |= {"quote": "it is so", "place": "page 1"}
    return Claim.model_validate(fixed | {"holds": predicates} | settings)


def judge(log, *judged, profile="full", processor="CPU", seeds=5):
    """The claims' rows, by id, where sweep s was declared to have so many seeds at full scale."""
    declaration = Declaration.model_construct(
        claims=list(judged),
        profiles=PROFILES,
        sweeps={"s": Sweep.model_construct(title="s", seeds={"full": seeds})},
        source=Source.model_construct(processor=processor),
    )
    table = claims.judge(declaration, profile, log)
    assert list(table.columns) == claims.COLUMNS
    return table.set_index("id")


def verdict(log, *holds, **settings):
    return judge(log, claim(*holds), **settings).loc["C1"]


A_OVER_B = {"is": "difference", "a": "a", "b": "b", "low": 0}
X_EFFECT = {"is": "effect", "sweep": "s", "axis": "model.x", "a": 2, "b": 1, "low": 0}
CONFUSES = {
    "is": "confuses", "metric": "test_accuracy", "trial": "a",
    "actual": "Shirt", "predicted": "Coat", "low": 0.25, "high": 0.35,
}  # fmt: skip
APART = {"a": around(0.92), "b": around(0.9)[::-1]}

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
        {"is": "order", "trials": list("abcdef"), "direction": "ascending", "at_least": 0.7},
        {name: around(0.5 + 0.1 * i) for i, name in enumerate("abcdef")},
        {name: around(0.5 + 0.1 * i) for i, name in enumerate("fbcdea")},
        {name: around(0.5 + 0.1 * i, 0.1)[:: (-1) ** i] for i, name in enumerate("abcdef")},
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
    return log, predicate


@pytest.mark.parametrize("kind", CASES)
def test_predicate_is_reproduced_contradicted_or_left_open(kind):
    verdicts = (words.REPRODUCED, words.CONTRADICTED, None)
    for trials, expected in zip(CASES[kind][1:], verdicts, strict=True):
        found = verdict(*measured(kind, trials))
        assert found.scope == words.AS_PUBLISHED
        assert (found.verdict, found.n) == (expected or words.INCONCLUSIVE, 5), found.observed
        assert (found.q <= 0.05) == bool(expected)
        assert found.interval_low <= found.estimate <= found.interval_high
        assert found.small_scale == ""


# --- replicates ------------------------------------------------------------------------------


@pytest.mark.parametrize(("seeds", "expected"), [(1, ""), (4, ""), (5, words.REPRODUCED)])
def test_a_verdict_takes_the_declared_number_of_seeds(seeds, expected):
    log = log_of(trials={name: values[:seeds] for name, values in APART.items()})
    found = verdict(log, A_OVER_B)
    assert found.verdict == expected or words.INCONCLUSIVE
    assert found.reason == ("" if expected else f"{seeds} of 5 seeds")
    assert (found.n, found.seeds_declared) == (seeds, 5)
    assert np.isnan(found.p) == (not expected)


def test_more_seeds_than_declared_change_no_verdict():
    """Or one could go on until the claim is decided."""
    more = {"a": [*around(0.92), 0.1, 0.1], "b": [*around(0.9)[::-1], 0.9, 0.9]}
    found, first = verdict(log_of(trials=more), A_OVER_B), verdict(log_of(trials=APART), A_OVER_B)
    assert (found.n, found.p, found.verdict) == (5, first.p, words.REPRODUCED)


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_fewer_than_three_seeds_decide_nothing_whatever_was_declared(seeds):
    log = log_of(trials={name: values[:seeds] for name, values in APART.items()})
    assert (verdict(log, A_OVER_B, seeds=seeds).verdict == words.REPRODUCED) == (seeds == 3)


def test_a_grid_trained_once_decides_an_effect_when_it_is_whole():
    once = {point: values[:1] for point, values in pairs(0.02).items()}
    found = verdict(grid_log("val_accuracy", once), X_EFFECT)
    assert (found.verdict, found.n, found.unit) == (words.REPRODUCED, 5, "matched pair")
    log = grid_log("val_accuracy", once)
    log.results.loc[0, ["status", "val_accuracy"]] = ["missing", np.nan]
    found = verdict(log, X_EFFECT)
    assert (found.verdict, found.reason) == (words.INCONCLUSIVE, "9 of 10 trainings")


def test_a_difference_uses_the_seeds_that_both_sides_have():
    """A spread that both trials share, far larger than their difference, does not count."""
    luck = np.array([0.5, -0.3, 0.1, 0.4, -0.2])
    steps = np.array([0.010, 0.012, 0.009, 0.011, 0.010])
    log = log_of(trials={"a": list(luck + steps), "b": list(luck)})
    assert verdict(log, A_OVER_B).verdict == words.REPRODUCED
    shuffled = log_of(trials={"a": list(luck[::-1] + steps), "b": list(luck)})
    assert verdict(shuffled, A_OVER_B).verdict == words.INCONCLUSIVE
    assert verdict(log_of(trials={"a": around(0.9), "b": around(0.8)[:3]}), A_OVER_B).n == 3


# --- scope -----------------------------------------------------------------------------------


def test_what_has_no_result_needs_more_computing(tmp_path, make_tiny):
    trials = [
        make_tiny(name=name, sweep="s", model={"name": "lenet", "options": {"x": x, "y": y}})
        for name, (x, y) in zip("abcd", itertools.product((1, 2), repeat=2), strict=True)
    ]
    log = run_log.read(
        [trial.model_copy(update={"published_epochs": 3}) for trial in trials], tmp_path
    )
    found = judge(log, *(claim(case[0], number=i) for i, case in enumerate(CASES.values())))
    assert set(found["verdict"]) == {words.NOT_JUDGED}
    assert found["p"].isna().all()
    assert set(found["observed"]) == {""}


def test_undecidable_claim_says_what_it_needs_and_why():
    undecidable = claim(undecidable={"needs": "size", "why": "It names no value."})
    found = judge(log_of(trials={"a": [0.9]}), undecidable).loc["C1"]
    assert (found.verdict, found.reason) == (words.NOT_JUDGED, words.SIZE)
    assert found.note == "It names no value"


ALTERED = {
    "profile": {"profile": "small"},
    "epochs": {"published_epochs": 2 * EPOCHS},
    "images": {"cut": True},
    "network": {"altered": {"a": True, "b": False}},
}


@pytest.mark.parametrize("what", ALTERED)
@pytest.mark.parametrize(("low", "expected"), [(0, words.LIKE), (0.01, words.UNCLEAR)])
def test_trainings_other_than_published_show_a_direction_at_small_scale(what, low, expected):
    facts = dict(ALTERED[what])
    profile = facts.pop("profile", "full")
    log = log_of(trials=APART, **facts)
    found = verdict(log, A_OVER_B | {"low": low}, profile=profile)
    assert (found.scope, found.small_scale) == (words.AT_SMALL_SCALE, expected)
    assert (found.verdict, found.reason) == (words.NOT_JUDGED, words.COMPUTING)
    opposite = verdict(log, A_OVER_B | {"a": "b", "b": "a"}, profile=profile)
    assert (opposite.verdict, opposite.small_scale) == (words.NOT_JUDGED, words.UNLIKE)
    level = verdict(log, {"is": "value", "trial": "a", "low": 0.1}, profile=profile)
    assert level.small_scale == words.UNCLEAR


def test_embedded_data_say_nothing_at_any_scale():
    for facts, profile in (({}, "smoke"), ({"data": "digits", "demonstration": True}, "full")):
        found = verdict(log_of(trials=APART, **facts), A_OVER_B, profile=profile)
        assert (found.verdict, found.reason) == (words.NOT_JUDGED, words.EMBEDDED)
        assert found.small_scale == ""


def test_stand_in_labels_bar_levels_but_not_orders_of_networks():
    log = log_of(trials={"a": lines(0.3), "b": lines(0.2)[::-1]}, data="fashion_mnist_pairs")
    within = {"is": "value", "trial": "a", "statistic": "change", "low": 0}
    found = judge(log, claim(A_OVER_B), claim(CASES["value"][0], number=2), claim(within, number=3))
    assert found["verdict"].tolist() == [words.REPRODUCED, words.NOT_JUDGED, words.NOT_JUDGED]
    assert found["reason"].tolist() == ["", words.LABELS, words.LABELS]
    for kind, metric in (("order", "val_accuracy"), ("ratio", "val_loss")):
        log = log_of(metric, CASES[kind][1], data="fashion_mnist_pairs")
        assert verdict(log, CASES[kind][0] | {"metric": metric}).verdict == words.REPRODUCED


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"data": "photographs", "stand_in": True}, words.PHOTOGRAPHS),
        ({"data": "digit_clips"}, words.VIDEOS),
        ({"data": "gesture", "status": "missing"}, words.VIDEOS),
        ({"pretrained": "imagenet", "status": "missing"}, words.WEIGHTS),
    ],
)
def test_what_cannot_be_had_is_named_even_before_anything_is_trained(facts, reason):
    found = verdict(log_of(trials=APART, **facts), A_OVER_B)
    assert (found.verdict, found.reason) == (words.NOT_JUDGED, reason)


def test_counts_are_exact_from_one_run_whatever_was_trained():
    count = {"is": "value", "metric": "total_params", "trial": "a", "low": 7, "high": 7}
    for value, expected in ((7, words.REPRODUCED), (8, words.CONTRADICTED)):
        log = log_of("total_params", {"a": [value]}, data="fashion_mnist_pairs")
        found = verdict(log, count)
        assert (found.verdict, found.n) == (expected, 1)
        assert np.isnan(found.p)
    log = log_of("total_params", {"a": [7]}, altered=True)
    assert verdict(log, count).verdict == words.NOT_JUDGED


# --- times -----------------------------------------------------------------------------------

WALL_TIMES = ["seconds", "seconds_to_target", "seconds_per_epoch", "microseconds_per_sample"]
PROCESSOR_TIMES = ["processor_seconds", "processor_seconds_to_target"]
SLOWER = {"a": around(30, 0.1), "b": around(20, 0.1)[::-1]}


@pytest.mark.parametrize("metric", [*WALL_TIMES, *PROCESSOR_TIMES])
def test_times_of_shared_or_different_machines_decide_nothing(metric):
    longer = A_OVER_B | {"metric": metric}
    assert verdict(log_of(metric, SLOWER), longer).verdict == words.REPRODUCED
    shared = verdict(log_of(metric, SLOWER, workers={"a": 1, "b": 2}), longer)
    assert shared.reason == (words.SHARED if metric in WALL_TIMES else "")
    apart = verdict(log_of(metric, SLOWER, machine={"a": "laptop", "b": "server"}), longer)
    assert (apart.verdict, apart.reason) == (words.NOT_JUDGED, words.SEVERAL)


@pytest.mark.parametrize(
    ("predicate", "same", "other"),
    [
        ({"is": "value", "trial": "a", "low": 1}, False, False),
        ({"is": "ratio", "a": "a", "b": "b", "low": 1.2, "high": 2}, True, False),
        (A_OVER_B | {"low": 5}, True, False),
        (A_OVER_B, True, True),
    ],
)
def test_sizes_of_times_are_judged_on_the_kind_of_hardware_that_the_report_had(
    predicate, same, other
):
    for gpus, processor, judged in [
        (0, "CPU", same), (1, "GPU", same), (0, "GPU", other), (1, "CPU", other),
        (0, "not stated", other),
    ]:  # fmt: skip
        log = log_of("seconds", SLOWER, gpus=gpus)
        found = verdict(log, predicate | {"metric": "seconds"}, processor=processor)
        assert found.verdict == (words.REPRODUCED if judged else words.NOT_JUDGED)
        assert found.reason == ("" if judged else words.HARDWARE)


# --- several parts ---------------------------------------------------------------------------

PARTS = {
    "holds": A_OVER_B,
    "fails": A_OVER_B | {"a": "b", "b": "a"},
    "open": A_OVER_B | {"b": "wild"},
    "missing": A_OVER_B | {"b": "nobody"},
    "few": A_OVER_B | {"b": "two"},
    "barred": {"is": "value", "trial": "a", "low": 0.1},
    "shared": A_OVER_B | {"metric": "seconds"},
    "count": {"is": "value", "metric": "layers", "trial": "a", "low": 5, "high": 5},
    "miscount": {"is": "value", "metric": "layers", "trial": "a", "low": 6, "high": 6},
}
PARTIAL = APART | {"wild": around(0.9, 0.1), "two": [0.8, 0.81]}


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (["holds", "holds"], words.REPRODUCED),
        (["holds", "count"], words.REPRODUCED),
        (["holds", "open"], words.INCONCLUSIVE),
        (["holds", "few"], words.INCONCLUSIVE),
        (["few", "count"], words.INCONCLUSIVE),
        (["holds", "shared"], words.NOT_JUDGED),
        (["holds", "missing"], words.NOT_JUDGED),
        (["holds", "barred"], words.NOT_JUDGED),
        (["missing", "barred"], words.NOT_JUDGED),
        (["fails", "holds"], words.CONTRADICTED),
        (["fails", "open", "count"], words.CONTRADICTED),
        (["fails", "few"], words.CONTRADICTED),
        (["fails", "shared", "missing"], words.CONTRADICTED),
        (["fails", "barred"], words.CONTRADICTED),
        (["miscount", "holds", "few"], words.CONTRADICTED),
    ],
)
def test_all_parts_bear_a_claim_out_and_any_part_refutes_it(parts, expected):
    log = log_of(trials=PARTIAL, data="fashion_mnist_pairs", workers=2, layers=5)
    log.results["seconds"] = log.results["val_accuracy"]
    for order in itertools.permutations(parts):
        found = verdict(log, *(PARTS[part] for part in order))
        assert found.verdict == expected, found


def test_a_part_must_refute_at_its_share_of_the_level():
    """Of many parts one can look false by chance."""
    log = log_of(trials={"a": around(0.9, 0.01), "b": around(0.9165, 0.002)[::-1]})
    harmless = A_OVER_B | {"low": -1.0}
    assert verdict(log, A_OVER_B).verdict == words.CONTRADICTED
    assert verdict(log, A_OVER_B, *[harmless] * 9).verdict == words.INCONCLUSIVE


def test_the_part_that_decides_is_shown():
    log = log_of(trials=APART | {"c": around(0.5)})
    weaker, stronger = A_OVER_B, A_OVER_B | {"b": "c"}
    found = verdict(log, stronger, weaker)
    assert found.estimate == pytest.approx(0.02)
    assert found.note == "2 parts, of which the weakest is shown"
    assert found.trials == "a, c, b"
    found = verdict(log, stronger, A_OVER_B | {"a": "c", "b": "b"})
    assert found.estimate == pytest.approx(-0.4)


def test_claim_that_the_report_contradicts_is_judged_all_the_same():
    told = claim(A_OVER_B, contradicted_by_report=True, note="See A01.")
    found = judge(log_of(trials=APART), told).loc["C1"]
    assert found.verdict == words.REPRODUCED
    assert found.note == "the report's own numbers speak against it. See A01"


def test_hopeless_claims_beside_it_can_leave_a_borderline_one_undecided():
    trials = {"a": around(0.9, 0.01), "b": around(0.885, 0.002)[::-1], "c": around(0.9, 0.01)[::-1]}
    log = log_of(trials=trials)
    hopeless = [claim(A_OVER_B | {"b": "c"}, number=i) for i in range(2, 12)]
    alone = judge(log, claim(A_OVER_B)).loc["C1"]
    crowded = judge(log, claim(A_OVER_B), *hopeless).loc["C1"]
    assert (alone.verdict, crowded.verdict) == (words.REPRODUCED, words.INCONCLUSIVE)
    assert alone.p == crowded.p == alone.q
    assert crowded.q > 0.05


# --- diverged trainings ----------------------------------------------------------------------

LOSS = A_OVER_B | {"metric": "val_loss"}


@pytest.mark.parametrize(
    ("lost", "seeds", "expected"),
    [
        ([math.nan] * 6, 6, words.REPRODUCED),
        ([math.nan, *around(0.6)], 6, words.REPRODUCED),
        ([math.nan, *around(0.6)], 5, words.INCONCLUSIVE),
    ],
)
def test_where_some_seeds_diverge_only_their_signs_count(lost, seeds, expected):
    trials = {"a": lost[:seeds], "b": [*around(0.5), 0.5][:seeds]}
    found = verdict(log_of("val_loss", trials), LOSS, seeds=seeds)
    assert (found.verdict, found.n) == (expected, seeds)


def test_two_diverged_trainings_cannot_be_compared_by_their_losses():
    found = verdict(log_of("val_loss", {"a": [math.nan] * 5, "b": [math.nan] * 5}), LOSS)
    assert (found.verdict, found.reason) == (words.NOT_JUDGED, words.COMPUTING)


@pytest.mark.parametrize(
    ("needs", "verdict"), [("computing", "reproduced"), ("hardware", words.NOT_JUDGED)]
)
def test_what_cannot_be_had_is_shown_and_not_judged(needs, verdict):
    """Computing was had after all; the report's hardware never is, whatever was measured."""
    lacking = claim(A_OVER_B, undecidable={"needs": needs, "why": "It was theirs."})
    found = judge(log_of(trials={"a": around(0.92), "b": around(0.9)[::-1]}), lacking).loc["C1"]
    assert (found.verdict, found.n) == (verdict, 5)
    assert found.observed


def test_readers_are_told_titles_wherever_trials_and_sweeps_are_spoken_of():
    name = contrasts.names(expand.load("cifar10"))
    told = name("max of mlp_l2 (without mlp-l2-0.1) − mlp-l2-0.0, train_loss: 0.2")
    decay = "Perceptron, weight decay"
    assert told == f"highest of {decay} (without {decay} 0.1) − {decay} 0.0, train_loss: 0.2"
