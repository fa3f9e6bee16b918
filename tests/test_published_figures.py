"""A published number agrees where another training of ours would lie, or the reason is given."""

import math

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from pydantic import ValidationError
from scipy import stats

from refit.experiments import expand
from refit.experiments.declaration import (
    Declaration,
    Figure,
    FigureTable,
    Profile,
    Published,
    Source,
    Sweep,
)
from refit.pages import tables
from refit.run_directory import log as run_log
from refit.run_directory.log import RunLog
from refit.verdicts import published_figures, words

CURVES = ["sweep", "trial", "seed", "epoch", "val_accuracy", "val_loss"]


def log_of(trials, curves=None, **facts):
    """A run log of trials, `{name: {metric: a number per seed}}`, alike but for their metrics."""
    shared = {"planned_epochs": 5, "published_epochs": 5, "batch_size": 32, "stand_in": False}
    shared |= {"cut": False, "status": "done", "sweep": "s"} | facts
    rows = [
        shared | {"trial": name, "seed": seed} | dict(zip(metrics, values, strict=True))
        for name, metrics in trials.items()
        for seed, values in enumerate(zip(*metrics.values(), strict=True))
    ]
    lines = [
        {"sweep": "s", "trial": name, "seed": seed, "epoch": epoch, "val_accuracy": value}
        for name, seeds in (curves or {}).items()
        for seed, curve in enumerate(seeds)
        for epoch, value in enumerate(curve, 1)
    ]
    return RunLog(pd.DataFrame(rows), pd.DataFrame(lines, columns=CURVES))


def table_of(log, figures, profile="full"):
    """The rows of some published numbers, or of the figures of a table."""
    profiles = {name: Profile(description=name) for name in ("full", "small")}
    profiles["smoke"] = Profile(description="smoke", comparable=False)
    declaration = Declaration.model_construct(
        published=Published.model_validate({"tables": [], "readings": figures}),
        profiles=profiles,
        sweeps={"s": Sweep.model_construct(title="s")},
        source=Source.model_construct(processor="CPU"),
    )
    table = published_figures.figures(declaration, profile, log)
    assert list(table.columns) == published_figures.COLUMNS
    return table


def row(log, text, metric="val_accuracy", trial="a", profile="full", **settings):
    """The row of one published number."""
    figure = {"place": "a table", "trial": trial, "metric": metric, "text": text} | settings
    return table_of(log, [figure], profile).iloc[0]


def accuracies(*values):
    return log_of({"a": {"val_accuracy": values}})


# --- verdicts --------------------------------------------------------------------------------

THREE = (0.88, 0.90, 0.92)


def test_a_number_is_inside_where_another_training_would_lie():
    """Mean ± t s sqrt(1 + 1/n), and what printing may have cut off."""
    half = stats.t.ppf(0.975, 2) * 0.02 * math.sqrt(1 + 1 / 3)
    found = row(accuracies(*THREE), "0.90")
    assert (found.interval_low, found.interval_high) == pytest.approx((0.9 - half, 0.9 + half))
    assert (found.n, found.published, found.lower, found.upper) == (3, 0.9, 0.88, 0.92)
    assert (found.reproduced, found.spread) == pytest.approx((0.9, 0.02))
    assert found.difference == pytest.approx(0)
    for distance, expected in ((half - 1e-4, words.INSIDE), (half + 1e-4, words.DIFFERS)):
        for sign in (-1, 1):
            assert row(accuracies(*THREE), f"{0.9 + sign * distance:.6f}").verdict == expected


