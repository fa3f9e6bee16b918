"""Figures of sweeps: how values of a setting are told apart, and what is shown of the diverged."""

import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from refit.errors import ReportError
from refit.figures import sweep_curves, sweep_plots
from refit.figures.old_picture import Picture

RATES = (0.02, 0.1, 0.2)
KINDS = {"mlp": "perceptrons", "cnn": "CNNs"}


def curves(rates=RATES, widths=range(4), epochs=20, diverged=(), seeds=(1,)):
    """The higher the rate, the faster the losses fall; `diverged` maps trials to last epochs."""
    epoch = np.arange(1, epochs + 1)
    diverged, frames = dict(diverged), []
    for rate, width, seed in itertools.product(rates, widths, seeds):
        train = (2 + 0.01 * width + 0.001 * seed) * np.exp(-epoch * rate)
        trial = f"rate{rate}-width{width}"
        columns = {
            "train_loss": train,
            "val_loss": 1 + train,
            "train_accuracy": 1 - train / 3,
            "val_accuracy": 0.3 + 0.01 * width + 0.1 * np.sin(epoch),
        }
        frame = pd.DataFrame({"trial": trial, "seed": seed, "epoch": epoch, **columns})
        lost = frame["epoch"] > diverged.get(trial, epochs)
        frame.loc[lost, ["train_loss", "val_loss"]] = np.nan
        frame.loc[lost, ["train_accuracy", "val_accuracy"]] = 0.1
        frames.append(frame.assign(sweep="mlp"))
    return pd.concat(frames, ignore_index=True)


def rates(frame):
    return {trial: float(trial.split("-")[0].removeprefix("rate")) for trial in frame["trial"]}


def results(sweep="mlp"):
    """A row per rate and width; the accuracy rises with both, and one trial has diverged."""
    frame = pd.DataFrame(itertools.product(RATES, (32, 64)), columns=["rate", "width"])
    return frame.assign(
        sweep=sweep,
        trial=[f"{sweep}{number}" for number in range(len(frame))],
        best_val_accuracy=0.4 + frame["rate"] / 10 + frame["width"] / 1000,
        diverged=pd.Series([np.nan] * 5 + [True], dtype=object),
    )


def entries(legend):
    return [text.get_text() for text in legend.get_texts()]


def texts(panel):
    return [text.get_text() for text in panel.texts]


def overlapping(panel):
    panel.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in panel.texts]
    return [pair for pair in itertools.combinations(boxes, 2) if pair[0].overlaps(pair[1])]


def crosses(panel):
    """Where the diverged are marked, as (x, y)."""
    marks = [line.get_xydata() for line in panel.lines if line.get_marker() == "x"]
    return [tuple(place) for place in np.concatenate(marks)] if marks else []


def test_lines_of_one_value_share_a_colour_and_have_a_median():
    frame = curves()
    frame = frame[~((frame["trial"] == "rate0.1-width3") & (frame["epoch"] > 5))]
    figure = sweep_curves.curves_by(frame, rates(frame), "Perceptrons", "learning rate")
    panels = figure.axes
    assert [panel.get_ylabel() for panel in panels[:5]] == [
        "train loss",
        "test loss",
        "train accuracy",
        "test accuracy",
        "top test accuracy",
    ]
    assert [len(panel.lines) for panel in panels] == [15] * 5 + [0]
    colours = [to_hex(line.get_color()) for line in panels[0].lines]
    assert [len(set(colours[start : start + 5])) for start in (0, 5, 10)] == [1, 1, 1]
    assert len(set(colours)) == 3
    thin, median = panels[0].lines[5:9], panels[0].lines[9]
    assert median.get_linewidth() > 2 * thin[0].get_linewidth()
    last = [line.get_ydata()[np.isfinite(line.get_ydata())][-1] for line in thin]
    assert len(median.get_xdata()) == 20
    assert median.get_ydata()[-1] == pytest.approx(np.median(last)), "the ended counts as well"
    assert (np.diff(panels[4].lines[0].get_ydata()) >= 0).all()
    assert not panels[5].axison, "the sixth place holds the legend"
    assert entries(panels[5].get_legend())[:3] == ["0.02", "0.1", "0.2"]
    assert panels[5].get_legend().get_title().get_text() == "learning rate"
    assert figure.get_suptitle() == "Perceptrons"
    figure.png()


