"""Figures: the right panels, lines and labels, also for diverged, single-epoch and no trials."""

import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from refit.errors import ReportError
from refit.figures import plots


def synthetic(families, seeds=(1,), epochs=6):
    """Curves of trials named family and number, falling in loss and rising in accuracy."""
    trials = [
        (family, f"{family}{n + 1}") for family, count in families.items() for n in range(count)
    ]
    rows = itertools.product(trials, seeds, range(1, epochs + 1))
    frame = pd.DataFrame(
        [(*trial, seed, epoch) for trial, seed, epoch in rows],
        columns=["sweep", "trial", "seed", "epoch"],
    )
    gain = 1 - np.exp(-frame["epoch"] / 3) - 0.01 * frame["seed"]
    return frame.assign(
        train_loss=2 - 1.8 * gain,
        val_loss=2 - 1.6 * gain,
        train_accuracy=gain,
        val_accuracy=0.9 * gain,
    )


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def colours(axes):
    return [line.get_color() for line in axes.lines]


def test_six_plots_compare_a_family_on_shared_axes():
    figure = plots.six_plots(synthetic({"cnn": 7}, seeds=(1, 2)), "CNN")
    assert isinstance(figure, Figure)
    assert len(figure.axes) == 6
    assert [len(axes.lines) for axes in figure.axes] == [7] * 6
    assert [len(axes.collections) for axes in figure.axes] == [7, 7, 0, 7, 7, 0]
    assert len(set(colours(figure.axes[0]))) == 7
    assert all(colours(axes) == colours(figure.axes[0]) for axes in figure.axes)
    assert figure.axes[0].get_ylim() == figure.axes[3].get_ylim()
    assert [axes.get_ylabel() for axes in figure.axes[3:]] == [
        "validation loss",
        "validation accuracy",
        "validation loss",
    ]
    assert legend(figure) == [f"cnn{n}" for n in range(1, 8)]


def test_lines_are_means_over_seeds():
    curves = synthetic({"cnn": 1}, seeds=(1, 2, 3))
    line = plots.six_plots(curves, "CNN").axes[4].lines[0]
    expected = curves.groupby("epoch")["val_accuracy"].mean()
    assert line.get_ydata() == pytest.approx(expected.to_numpy())


def test_exploding_and_diverged_losses_leave_other_curves_readable():
    curves = synthetic({"cnn": 3})
    curves.loc[(curves["trial"] == "cnn2") & (curves["epoch"] == 4), "val_loss"] = 1e9
    curves.loc[(curves["trial"] == "cnn3") & (curves["epoch"] > 3), ["train_loss", "val_loss"]] = (
        np.inf
    )
    figure = plots.six_plots(curves, "CNN")
    assert figure.axes[3].get_ylim()[1] < 5
    assert "axis cut at" in figure.axes[3].get_ylabel()
    assert legend(figure) == ["cnn1", "cnn2", "cnn3 (diverged)"]
    assert "axis cut at" in plots.small_multiples(curves, {}, "loss").get_supylabel()
    figure.png()


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_small_multiples_show_twenty_trials_as_four_by_five(metric):
    curves = synthetic({"cnn": 7, "vgg": 2, "alexnet": 3, "lenet": 5, "resnet": 3})
    titles = {trial: f"Model {trial}" for trial in curves["trial"].unique()}
    figure = plots.small_multiples(curves, titles, metric)
    grid = figure.axes[0].get_gridspec()
    assert (grid.nrows, grid.ncols) == (4, 5)
    assert [axes.get_title() for axes in figure.axes] == list(titles.values())
    assert all([line.get_linestyle() for line in axes.lines] == ["--", "-"] for axes in figure.axes)
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    assert legend(figure) == ["training", "validation", "cnn", "vgg", "alexnet", "lenet", "resnet"]