@pytest.mark.parametrize(
    ("text", "rounding", "expected"),
    [
        # Beyond our interval, 0.9 exactly, by less than half a unit of the last digit, or by more.
        ("0.9", "rounded", words.INSIDE),
        ("0.90", "rounded", words.INSIDE),
        ("0.91", "rounded", words.DIFFERS),
        # A whole unit where digits were cut off or read from a plot.
        ("0.89", "truncated", words.INSIDE),
        ("0.89", "approximate", words.INSIDE),
        ("0.88", "truncated", words.DIFFERS),
    ],
)
def test_printing_allows_what_it_may_have_cut_off(text, rounding, expected):
    """Equal values have no spread, but that of one image."""
    log = log_of({"a": {"val_accuracy": [0.9] * 3}}, validation_images=10_000)
    assert row(log, text, rounding=rounding).verdict == expected
    assert row(log, text, rounding=rounding).interval_high == pytest.approx(0.9005, abs=1e-4)


@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_three_seeds_are_too_few(seeds):
    found = row(accuracies(*THREE[:seeds]), "0.1")
    assert (found.verdict, found.n) == (words.TOO_FEW_SEEDS, seeds)
    assert math.isnan(found.interval_low)
    assert math.isnan(row(accuracies(0.85), "0.9000").spread)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [([886245], "exact"), ([886245] * 3, "exact"), ([886246], "differs"), ([886245, 1], "differs")],
)
def test_counts_are_exact_or_differ_whatever_the_data(counts, expected):
    log = log_of({"a": {"total_params": counts}}, data="digits", cut=True, planned_epochs=1)
    for profile in ("full", "smoke"):
        assert row(log, "886245", "total_params", profile=profile).verdict == expected
    log = log_of({"a": {"total_params": counts}}, altered=True)
    assert row(log, "886245", "total_params").verdict == words.NOT_JUDGED


@pytest.mark.parametrize("metric", ["val_accuracy", "total_params"])
def test_what_has_no_result_needs_more_computing(metric):
    log = log_of({"a": {metric: [1.0]}})
    found = row(log, "1", metric, trial="b")
    assert (found.verdict, found.n, found.reason) == (words.NOT_JUDGED, 0, words.COMPUTING)
    assert math.isnan(found.reproduced)


@pytest.mark.parametrize(
    ("facts", "profile", "reason"),
    [
        ({"data": "fashion_mnist_pairs"}, "full", words.LABELS),
        ({"planned_epochs": 3}, "full", words.COMPUTING),
        ({"cut": True}, "full", words.COMPUTING),
        ({"altered": True}, "full", words.COMPUTING),
        ({}, "small", words.COMPUTING),
        ({}, "smoke", words.EMBEDDED),
    ],
)
def test_what_was_not_trained_as_published_is_not_judged(facts, profile, reason):
    log = log_of({"a": {"val_accuracy": THREE}}, **facts)
    found = row(log, "0.9", profile=profile)
    assert (found.verdict, found.reason) == (words.NOT_JUDGED, reason)
    assert found.reproduced == pytest.approx(0.9), "the number is shown all the same"


def test_speeds_of_other_hardware_are_not_compared():
    found = row(log_of({"a": {"seconds": [10, 11, 12]}}, workers=1), "11", "seconds")
    assert (found.verdict, found.reason) == (words.NOT_JUDGED, words.HARDWARE)


@pytest.mark.parametrize(
    ("losses", "expected"),
    [([math.nan] * 3, "differs"), ([0.4, 0.6, math.nan], "inside"), ([1, 2, math.nan], "differs")],
)
def test_diverged_losses_lie_between_their_extremes(losses, expected):
    found = row(log_of({"a": {"val_loss": losses}}), "0.5", "val_loss")
    assert (found.verdict, found.n, found.upper) == (expected, 3, math.inf)


# --- numbers that the report chose -----------------------------------------------------------