def test_diverged_trainings_end_in_a_cross_and_are_counted():
    frame = curves(diverged={"rate0.2-width0": 8, "rate0.2-width3": 0, "rate0.1-width1": 12})
    frame.loc[(frame["trial"] == "rate0.2-width0") & (frame["epoch"] == 8), "train_loss"] = 900.0
    frame.loc[(frame["trial"] == "rate0.1-width1") & (frame["epoch"] > 12), "val_loss"] = np.inf
    figure = sweep_curves.curves_by(frame, rates(frame), "", "learning rate")
    loss, accuracy = figure.axes[0], figure.axes[3]
    assert entries(figure.axes[5].get_legend())[:4] == [
        "0.02",
        "0.1 (1 of 4 diverged)",
        "0.2 (2 of 4 diverged)",
        "diverged in this epoch",
    ]
    assert sorted(x for x, _ in crosses(loss)) == [1, 9, 13]
    assert {y for _, y in crosses(loss)} == {loss.get_ylim()[1]}
    assert {y for _, y in crosses(accuracy)} == {accuracy.get_ylim()[0]}
    assert 2 < loss.get_ylim()[1] < 3, "the last loss of the diverged one flattens nobody's curve"
    assert loss.get_ylabel() == f"train loss (axis cut at {loss.get_ylim()[1]:.3g})"
    thin = accuracy.lines[10].get_ydata()
    assert np.isfinite(thin[:8]).all()
    assert np.isnan(thin[8:]).all(), "no accuracy is drawn of what no longer learns"
    figure.png()


def test_median_is_not_drawn_where_most_trials_have_diverged():
    frame = curves(rates=(0.1,), diverged={f"rate0.1-width{width}": 5 for width in range(3)})
    figure = sweep_curves.curves_by(frame, rates(frame), "", "rate", ("train_loss", "val_loss"))
    median = next(line for line in figure.axes[1].lines if line.get_linewidth() > 2)
    assert np.isfinite(median.get_ydata()).sum() == 5
    assert "0.1 (3 of 4 diverged)" in entries(figure.legends[0])


def test_two_measures_stand_side_by_side_and_single_trials_need_no_median():
    frame = curves(widths=[1], diverged={"rate0.2-width1": 3})
    values = rates(frame) | {"never run": 0.5, "rate0.02-width1": np.nan}
    measures = ("train_accuracy", "val_accuracy")
    names = {"train_accuracy": "in training"}
    figure = sweep_curves.curves_by(frame, values, "", "rate", measures, names, part="validation")
    left, right = figure.axes
    assert left.get_position().y0 == right.get_position().y0
    assert [left.get_ylabel(), right.get_ylabel()] == ["in training", "validation accuracy"]
    assert entries(figure.legends[0]) == ["0.1", "0.2 (diverged)", "diverged in this epoch"]
    figure.png()


def test_lines_are_means_over_seeds_and_one_lost_seed_leaves_none():
    frame = curves(rates=(0.1,), widths=[0], seeds=(1, 3))
    drawn = sweep_curves.curves_by(frame, rates(frame), "", "rate", ("train_loss", "val_loss"))
    expected = frame.groupby("epoch")["train_loss"].mean()
    assert drawn.axes[0].lines[0].get_ydata() == pytest.approx(expected)
    frame.loc[(frame["seed"] == 3) & (frame["epoch"] > 6), "train_loss"] = np.inf
    drawn = sweep_curves.curves_by(frame, rates(frame), "", "rate", ("train_loss", "val_loss"))
    assert np.isfinite(drawn.axes[0].lines[0].get_ydata()).sum() == 6


def test_trials_go_from_measure_to_measure_and_end_in_a_mark():
    frame = curves(diverged={"rate0.2-width0": 8, "rate0.2-width3": 0})
    frame.loc[(frame["trial"] == "rate0.2-width0") & (frame["epoch"] == 8), "train_loss"] = 900.0
    names = {"val_loss": "loss on test images"}
    losses = ("train_loss", "val_loss")
    figure = sweep_curves.against(frame, rates(frame), *losses, "Losses", names, "rate")
    panel = figure.axes[0]
    ends = [line for line in panel.lines if line.get_marker() == "o"]
    assert len(ends) == 10
    assert ends[0].get_ydata()[0] == pytest.approx(ends[0].get_xdata()[0] + 1)
    assert crosses(panel)[0][0] == panel.get_xlim()[1], "what left the panel is marked at its edge"
    assert entries(figure.legends[0]) == [
        "0.02",
        "0.1",
        "0.2 (2 of 4 diverged)",
        "last epoch",
        "last before it diverged",
        "both are equal",
    ]
    assert panel.get_ylabel() == "loss on test images"
    assert panel.lines[-1].get_linestyle() == "--"
    figure.png()


def test_equality_is_drawn_between_measures_of_one_kind_only():
    frame = curves()
    top = "top_val_accuracy"
    same = sweep_curves.against(frame, rates(frame), "train_accuracy", top, "", {})
    other = sweep_curves.against(frame, rates(frame), "train_loss", top, "", {})
    assert "both are equal" in entries(same.legends[0])
    assert "both are equal" not in entries(other.legends[0])
    assert same.axes[0].get_ylabel() == "top test accuracy"
    assert same.axes[0].get_ylim()[1] < 0.5, "the diagonal does not widen the panel"


