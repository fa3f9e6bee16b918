"""Runs in the order of the report: how they are paired, measured, drawn, and told."""

import math

import pandas as pd
import pytest

from refit.figures import sequence
from refit.figures.sequence import CARRIED, FRESH, PUBLISHED

SETTINGS = ["optimizer", "epochs"]


def results(fresh, carried, starts=(0,), seeds=(1,)):
    """A log of two sweeps with the same runs; a loss of None is a run that is not done."""
    rows = []
    for seed in seeds:
        for sweep, losses in (("new", fresh), ("old", carried)):
            for place, loss in enumerate(losses):
                source = None if sweep == "new" or place in starts else f"old-{place - 1}"
                row = {"sweep": sweep, "trial": f"{sweep}-{place}", "seed": seed}
                row |= {"optimizer": "sgd", "epochs": 20.0, "carried_over": source}
                row |= {"status": "missing" if loss is None else "done"}
                rows.append(row | {"train_loss": math.nan if loss is None else loss * seed})
    return pd.DataFrame(rows)


def runs(published, fresh, carried, **how):
    names = [f"new-{place}" for place in range(len(published))]
    printed = pd.Series(published, names, dtype=float).dropna()
    numbers = {name: place + 1 for place, name in enumerate(names)}
    measured = results(fresh, carried, **how)
    return sequence.runs(measured, "new", "old", printed, numbers, SETTINGS)


def scores(*losses, **how):
    return sequence.fit(runs(*losses, **how)).set_index("sequence")


def test_runs_are_paired_by_their_order_and_sessions_begin_with_new_weights():
    table = runs([7, 5, None], [4, math.nan, None], [4, 2, 8], starts=(0, 2))
    known = table.drop_duplicates("place")
    assert known["label"].tolist() == ["sgd 20"] * 3
    assert known["session"].tolist() == [1, 1, 2]
    losses = table.pivot(index="number", columns="source", values="loss")
    assert losses[PUBLISHED].tolist()[:2] == [7, 5]
    assert losses[FRESH].tolist()[:2] == [4, math.inf], "what is no number has diverged"
    assert losses[CARRIED].tolist() == [4, 2, 8]
    assert losses.loc[3, [PUBLISHED, FRESH]].isna().all()


def test_an_exact_copy_at_another_level_fits_perfectly():
    published = [8, 4, 6, 1, None, 0.5]
    table = scores(published, [3.0] * 6, [2 * (loss or 1) for loss in published])
    assert table["n"].tolist() == [5, 5, 5]
    assert table["steps"].tolist() == [3, 3, 3], "none leads over the run without a number"
    assert table["falls"].to_dict() == {PUBLISHED: 2, FRESH: 0, CARRIED: 2}
    measures = table.loc[CARRIED, [*sequence.MEASURES]].astype(float)
    assert measures.tolist() == pytest.approx([1, 1, 0], abs=1e-9)
    assert math.isnan(table.loc[FRESH, "rank correlation"])


def test_measures_of_a_small_example():
    table = scores([100, 10, 1, 10], [10, 10, 100, 1], [1000, 100, 10, 1], starts=(0, 2))
    assert table["steps"].tolist() == [2, 2, 2], "none leads from one session to the next"
    assert table["steps in the same direction"].tolist()[1:] == [0, 0.5]
    # Logarithms less the published: 1, 1, 1, -1 with the mean 0.5.
    assert table.loc[CARRIED, "deviation in decades"] == pytest.approx(math.sqrt(3) / 2)
    # Ranks 4, 2.5, 1, 2.5 against 4, 3, 2, 1.
    assert table.loc[CARRIED, "rank correlation"] == pytest.approx(3 / math.sqrt(4.5 * 5))


def test_a_diverged_run_ranks_highest_and_deviates_infinitely():
    table = scores([3, 2, 1], [math.nan, 2, 1], [math.nan, math.nan, 1])
    assert table["diverged"].tolist() == [0, 1, 2]
    assert table["deviation in decades"].tolist()[1:] == [math.inf, math.inf]
    assert table["steps in the same direction"].tolist()[1:] == [1, 0.5]


@pytest.mark.parametrize(
    ("losses", "count"),
    [
        (([2, 1], [2, 1], [2, 1]), 2),
        (([None] * 4, [4, 3, 2, 1], [4, 3, 2, 1]), 0),
        (([3, 2, 1], [None] * 3, [None] * 3), 3),
    ],
)
def test_too_little_is_said(losses, count):
    told = sequence.verdict(sequence.fit(runs(*losses)))
    assert told == f"Too little to tell which sequence is like the published one: {count} runs."


def test_the_more_alike_sequence_is_named_and_ties_are_ties():
    table = pd.DataFrame(
        [(FRESH, 9, 0.901, 0.5, 0.2), (CARRIED, 9, 0.899, 0.7, math.inf)],
        columns=["sequence", "n", *sequence.MEASURES],
    )
    assert sequence.verdict(table) == (
        "More like the published losses, in 9 runs: "
        "carried-over weights by 1 of 3 measures (steps in the same direction 70% against 50%); "
        "new weights by 1 of 3 measures (deviation in decades 0.20 against inf); "
        "both alike by 1 of 3 measures (rank correlation 0.90)."
    )


def test_lines_end_with_their_session_and_seeds_have_error_bars():
    rows = runs([8, 4, 2, 1], [3, 3, 3, 3], [9, 5, 3, 2], starts=(0, 2), seeds=(1, 2))
    picture = sequence.losses(rows, "Gestures: losses")
    (panel,) = picture.axes
    assert panel.get_yscale() == "log"
    assert panel.get_ylabel() == "final training loss (nats)"
    of = [line for line in panel.lines if line.get_color() == sequence.LINES[CARRIED]]
    drawn = [line.get_ydata().tolist() for line in of if len(line.get_xdata()) == 2]
    assert [13.5, 7.5] in drawn
    assert [4.5, 3] in drawn
    assert any(len(bars.get_segments()) == 2 for bars in panel.collections)
    assert [text.get_text() for text in panel.texts] == ["restart"]
    assert [tick.get_text() for tick in panel.get_xticklabels()][:2] == ["1: sgd 20", "2: sgd 20"]
    names = [text.get_text() for text in picture.legends[0].get_texts()]
    assert names == [PUBLISHED, FRESH, CARRIED]
    assert "Of 2 steps the loss falls in: 2 published, 0 new weights, 2 carried-over" in (
        picture.caption
    )
    picture.png()


def test_diverged_runs_are_crosses_at_the_edge_and_gaps_are_told():
    rows = runs([8, None, 2, 1], [3, 3, 3, 3], [9, math.nan, 3, math.nan])
    picture = sequence.losses(rows, "Gestures")
    (panel,) = picture.axes
    (crosses,) = (line for line in panel.lines if line.get_marker() == "x")
    assert list(crosses.get_xdata()) == [1, 3]
    assert set(crosses.get_ydata()) == {panel.get_ylim()[1]}
    assert "Missing (published): run 2" in picture.caption
    assert "diverged (carried-over weights): run 2 and 4" in picture.caption
    nothing = runs([2, 1], [math.nan] * 2, [math.nan] * 2)
    sequence.losses(nothing, "all diverged").png()
    assert "No trial" in sequence.losses(runs([2, 1], [None] * 2, [None] * 2), "none").caption