def test_the_best_of_a_list_is_held_against_what_we_would_have_chosen():
    """Of equal trials the best lies high by luck, the report's as well as ours."""
    random = np.random.default_rng(1)
    log = log_of({f"t{i}": {"val_accuracy": random.normal(0.9, 0.01, 8)} for i in range(50)})
    listed = {"place": "best", "columns": ["val_accuracy"], "rows": {"t7": ["0.9300"]}}
    chosen = FigureTable.model_validate(listed | {"best_of": "s"}).figures()
    plain = FigureTable.model_validate(listed).figures()
    found = table_of(log, chosen + plain)
    ours = log.results.pivot(index="seed", columns="trial", values="val_accuracy").max(axis=1)
    assert found["reproduced"].tolist() == pytest.approx(
        [ours.mean(), log.measure("t7", "val_accuracy").mean()]
    )
    assert found["verdict"].tolist() == [words.INSIDE, words.DIFFERS]
    assert found["reason"].tolist() == ["number 1 of each of our grids", ""]


def test_ranks_are_those_of_the_whole_sweep_and_of_the_first_column():
    log = log_of({name: {"val_accuracy": [v] * 3, "val_loss": [v] * 3} for name, v in
                  {"a": 0.1, "b": 0.3, "c": 0.2}.items()})  # fmt: skip
    rows = {"a": ["0.3", "0.1"], "b": ["0.2", "0.3"]}
    listed = {"place": "T", "columns": ["val_accuracy", "val_loss"], "rows": rows, "best_of": "s"}
    found = table_of(log, FigureTable.model_validate(listed).figures())
    assert found["reproduced"].tolist() == pytest.approx([0.3, 0.1, 0.2, 0.3])
    missing = log.results["status"].mask(log.results["trial"] == "c", "missing")
    found = table_of(
        RunLog(log.results.assign(status=missing), log.curves),
        FigureTable.model_validate(listed).figures(),
    )
    assert found["n"].tolist() == [0, 3, 0, 3]


# --- units, selections, epochs ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "percent", "value", "precision"),
    [
        ("90.12", True, 0.9012, 1e-4),
        ("58", True, 0.58, 1e-2),
        ("0.90", False, 0.9, 1e-2),
        ("886245", False, 886245.0, 1.0),
        ("-1.5", False, -1.5, 0.1),
    ],
)
def test_printed_text_keeps_its_unit_and_precision(text, percent, value, precision):
    figure = Figure(place="text", trial="a", metric="val_accuracy", text=text, percent=percent)
    assert figure.value == pytest.approx(value)
    assert figure.precision == pytest.approx(precision)


def test_percent_is_compared_as_a_fraction():
    near = accuracies(0.9011, 0.9012, 0.9013)
    assert row(near, "90.12", percent=True).verdict == words.INSIDE
    assert row(near, "91.12", percent=True).verdict == words.DIFFERS
    assert row(near, "90.12").verdict == words.DIFFERS


def test_published_maximum_is_one_draw_of_our_maxima():
    log = log_of(
        {"a": {"val_accuracy": [0.93, 0.80, 0.8]}, "b": {"val_accuracy": [0.70, 0.96, 0.95]}}
    )
    found = row(log, "0.9650", trial={"sweep": "s", "take": "max"})
    assert (found.verdict, found.n, found.lower, found.upper) == (words.INSIDE, 3, 0.93, 0.96)
    assert found.trial == "max of s"
    lowest = row(log, "0.7500", trial={"sweep": "s", "take": "min"})
    assert (lowest.verdict, lowest.lower, lowest.upper) == (words.INSIDE, 0.7, 0.8)


def test_selection_by_settings_takes_only_seeds_that_all_its_trials_have():
    log = log_of({"a": {"val_accuracy": [0.9, 0.8]}, "b": {"val_accuracy": [0.7]}})
    found = row(log, "0.9000", trial={"where": {"batch_size": [32]}, "take": "max"})
    assert (found.n, found.reproduced) == (1, 0.9)
    assert found.trial == "max of all (batch_size = [32])"