def test_dots_of_each_kind_stand_above_their_value():
    rows = pd.concat([results("mlp"), results("cnn"), results("other")], ignore_index=True)
    rows.loc[0, "best_val_accuracy"] = np.inf
    labels = ("learning rate", "best test accuracy")
    figure = sweep_plots.by_value(rows, "rate", "best_val_accuracy", KINDS, *labels)
    panel = figure.axes[0]
    assert [tick.get_text() for tick in panel.get_xticklabels()] == ["0.02", "0.1", "0.2"]
    assert entries(figure.legends[0]) == ["perceptrons", "CNNs", "median", "diverged"]
    places = np.concatenate([line.get_xdata() for line in panel.lines])
    assert len(places) == 11
    assert np.bincount(np.round(places).astype(int)).tolist() == [3, 4, 4]
    perceptrons, cnns = panel.lines[0].get_xdata(), panel.lines[-1].get_xdata()
    assert perceptrons[0] < 0 < cnns[0] - 2
    assert len(crosses(panel)) == 2
    medians = [bar.get_segments()[0][0, 1] for bar in panel.collections]
    assert len(medians) == 5, "a single dot needs none"
    assert medians[0] == pytest.approx(rows["best_val_accuracy"][2:4].median())
    expected = "Not drawn: 1 of 12 trials: 1 without a finite best test accuracy"
    assert figure.get_supxlabel() == expected
    figure.png()


def test_cells_have_the_highest_value_and_say_who_diverged():
    rows = pd.concat([results(), results().assign(best_val_accuracy=0.1)], ignore_index=True)
    rows = rows[~((rows["rate"] == 0.02) & (rows["width"] == 64))].reset_index(drop=True)
    rows.loc[rows["diverged"].eq(True) & (rows["best_val_accuracy"] < 0.2), "diverged"] = False
    rows.loc[(rows["rate"] == 0.1) & (rows["width"] == 32), "best_val_accuracy"] = np.inf
    labels = {"rate": "learning rate", "best_val_accuracy": "accuracy"}
    figure = sweep_plots.heat_map(rows, "rate", "width", "best_val_accuracy", "Highest", labels)
    panel = figure.axes[0]
    assert texts(panel) == [
        "0.4340",
        "no trial",
        "not finite",
        "0.4740",
        "0.4520",
        "0.4840\n1 of 2\ndiverged",
    ]
    assert [patch.get_hatch() for patch in panel.patches].count("///") == 1
    assert [tick.get_text() for tick in panel.get_xticklabels()] == ["32", "64"]
    assert [tick.get_text() for tick in panel.get_yticklabels()] == ["0.02", "0.1", "0.2"]
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("width", "learning rate")
    assert figure.get_supxlabel() == "A cell has the highest value of up to 2 trials"
    figure.png()


def test_words_in_many_cells_or_above_many_bars_do_not_overlap():
    grid = pd.DataFrame(itertools.product(range(10), range(10), (0, 1)), columns=["a", "b", "c"])
    grid = grid.assign(trial=grid.index.map(str), diverged=grid["c"] > 0, val_accuracy=0.5)
    assert not overlapping(sweep_plots.heat_map(grid, "a", "b", "val_accuracy", "", {}).axes[0])
    bars = sweep_plots.bars_by(grid[grid["b"] < 1], "a", "val_accuracy", "", "")
    assert texts(bars.axes[0]) == ["1 of 2\ndiverged\n0.5000"] * 10
    assert not overlapping(bars.axes[0])


def test_one_epoch_is_drawn_as_dots():
    frame = curves(epochs=1)
    panel = sweep_curves.curves_by(frame, rates(frame), "", "rate").axes[0]
    assert {line.get_marker() for line in panel.lines} == {"o"}
    panel.figure.png()
    sweep_curves.against(frame, rates(frame), "train_loss", "val_loss", "", {}).png()


def test_map_of_diverged_trials_only_has_words_instead_of_colours():
    rows = results().assign(best_val_accuracy=np.nan, diverged=True)
    figure = sweep_plots.heat_map(rows, "rate", "width", "best_val_accuracy", "", {})
    assert texts(figure.axes[0]) == ["diverged"] * 6
    assert len(figure.axes) == 1, "no scale of colours"
    figure.png()