def test_trial_without_curves_has_a_panel_that_says_so():
    figure = plots.small_multiples(synthetic({"cnn": 1}), {"cnn1": "one", "cnn2": "two"})
    assert [axes.get_title() for axes in figure.axes[:2]] == ["one", "two"]
    assert figure.axes[1].texts[0].get_text() == "not finished"


def test_single_epoch_is_drawn_as_points():
    curves = synthetic({"cnn": 2}, epochs=1)
    assert all(
        line.get_marker() not in ("", "None", None)
        for figure in (plots.six_plots(curves, "CNN"), plots.small_multiples(curves, {}))
        for axes in figure.axes
        for line in axes.lines
    )


def test_published_against_reproduced_has_a_row_per_trial():
    frame = pd.DataFrame(
        {
            "trial": ["cnn1", "vgg1"],
            "title": ["CNN 1", "VGG 1"],
            "published": [0.888, 0.86],
            "reproduced": [0.89, np.nan],
            "lower": [0.88, np.nan],
            "upper": [0.90, np.nan],
        }
    )
    figure = plots.published_against_reproduced(frame, "validation accuracy")
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["CNN 1", "VGG 1"]
    assert axes.get_xlabel() == "validation accuracy"
    assert axes.get_ylim()[0] > axes.get_ylim()[1], "the first trial is on top"
    assert [text.get_text() for text in axes.texts] == ["not run"]
    assert legend(figure) == ["published", "reproduced", "lowest to highest seed"]


def test_accuracy_against_time_labels_every_trial_without_overlap():
    generator = np.random.default_rng(1)
    trials = [f"trial{number}" for number in range(20)]
    results = pd.DataFrame(
        {
            "sweep": ["a", "b"] * 10,
            "trial": trials,
            "val_accuracy": 0.9 + 0.05 * generator.random(20),
            "seconds": 60 * np.exp(generator.random(20)),
        }
    )
    figure = plots.accuracy_against_time(results)
    axes = figure.axes[0]
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axes.texts]
    assert sorted(text.get_text() for text in axes.texts) == sorted(trials)
    assert axes.get_xscale() == "log"
    assert legend(figure) == ["a", "b"]
    assert not [pair for pair in itertools.combinations(boxes, 2) if pair[0].overlaps(pair[1])]


def test_confusion_matrix_shows_counts_coloured_by_row():
    figure = plots.confusion_matrix(np.array([[1500, 500], [0, 0]]), ["shirt", "bag"], "cnn7")
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == ["1,500", "500", "0", "0"]
    assert axes.images[0].get_array().tolist() == [[0.75, 0.25], [0.0, 0.0]]


def test_confusion_matrix_refuses_other_classes():
    with pytest.raises(ReportError, match="3 class names"):
        plots.confusion_matrix(np.eye(2), ["a", "b", "c"], "cnn7")


@pytest.mark.parametrize(
    "draw",
    [
        lambda empty: plots.six_plots(empty, "CNN"),
        lambda empty: plots.small_multiples(empty, {"cnn1": "one"}),
        plots.published_against_reproduced,
        plots.accuracy_against_time,
    ],
)
def test_nothing_finished_is_said(draw):
    assert "no finished trials" in draw(pd.DataFrame()).texts[0].get_text()


def test_wrong_input_is_named():
    curves = synthetic({"cnn": 1})
    with pytest.raises(ReportError, match="lacks the columns val_loss"):
        plots.six_plots(curves.drop(columns="val_loss"), "CNN")
    with pytest.raises(ReportError, match="'acuracy'"):
        plots.small_multiples(curves, {}, "acuracy")


def test_saved_figures_are_small_and_returned(tmp_path):
    figure = plots.six_plots(synthetic({"cnn": 7}, seeds=(1, 2)), "CNN")
    assert plots.save(figure, tmp_path / "figures", "cnn") is figure
    path = tmp_path / "figures" / "cnn.png"
    assert path.stat().st_size < 150_000
    with Image.open(path) as image:
        assert image.width == pytest.approx(1210, abs=2)