def test_figures_of_epochs_are_read_from_the_curve():
    curves = {"a": [[0.5, 0.6, 0.8, 0.7, 0.9]] * 3}
    log = log_of({"a": {"val_accuracy": [0.9] * 3}}, curves)
    cases = {
        (1, 1, "last"): ("1", 0.5), (2, 4, "mean"): ("2–4 (mean)", 0.7),
        (2, 4, "max"): ("2–4 (max)", 0.8), (3, 5, "min"): ("3–5 (min)", 0.7),
        (3, 5, "last"): ("3–5", 0.9),
    }  # fmt: skip
    for (first, last, statistic), (label, value) in cases.items():
        found = row(log, f"{value:.4f}", epochs=[first, last], statistic=statistic)
        assert (found.verdict, found.epochs, found.n) == (words.INSIDE, label, 3)
        assert found.reproduced == pytest.approx(value)
    whole = row(log, "0.5000", statistic="min")
    assert (whole.verdict, whole.epochs) == (words.INSIDE, " (min)")


def test_seed_without_the_epochs_is_left_out():
    log = log_of({"a": {"val_accuracy": [0.9, 0.9]}}, {"a": [[0.5, 0.6, 0.8], [0.5, 0.6]]})
    assert row(log, "0.8", epochs=[3, 3]).n == 1
    assert row(log, "0.8", epochs=[4, 4]).n == 0


def test_tables_of_trials_and_of_epochs_become_figures():
    trials = FigureTable(
        place="T1", columns=["val_accuracy", "seconds"], percent=["val_accuracy"],
        rounding="truncated", rows={"a": ["90.12", None], "b": ["91", "12"]},
    )  # fmt: skip
    assert [(f.trial, f.metric, f.value, f.percent, f.epochs) for f in trials.figures()] == [
        ("a", "val_accuracy", 0.9012, True, None),
        ("b", "val_accuracy", 0.91, True, None),
        ("b", "seconds", 12, False, None),
    ]
    assert {figure.rounding for figure in trials.figures()} == {"truncated"}
    epochs = FigureTable(place="T2", trial="a", columns=["val_loss"], rows={1: ["0.9"], 2: ["0.8"]})
    assert [(f.trial, f.epochs) for f in epochs.figures()] == [("a", (1, 1)), ("a", (2, 2))]


@pytest.mark.parametrize("text", [0.9, 1, True, "0.9 %", "1e3", ".5", "", "nan"])
def test_number_that_is_not_printed_text_is_refused(text):
    with pytest.raises(ValidationError, match="not a number in quotes"):
        Figure(place="text", trial="a", metric="val_accuracy", text=text)


def counted(table) -> dict[str, list[str]]:
    """The counts of verdicts as a page shows them, by metric."""
    rows = BeautifulSoup(tables.figure_counts(table).data, "html.parser").select("tbody tr")
    cells = [[cell.get_text() for cell in row.select("th, td")] for row in rows]
    return {metric: counts for metric, *counts in cells}


# --- the whole table -------------------------------------------------------------------------


def test_zoo_has_a_row_and_a_verdict_for_every_published_number(tmp_path):
    declaration = expand.load("fmnist_zoo")
    log = run_log.read(expand.expand(declaration, "full", 1), tmp_path)
    table = published_figures.figures(declaration, "full", log)
    assert len(table) == 367
    assert set(table["verdict"]) == {words.NOT_JUDGED}
    assert np.isfinite(table["published"]).all()
    assert counted(table)["all"][-1] == f"{(~table['repeats']).sum()}" != "367"


def test_a_number_that_stands_twice_counts_once():
    texts = (("0.90", "rounded"), ("0.9012", "rounded"), ("90.1", "truncated"), ("0.92", "rounded"))
    figures = [
        {"place": "T", "trial": "a", "metric": "val_accuracy", "text": text, "rounding": rounding}
        | {"percent": text.startswith("90")}
        for text, rounding in texts
    ]
    table = table_of(accuracies(*THREE), figures)
    assert table["repeats"].tolist() == [False, True, True, False]
    assert counted(table)["validation accuracy"][0] == "2"