def test_bars_stand_in_the_order_of_values_and_the_highest_is_emphasised():
    rows = results().query("width == 32").iloc[::-1]
    rows = pd.concat([rows, rows.assign(rate=0.5, diverged=True, best_val_accuracy=np.inf)[:1]])
    reference = (0.45, "with SGD: 0.45")
    figure = sweep_plots.bars_by(
        rows, "rate", "best_val_accuracy", "rate", "accuracy", {0.02: "low"}, reference
    )
    panel = figure.axes[0]
    assert texts(panel) == ["0.4340", "0.4420", "0.4520", "diverged"]
    assert [text.get_weight() for text in panel.texts] == ["normal", "normal", "bold", "normal"]
    assert [tick.get_text() for tick in panel.get_xticklabels()] == ["low", "0.1", "0.2", "0.5"]
    assert [bar.get_height() for bar in panel.patches] == pytest.approx([0.434, 0.442, 0.452, 0])
    colours = [to_hex(bar.get_facecolor()) for bar in panel.patches]
    assert colours[0] == colours[1] != colours[2]
    assert panel.get_ylim()[0] == 0
    assert entries(figure.legends[0]) == ["with SGD: 0.45"]
    figure.png()


def test_trials_that_share_a_value_are_dots_and_the_bar_their_mean():
    rows = results().iloc[:3].assign(rate=[0.1, 0.1, "none"], best_val_accuracy=[0.2, 0.4, 0.1])
    figure = sweep_plots.bars_by(rows, "rate", "best_val_accuracy", "rate", "accuracy")
    panel = figure.axes[0]
    assert texts(panel) == ["0.3000", "0.1000"]
    assert panel.lines[0].get_ydata().tolist() == [0.2, 0.4]
    assert entries(figure.legends[0]) == ["single trials; the value is their mean"]


def test_axis_that_does_not_start_at_zero_has_dots_and_says_so():
    rows = results().query("width == 32")
    arguments = (rows, "rate", "best_val_accuracy", "rate", "accuracy")
    panel = sweep_plots.bars_by(*arguments, from_zero=False).axes[0]
    assert not panel.patches
    assert len(panel.collections[0].get_offsets()) == 3
    start = panel.get_ylim()[0]
    assert panel.get_ylabel() == f"accuracy (the axis starts at {start:.4f}, not at zero)"
    assert start > 0.4


def test_classes_are_counted_in_every_part():
    parts = {"train": np.array([[0], [0], [2]]), "test": np.array([1, 2, 2])}
    figure = sweep_plots.class_counts(parts, ["bird", "cat", "dog"])
    assert [bar.get_height() for bar in figure.axes[0].patches] == [2, 0, 1, 0, 1, 2]
    assert entries(figure.legends[0]) == ["train (3 images)", "test (3 images)"]
    figure.png()
    with pytest.raises(ReportError, match="test has the label 2, with 2 class names"):
        sweep_plots.class_counts({"test": parts["test"]}, ["bird", "cat"])


@pytest.mark.parametrize(
    "draw",
    [
        lambda empty: sweep_curves.curves_by(empty, {"a": 1}, "Curves", "rate"),
        lambda _: sweep_curves.curves_by(curves(), {"other": 1}, "Curves", "rate"),
        lambda empty: sweep_curves.against(empty, {"a": 1}, "train_loss", "val_loss", "", {}),
        lambda empty: sweep_plots.by_value(empty, "rate", "accuracy", KINDS, "rate", "accuracy"),
        lambda _: sweep_plots.by_value(results("x"), "rate", "width", KINDS, "rate", "width"),
        lambda empty: sweep_plots.heat_map(empty, "rate", "width", "accuracy", "Map", {}),
        lambda empty: sweep_plots.bars_by(empty, "rate", "accuracy", "rate", "accuracy"),
        lambda _: sweep_plots.class_counts({"train": np.empty(0)}, ["bird"]),
        lambda _: sweep_plots.class_counts({}, []),
    ],
)
def test_nothing_finished_is_said(draw):
    figure = draw(pd.DataFrame())
    assert isinstance(figure, Picture)
    assert "no finished trials" in figure.texts[0].get_text()


@pytest.mark.parametrize(
    ("draw", "column"),
    [
        (lambda: sweep_curves.curves_by(results(), {}, "", ""), "epoch"),
        (lambda: sweep_curves.curves_by(curves(), {}, "", "", ["speed"]), "speed"),
        (lambda: sweep_curves.against(curves(), {}, "train_loss", "speed", "", {}), "speed"),
        (lambda: sweep_plots.by_value(results(), "depth", "width", KINDS, "", ""), "depth"),
        (lambda: sweep_plots.heat_map(results(), "rate", "depth", "width", "", {}), "depth"),
        (lambda: sweep_plots.bars_by(results(), "rate", "loss", "", ""), "loss"),
    ],
)
def test_missing_columns_are_named(draw, column):
    with pytest.raises(ReportError, match=f"lacks the columns .*{column}"):
        draw()
