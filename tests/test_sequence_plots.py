"""Runs made one after another: what is drawn of them, what is computed, and what is said of it."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from refit.errors import ReportError
from refit.figures import run_views, sequence_plots
from refit.figures.old_picture import COLOURS
from refit.pages import tables
from refit.run_directory.log import RunLog

# Of the gesture report's Conv3D networks; run 22 has none.
PUBLISHED = [
    *(7.469, 5.31, 3.806, 1.659, 1.174, 0.794, 0.74, 0.681, 0.629, 0.576, 0.526, 0.445),
    *(3.862, 1.671, 2.512, 0.578, 0.204, 0.118, 0.919, 1.033, 0.78, math.nan, 0.238, 0.072),
]
STARTS = (1, 13, 22)
LOSSES = ["published", "fresh", "carried"]


def runs():
    grid = itertools.product(("sgd", "adagrad", "adam", "nadam"), (20, 50), (0.1, 0.15, 0.2))
    return {
        f"{name}-{epochs}-{factor}": f"{name} {epochs} ×{factor}" for name, epochs, factor in grid
    }


def printed(values=PUBLISHED, metric="train_loss"):
    """Published numbers as `ledger.figures` has them."""
    frame = pd.DataFrame({"trial": [*runs()], "metric": metric, "epochs": "", "published": values})
    return frame.dropna()


def conv3d(fresh=1.5, carried=2.0):
    """New weights have one loss, or one each; carried-over ones have the published, scaled."""
    fresh = dict(zip(runs(), np.broadcast_to(fresh, 24), strict=True))
    scaled = {trial: carried * loss for trial, loss in zip(runs(), PUBLISHED, strict=True)}
    return sequence_plots.order(runs(), printed(), fresh, scaled, STARTS)


def rows(published, fresh, carried, sessions=None):
    frame = pd.DataFrame({"published": published, "fresh": fresh, "carried": carried})
    numbers = np.arange(1, len(frame) + 1)
    return frame.astype(float).assign(
        number=numbers, trial=numbers.astype(str), label="sgd", session=sessions or 1
    )


def scores(frame):
    table = sequence_plots.fit(frame)
    assert table["sequence"].tolist() == ["fresh", "carried"]
    return table.set_index("sequence")


def log(losses, seeds=(7,), epochs=4, **columns):
    """A log of one sweep; `losses` maps trials to final training losses, None if not finished."""
    results, curves = [], []
    for (trial, loss), seed in itertools.product(losses.items(), seeds):
        row = {
            "sweep": "conv3d",
            "trial": trial,
            "title": f"network {trial}",
            "seed": seed,
            "digest": "",
            "reason": "",
            "status": "missing" if loss is None else "done",
            "published_epochs": 50,
            "planned_epochs": epochs,
            "optimizer": "sgd",
            "optimizer.learning_rate": 0.001,
        }
        epoch = np.arange(1, epochs + 1)
        if loss is not None:
            row |= {
                "train_loss": loss,
                "val_loss": loss + 1,
                "train_accuracy": 0.99,
                "val_accuracy": 0.5 + loss / 100,
                "learning_rate": 0.00015,
                "minutes": 12.345,
                "diverged": not math.isfinite(loss),
            }
            curve = pd.DataFrame({"epoch": epoch, "train_loss": loss + 1 / epoch - 1 / epochs})
            curve = curve.assign(val_loss=curve["train_loss"] + seed, train_accuracy=epoch / 10)
            curve = curve.assign(val_accuracy=epoch / 20, learning_rate=0.001)
            curves.append(curve.assign(sweep="conv3d", trial=trial, seed=seed))
        results.append(row)
    return RunLog(pd.DataFrame(results).assign(**columns), pd.concat(curves or [pd.DataFrame()]))


def lines(panel, colour):
    return [line for line in panel.lines if line.get_color() == colour]


def entries(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_order_has_a_row_per_run_with_its_session():
    frame = conv3d()
    assert list(frame) == ["number", "trial", "label", "session", *LOSSES]
    assert frame["number"].tolist() == list(range(1, 25))
    assert frame["session"].tolist() == [1] * 12 + [2] * 9 + [3] * 3
    assert frame.loc[0, ["trial", "label"]].tolist() == ["sgd-20-0.1", "sgd 20 ×0.1"]
    np.testing.assert_allclose(frame["published"], PUBLISHED)
    part = sequence_plots.order(runs(), printed()[:0], {"sgd-20-0.1": math.inf}, {})
    assert part["fresh"].tolist()[:1] == [math.inf]
    assert part[["published", "carried"]].isna().all(axis=None)
    assert set(part["session"]) == {1}


def test_an_exact_copy_at_another_level_fits_perfectly():
    table = scores(conv3d())
    assert table["n"].tolist() == [23, 23]
    # Neighbours: 11 in the first session, 8 in the second, one in the third, where run 22 lacks.
    assert table["steps"].tolist() == [20, 20]
    carried = table.loc["carried"]
    assert carried["rank correlation"] == pytest.approx(1)
    assert carried["same direction"] == 1
    assert carried["deviation"] == pytest.approx(0, abs=1e-12)
    assert carried["published falls"] == carried["falls"] == 17
    constant = table.loc["fresh"]
    assert math.isnan(constant["rank correlation"])
    assert constant[["falls", "same direction"]].tolist() == [0, 0]
    logarithms = np.log10(pd.Series(PUBLISHED).dropna())
    assert constant["deviation"] == pytest.approx(logarithms.std(ddof=0))


def test_measures_of_a_small_example():
    frame = rows([100, 10, 1, 10], [10, 10, 100, 1], [1000, 100, 10, 1], [1, 1, 2, 2])
    table = scores(frame)
    assert table["steps"].tolist() == [2, 2], "none leads from one session to the next"
    assert table["published falls"].tolist() == [1, 1]
    assert table["falls"].tolist() == [1, 2]
    assert table["same direction"].tolist() == [0, 0.5]
    # Logarithms less the published: 1, 1, 1, -1 with the mean 0.5.
    assert table.loc["carried", "deviation"] == pytest.approx(math.sqrt(3) / 2)
    # Ranks 4, 2.5, 1, 2.5 against 4, 3, 2, 1.
    assert table.loc["carried", "rank correlation"] == pytest.approx(3 / math.sqrt(4.5 * 5))


def test_both_sequences_are_measured_by_the_same_runs():
    frame = rows([4, 3, 2, 1, 5], [8, 6, 4, 2, np.nan], [1, 2, 3, 4, 5])
    assert scores(frame)["n"].tolist() == [4, 4]
    frame["carried"] = np.nan
    table = scores(frame)
    assert table["n"].tolist() == [4, 0]
    assert table.loc["fresh", "rank correlation"] == pytest.approx(1)
    assert table.loc["carried", ["rank correlation", "same direction", "deviation"]].isna().all()
    assert "0 runs can be compared" in sequence_plots.which_fits(table.reset_index())


def test_a_diverged_run_is_the_highest_and_deviates_infinitely():
    table = scores(rows([3, 2, 1], [math.inf, 2, 1], [math.inf, math.inf, 1]))
    assert table["diverged"].tolist() == [1, 2]
    assert table["deviation"].tolist() == [math.inf, math.inf]
    assert table["rank correlation"].tolist() == pytest.approx([1, math.sqrt(3) / 2])
    assert table["same direction"].tolist() == [1, 0.5], "from infinite to infinite is no fall"


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame(),
        rows([], [], []),
        rows([2, 1], [2, 1], [2, 1]),
        rows([math.nan] * 4, [4, 3, 2, 1], [4, 3, 2, 1]),
        rows([3, 2, 1], [math.nan] * 3, [math.nan] * 3),
        rows([3, 2, 1], [0, 0, 0], [1, 1, math.nan]),
    ],
)
def test_too_little_is_said(frame):
    table = scores(frame)
    assert table[["rank correlation", "same direction", "deviation"]].isna().all(axis=None)
    count = table["n"].min()
    sentence = sequence_plots.which_fits(table.reset_index())
    assert sentence == (
        "Too little to tell which sequence fits the published losses better: "
        f"{count} runs can be compared."
    )


def test_a_constant_report_has_no_direction():
    table = scores(rows([2, 2, 2], [3, 2, 1], [1, 1, 1]))
    assert table["steps"].tolist() == [0, 0]
    assert table[["rank correlation", "same direction"]].isna().all(axis=None)
    assert "Carried-over weights fit the published losses better by 1 of 1 measures" in (
        sequence_plots.which_fits(table.reset_index())
    )


def test_the_better_sequence_is_named_with_its_numbers():
    fresh = np.tile([1.0, 2.0], 12)
    sentence = sequence_plots.which_fits(sequence_plots.fit(conv3d(fresh)))
    assert sentence.startswith(
        "Carried-over weights fit the published losses better by 3 of 3 measures: "
        "rank correlation 1.00 against "
    )
    # Of new weights 5 of 11, 3 of 8 and none of one, counted by hand.
    assert "steps in the published direction 100% against 40%" in sentence
    assert "deviation in decades 0.00 against 0." in sentence
    assert sentence.endswith("(23 runs compared).")
    shown = sequence_plots.which_fits(sequence_plots.fit(conv3d(fresh)), demonstration=True)
    added = " Measured on demonstration clips, which say nothing about the report."
    assert shown == sentence + added


def table_of(fresh, carried, n=9):
    names = ["rank correlation", "same direction", "deviation"]
    frame = pd.DataFrame([fresh, carried], columns=names)
    return frame.assign(sequence=["fresh", "carried"], n=n)


def test_disagreement_and_equality_are_said():
    divided = sequence_plots.which_fits(table_of((0.9, 0.5, 0.3), (0.8, 0.7, 0.2)))
    assert divided == (
        "The measures disagree: carried-over weights fit the published losses better by 2 of 3 "
        "measures: steps in the published direction 70% against 50%, deviation in decades 0.20 "
        "against 0.30; new weights fit the published losses better by 1 of 3 measures: rank "
        "correlation 0.90 against 0.80 (9 runs compared)."
    )
    equal = sequence_plots.which_fits(table_of((0.901, 0.5, math.inf), (0.899, 0.5, math.inf)))
    assert equal == (
        "Both fit the published losses alike by 3 of 3 measures: rank correlation 0.90, steps in "
        "the published direction 50%, deviation in decades infinite (9 runs compared)."
    )
    poor = sequence_plots.which_fits(table_of((-0.2, 0.5, 0.3), (-0.3, 0.4, 0.3)))
    assert poor.startswith("New weights fit the published losses better by 2 of 3 measures")
    assert "rank correlation −0.20 against −0.30" in poor
    assert "alike by 1 of 3 measures: deviation in decades 0.30" in poor
    assert "; neither is ordered as they are (9 runs compared)." in poor


def test_losses_of_three_sessions_are_three_lines_each():
    figure = sequence_plots.losses(conv3d(), "Conv3D")
    (panel,) = figure.axes
    assert panel.get_yscale() == "log"
    for colour, name in ((COLOURS[0], "fresh"), (COLOURS[1], "carried")):
        drawn = lines(panel, colour)
        assert [len(line.get_xdata()) for line in drawn] == [12, 9, 3]
        values = np.concatenate([line.get_ydata() for line in drawn])
        np.testing.assert_allclose(values, conv3d()[name])
    assert [text.get_text() for text in panel.texts] == ["restart"] * 2
    restarts = [line.get_xdata()[0] for line in panel.lines if line.get_linestyle() == ":"]
    assert restarts == [11.5, 20.5]
    numbers = [tick.get_text() for tick in panel.get_xticklabels()]
    assert numbers == [str(number) for number in range(1, 25)]
    assert [tick.get_text() for tick in panel.get_xticklabels(minor=True)] == [*runs().values()]
    assert entries(figure) == [
        "published",
        "new weights for every run",
        "weights carried from run to run",
    ]
    assert figure.get_supxlabel() == "Gaps: published, run 22; carried-over weights, run 22"
    assert figure.description.startswith(
        "Conv3D: final training loss of 24 runs in order in 3 sessions; published 23, from 7.469 "
        "to 0.072; new weights 24, from 1.5 to 1.5; carried-over weights 23, from 14.94 to 0.144. "
        "Gaps:"
    )
    figure.png()


def test_labels_below_the_runs_do_not_cover_the_numbers_or_leave_the_picture():
    figure = sequence_plots.losses(conv3d(), "Conv3D")
    figure.draw_without_rendering()
    (panel,) = figure.axes
    numbers, labels = (
        [tick.get_window_extent() for tick in panel.get_xticklabels(minor=minor)]
        for minor in (False, True)
    )
    assert not any(one.overlaps(other) for one in numbers for other in labels)
    assert not any(one.overlaps(other) for one, other in itertools.combinations(numbers, 2))
    assert min(box.x0 for box in labels) >= 0
    title = panel.xaxis.label.get_window_extent()
    assert not any(title.overlaps(box) for box in labels)


def test_two_runs_have_level_labels_and_no_dramatic_axis():
    frame = rows([math.nan] * 2, [1.60, 1.62], [1.60, 1.59])
    figure = sequence_plots.losses(frame, "Conv3D")
    (panel,) = figure.axes
    low, high = panel.get_ylim()
    assert high / low > 3.9
    assert len([tick for tick in panel.get_yticks() if low <= tick <= high]) >= 2
    assert not panel.texts
    assert {tick.get_rotation() for tick in panel.get_xticklabels(minor=True)} == {0}
    assert "2 runs in order; new weights 2" in figure.description
    figure.png()


def test_diverged_runs_are_crosses_and_gaps_are_told():
    frame = conv3d()
    frame.loc[[2, 5], "carried"] = math.inf
    frame.loc[8:16, "fresh"] = math.nan
    figure = sequence_plots.losses(frame, "Conv3D")
    (panel,) = figure.axes
    (crosses,) = (line for line in panel.lines if line.get_marker() == "x")
    assert crosses.get_xdata().round().tolist() == [2, 5]
    assert set(crosses.get_ydata()) == {panel.get_ylim()[1]}
    assert entries(figure)[-1] == "diverged"
    assert figure.get_supxlabel() == (
        "Diverged: carried-over weights, runs 3, 6. "
        "Gaps: published, run 22; new weights, 9 of 24 runs; carried-over weights, run 22"
    )
    figure.png()
    nothing = rows([math.nan] * 2, [math.inf] * 2, [math.nan, 0.0])
    sequence_plots.losses(nothing, "all diverged").png()


def test_without_any_run_nothing_is_drawn():
    for frame in (pd.DataFrame(), conv3d(math.nan, math.nan)):
        figure = sequence_plots.losses(frame, "Conv3D")
        assert figure.description == "Conv3D: no finished trials"
    with pytest.raises(ReportError, match="lacks the columns session"):
        sequence_plots.losses(conv3d().drop(columns="session"), "Conv3D")
    with pytest.raises(ReportError, match="lacks the columns carried"):
        sequence_plots.fit(conv3d().drop(columns="carried"))


def test_best_stands_beside_worst():
    measured = log({"a": 0.5, "b": 0.072, "c": 7.469, "never": None}, layers=21)
    table = run_views.extremes(measured, "conv3d", "train_loss", smallest=True)
    assert list(table) == ["quantity", "best", "worst", "differs"]
    found = table.set_index("quantity")
    assert found.loc["trial"].tolist() == ["b", "c", True]
    assert found.loc["train loss"].tolist() == ["0.072", "7.469", True]
    assert found.loc["initial learning rate"].tolist() == ["0.001", "0.001", False]
    assert found.loc["final learning rate", "best"] == "0.00015"
    assert found.loc["validation accuracy", "worst"] == "0.5747"
    assert found.loc[
        ["published epochs", "planned epochs", "layers", "minutes"], "best"
    ].tolist() == [*("50", "4", "21", "12.35")]
    absent = {"learning-rate factor", "train cross-entropy"}
    assert not absent & set(found.index)
    by_accuracy = run_views.extremes(measured, "conv3d", "val_accuracy", smallest=False)
    assert by_accuracy.loc[0, ["best", "worst"]].tolist() == ["c", "b"]
    tables.table(table)


@pytest.mark.parametrize("lost", [math.inf, math.nan])
def test_a_diverged_run_is_the_worst(lost):
    measured = log({"a": 0.5, "lost": lost, "c": 9.0}, train_cross_entropy=0.1)
    table = run_views.extremes(measured, "conv3d", "train_loss", smallest=True)
    found = table.set_index("quantity")["worst"]
    assert found["trial"] == "lost"
    assert {found[name] for name in ("train loss", "validation loss", "train cross-entropy")} == {
        "infinite"
    }
    assert found["validation accuracy"] == ("infinite" if math.isinf(lost) else "–")
    figure = run_views.two_runs(measured, "conv3d", "train_loss", smallest=True)
    assert "worst: network lost (train loss infinite)" in entries(figure)
    figure.png()


def test_two_runs_are_drawn_over_each_other():
    measured = log({"a": 0.5, "b": 0.072, "c": 7.469}, seeds=(1, 3))
    figure = run_views.two_runs(measured, "conv3d", "train_loss", smallest=True)
    accuracy, loss = figure.axes
    assert [panel.get_ylabel() for panel in figure.axes] == ["accuracy", "loss"]
    for panel, kind in ((accuracy, "accuracy"), (loss, "loss")):
        drawn = [(line.get_color(), line.get_linestyle()) for line in panel.lines]
        assert drawn == list(itertools.product(COLOURS[:2], ("--", "-")))
        for line, (trial, part) in zip(
            panel.lines, itertools.product("bc", ("train", "val")), strict=True
        ):
            expected = measured.curve(trial, f"{part}_{kind}").mean(axis=1)
            assert line.get_ydata() == pytest.approx(expected.to_numpy())
    assert loss.get_yscale() == "log"
    named = ["best: network b (train loss 0.072)", "worst: network c (train loss 7.469)"]
    assert entries(figure) == [*named, "training", "validation"]
    assert figure.description == f"conv3d: accuracy and loss against epoch. {'; '.join(named)}"
    figure.png()


def test_one_run_or_none_cannot_be_compared():
    alone = log({"a": 0.5}, epochs=1)
    figure = run_views.two_runs(alone, "conv3d", "train_loss", smallest=True)
    assert entries(figure)[0] == "the only finished: network a (train loss 0.5)"
    assert all(line.get_marker() == "o" for line in figure.axes[0].lines)
    table = run_views.extremes(alone, "conv3d", "train_loss", smallest=True)
    assert not table["differs"].any()
    with pytest.raises(ReportError, match="no finished run of conv3d has a test_accuracy"):
        run_views.extremes(alone, "conv3d", "test_accuracy", smallest=False)
    nothing = log({"a": None}, diverged=math.nan)
    assert run_views.extremes(nothing, "conv3d", "train_loss", smallest=True).empty
    empty = run_views.two_runs(nothing, "conv3d", "train_loss", smallest=True)
    assert empty.description == "conv3d: best and worst run by train loss: no finished trials"


def test_the_overview_has_the_newest_run_first_and_published_values_beside():
    measured = log({"sgd-20-0.1": 7.0, "sgd-20-0.15": 5.0, "sgd-20-0.2": None}, seeds=(1, 2))
    numbers = pd.concat([printed(), printed(0.97, "train_accuracy")[1:2]])
    table = run_views.run_table(measured, "conv3d", numbers)
    assert list(table) == [
        *("number", "trial", "minutes", "accuracy", "published accuracy", "loss"),
        *("published loss", "final learning rate", "epochs", "published epochs", "learning rate"),
    ]
    assert table["number"].tolist() == [3, 2, 1]
    assert table["trial"].tolist() == ["sgd-20-0.2", "sgd-20-0.15", "sgd-20-0.1"]
    np.testing.assert_allclose(table["loss"], [math.nan, 5, 7])
    assert table["published loss"].tolist() == PUBLISHED[2::-1]
    np.testing.assert_allclose(table["published accuracy"], [math.nan, 0.97, math.nan])
    assert table["learning rate"].tolist() == [0.001] * 3
    page = tables.table(table, "", run_views.formats(table)).data
    assert ">0.00015<" in page
    assert ">12.35<" in page


def test_the_overview_knows_the_numbers_of_the_report_and_does_without_published_ones():
    measured = log({"a": 1.0, "b": math.nan}, published_epochs=4)
    table = run_views.run_table(measured, "conv3d", pd.DataFrame(), {"a": 1, "b": 24})
    assert table["number"].tolist() == [24, 1]
    assert table["loss"].tolist() == [math.inf, 1]
    assert not [name for name in table if name.startswith("published")]
    assert run_views.run_table(measured, "other", printed()).empty
    unfinished = run_views.run_table(log({"a": None}), "conv3d", printed())
    assert unfinished["epochs"].tolist() == [4]


def test_formats_are_those_of_the_columns_that_there_are():
    table = sequence_plots.fit(conv3d())
    assert run_views.formats(table) == {
        "deviation": ".4g",
        "rank correlation": ".2f",
        "same direction": ".0%",
    }
    assert "100%" in tables.table(table, "", run_views.formats(table)).data


def test_sequences_of_a_log_are_paired_by_their_order_and_begin_where_no_run_is_carried_over():
    settings = {"optimizer": "sgd", "reduce_lr_on_plateau.factor": 0.1, "learning_rate": 0.01}
    fresh, carried = (
        log(losses, **settings).results
        for losses in ({"a": 4, "b": 4, "c": None}, {"x": 4, "y": 2, "z": 8})
    )
    carried = carried.assign(sweep="carried", carried_over=[None, "x", None])
    whole = RunLog(pd.concat([fresh, carried]), log({}).curves)
    numbers = pd.DataFrame({"trial": ["a", "b"], "metric": "train_loss", "published": [7.0, 5.0]})
    table = sequence_plots.of_log(whole, "conv3d", "carried", numbers, {"a": 1, "b": 4, "c": 22})
    assert table["label"].tolist() == ["sgd 50 ×0.1"] * 3
    assert table["number"].tolist() == [1, 4, 22]
    assert table["session"].tolist() == [1, 1, 2]
    assert table["published"].tolist()[:2] == [7, 5]
    assert table["fresh"].tolist()[:2] == [4, 4]
    assert table["carried"].tolist() == [4, 2, 8]
    assert table[["published", "fresh"]].iloc[2].isna().all()
