"""Figures of searches and of single trainings: what is drawn, what is left out, what is said."""

import itertools

import numpy as np
import pandas as pd
import pytest

from refit.errors import ReportError
from refit.figures import grid_plots, training_plots
from refit.figures.old_picture import Picture

CLASSES = ["shirt", "coat", "bag"]
MATRIX = np.array([[80, 15, 5], [3, 96, 1], [0, 0, 0]])
LABELS = {"seconds_to_target": "time to the target", "test_accuracy": "test accuracy"}


def batches(trial="baseline", count=5000, seed=1):
    """Noisy losses of one training, which fall from 2.3, and accuracies that rise."""
    noise = np.random.default_rng(seed).normal(size=count)
    loss = (0.3 + 2 * np.exp(-np.arange(count) / (count / 20))) * np.exp(0.2 * noise)
    return pd.DataFrame(
        {
            "trial": trial,
            "seed": seed,
            "batch": np.arange(count),
            "batch_loss": loss,
            "batch_accuracy": np.exp(-loss),
        }
    )


def search(filters=(8, 16, 32), momentum=(0.5, 0.9), dense=range(10)):
    """Results of a grid in which more filters cost more time and bring more accuracy."""
    generator = np.random.default_rng(2)
    frame = pd.DataFrame(
        itertools.product(filters, momentum, dense), columns=["filters", "momentum", "dense"]
    )
    noise = generator.random((2, len(frame)))
    return frame.assign(
        sweep=np.where(frame["momentum"] > 0.6, "grid1", "grid2"),
        trial=[f"trial{number}" for number in range(len(frame))],
        seconds_to_target=frame["filters"] * (5 + noise[0]),
        test_accuracy=0.88 + frame["filters"] / 4000 + 0.01 * noise[1],
    )


def legend(figure, number=0):
    return [text.get_text() for text in figure.legends[number].get_texts()]


def note(figure):
    return figure.get_supxlabel()


def overlapping(panel):
    panel.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in panel.texts if text.get_text()]
    return [pair for pair in itertools.combinations(boxes, 2) if pair[0].overlaps(pair[1])]


def test_batches_have_a_pale_line_and_a_running_mean():
    figure = training_plots.batch_curves(batches(), "Baseline", {})
    assert len(figure.axes) == 2
    assert [len(panel.lines) for panel in figure.axes] == [2, 2]
    assert legend(figure) == ["single batches", "mean over 100 batches"]
    mean = figure.axes[0].lines[1]
    assert mean.get_ydata()[-1000:].max() == pytest.approx(0.3, abs=0.03)
    assert figure.axes[0].get_ylim()[1] > mean.get_ydata().max(), "the mean is never cut"
    assert note(figure) == ""


def test_long_trainings_are_drawn_with_few_vertices_but_all_extremes():
    frame = batches(count=75_000)
    frame.loc[40_001, "batch_accuracy"] = 0.0
    pale = training_plots.batch_curves(frame, "", {}).axes[1].lines[0]
    assert len(pale.get_xdata()) <= 2000
    assert pale.get_ydata().min() == 0.0
    assert pale.get_ydata().max() == frame["batch_accuracy"].max()


def test_each_seed_and_trial_has_its_lines_and_the_background_is_grey():
    frame = pd.concat([batches("a", seed=1), batches("a", seed=2), batches("b", count=40)])
    figure = training_plots.batch_curves(frame, "", {"a": "A", "b": "B"}, background="a")
    colours = [line.get_color() for line in figure.axes[0].lines]
    assert len(colours) == 6
    assert colours[:4] == [training_plots.GREY] * 4
    assert legend(figure)[:2] == ["A", "B"]


def test_special_trials_stand_before_their_ordinary_ones():
    frame = pd.concat([batches("high"), batches("small", count=40_000), batches("ordinary")])
    frame.loc[(frame["trial"] == "high") & (frame["batch"] > 3000), "batch_loss"] = 500.0
    frame.loc[(frame["trial"] == "high") & (frame["batch"] > 4000), "batch_loss"] = np.inf
    background = {"high": "ordinary", "small": "absent", "unfinished": "ordinary"}
    images = {"high": 32, "ordinary": 32, "small": 4}
    figure = training_plots.batch_losses(frame, background, {"high": "High"}, images)
    assert [panel.get_title() for panel in figure.axes] == ["High", "small"]
    assert [len(panel.lines) for panel in figure.axes] == [4, 2]
    assert figure.axes[0].texts[0].get_text().splitlines() == [
        "in grey: ordinary",
        "1,013 batches above the axis and 999 without a finite loss, of 5,000",
    ]
    assert figure.axes[1].texts[0].get_text().startswith("not run: absent")
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()
    assert 2.3 < figure.axes[0].get_ylim()[1] < 5
    assert "axis cut at" in figure.get_supylabel()
    assert figure.axes[1].lines[-1].get_xdata()[-1] == pytest.approx(160_000, rel=0.01)
    assert figure.axes[1].get_xlabel() == "images seen"
    assert note(figure) == "Not drawn: 999 of 50,000 batches, without a finite loss"
    figure.png()


def test_batch_sizes_that_are_not_given_are_named():
    with pytest.raises(ReportError, match="no images per batch are given for ordinary"):
        training_plots.batch_losses(
            pd.concat([batches("a"), batches("ordinary")]), {"a": "ordinary"}, {}, {"a": 4}
        )


def losses(trial="large"):
    epochs = np.arange(1, 21)
    return pd.DataFrame(
        {
            "trial": trial,
            "seed": 1,
            "epoch": epochs,
            "train_loss": 1 / epochs,
            "val_loss": 0.3 + (epochs - 7) ** 2 / 100,
        }
    )


def test_lowest_test_loss_is_marked_with_its_epoch():
    figure = training_plots.train_and_test_loss(losses(), "Large")
    panel = figure.axes[0]
    assert [text.get_text() for text in panel.texts] == ["lowest test loss: 0.3000 in epoch 7"]
    mark = next(line for line in panel.lines if line.get_marker() == "o")
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == (7, 0.3)
    assert legend(figure) == ["train loss", "test loss"]


def test_losses_of_one_trial_only_and_infinite_ones_are_counted():
    with pytest.raises(ReportError, match="not of 2 trials"):
        training_plots.train_and_test_loss(pd.concat([losses(), losses("other")]), "Both")
    diverged = losses().assign(val_loss=np.inf)
    figure = training_plots.train_and_test_loss(diverged, "Diverged", ("train", "held out"))
    assert not figure.axes[0].texts
    assert note(figure) == "Not drawn: 20 of 40 losses, without a finite loss"
    figure.png()


def test_distribution_of_predictions_says_how_many_too_many():
    panel = training_plots.prediction_distribution(MATRIX, CLASSES, "cnn").axes[0]
    assert [bar.get_height() for bar in panel.patches] == [100, 100, 0, 83, 111, 6]
    assert [text.get_text() for text in panel.texts] == ["−17", "+11", "+6"]


def test_large_confusions_are_named_beside_their_label():
    figure = training_plots.predictions_by_label(MATRIX, CLASSES, "cnn")
    panel = figure.axes[0]
    assert [text.get_text() for text in panel.texts] == [
        "80.0%",
        "coat 15%, bag 5%",
        "96.0%",
        "",
        "no images",
    ]
    assert [bar.get_width() for bar in panel.patches[:3]] == pytest.approx([0.8, 0.15, 0.05])
    assert legend(figure) == ["correct", *CLASSES]


def test_scatter_shows_the_same_points_in_every_panel():
    results = search()
    results.loc[[4, 9], "seconds_to_target"] = np.inf
    results.loc[7, "momentum"] = np.nan
    axes = {"filters": "filters", "momentum": "momentum of SGD", "sweep": "grid"}
    figure = grid_plots.scatter_by(results, "seconds_to_target", "test_accuracy", axes, LABELS)
    assert len(figure.axes) == 3
    assert [sum(len(line.get_xdata()) for line in panel.lines) for panel in figure.axes] == [58] * 3
    legends = [panel.get_legend() for panel in figure.axes]
    assert [drawn.get_title().get_text() for drawn in legends] == list(axes.values())
    assert [[text.get_text() for text in drawn.get_texts()] for drawn in legends] == [
        ["8", "16", "32"],
        ["0.5", "0.9", "not set"],
        ["grid1", "grid2"],
    ]
    assert figure.axes[0].get_xscale() == "log"
    assert note(figure) == "Not drawn: 2 of 60 trials: 2 without a finite time to the target"
    figure.png()


def test_bars_are_ordered_and_only_the_extremes_are_named():
    results = search()
    results.loc[11, "test_accuracy"] = np.nan
    titles = {trial: trial.upper() for trial in results["trial"]}
    groups = {"grid1": "Grid 1", "grid2": "Grid 2"}
    figure = grid_plots.ordered_bars(results, "test_accuracy", "accuracy", titles, groups=groups)
    panel = figure.axes[0]
    ordered = results.dropna().sort_values("test_accuracy", ascending=False)["trial"].str.upper()
    names = [label.get_text() for label in panel.get_yticklabels()]
    assert names == [*ordered[:10], *ordered[-10:]]
    assert len(panel.patches) == 59
    assert panel.get_xlim()[0] == 0
    assert panel.get_ylim()[0] > panel.get_ylim()[1], "the best is on top"
    assert legend(figure) == ["Grid 2", "Grid 1"]
    assert "1 of 60 trials" in note(figure)
    assert not overlapping(panel)


def test_few_bars_are_all_named_and_the_lowest_can_be_the_best():
    results = search(dense=[64])
    panel = grid_plots.ordered_bars(results, "seconds_to_target", "time", {}, ascending=True).axes[
        0
    ]
    expected = list(results.sort_values("seconds_to_target")["trial"])
    assert [label.get_text() for label in panel.get_yticklabels()] == expected
    assert panel.texts[0].get_text() == f"{results['seconds_to_target'].min():.3g} s"


def test_axis_that_does_not_start_at_zero_has_dots_and_says_so():
    panel = grid_plots.ordered_bars(
        search(), "test_accuracy", "accuracy", {}, from_zero=False
    ).axes[0]
    assert not panel.patches
    assert len(panel.collections[0].get_offsets()) == 60
    assert (
        panel.get_xlabel()
        == f"accuracy (the axis starts at {panel.get_xlim()[0]:.4g}, not at zero)"
    )


def test_front_holds_what_no_other_trial_beats():
    results = pd.DataFrame(
        [
            ("dear", 9, 0.95),
            ("cheap", 1, 0.80),
            ("beaten", 5, 0.80),
            ("same cost, worse", 1, 0.70),
            ("middle", 3, 0.90),
            ("its twin", 3, 0.90),
            ("same value, dearer", 12, 0.95),
            ("never there", np.inf, 0.99),
            ("unknown", 2, np.nan),
        ],
        columns=["trial", "cost", "value"],
    ).assign(other=np.inf)
    best = grid_plots.front(results, "cost", "value")
    assert list(best["trial"]) == ["cheap", "middle", "its twin", "dear"]
    assert np.isinf(best["other"]).all(), "what is not asked for stays as it is"
    assert grid_plots.front(pd.DataFrame(), "cost", "value").empty


def test_pareto_front_is_a_numbered_step_line():
    results = pd.concat([search(), search().assign(seconds_to_target=np.inf)])
    best = grid_plots.front(results, "seconds_to_target", "test_accuracy")
    titles = {best["trial"].iloc[0]: "The fastest"}
    figure = grid_plots.pareto_front(results, "seconds_to_target", "test_accuracy", LABELS | titles)
    panel = figure.axes[0]
    assert [len(line.get_xdata()) for line in panel.lines[:2]] == [60 - len(best), len(best)]
    steps = panel.lines[2]
    assert steps.get_drawstyle() == "steps-post"
    assert list(steps.get_ydata()[1:-1]) == list(best["test_accuracy"])
    assert {text.get_text() for text in panel.texts} == {str(n + 1) for n in range(len(best))}
    assert [key.split(":")[0] for key in legend(figure, 1)] == [
        f"{number}  {titles.get(trial, trial)}" for number, trial in enumerate(best["trial"], 1)
    ]
    assert panel.get_xscale() == "log"
    assert "60 of 120 trials" in note(figure)
    assert not overlapping(panel)


def test_tuners_are_means_over_seeds_from_where_all_have_found_something():
    frame = pd.DataFrame(
        [
            ("random", 1, 10, 0.80),
            ("random", 1, 30, 0.90),
            ("random", 2, 20, 0.86),
            ("random", 2, 40, 0.88),
            ("hyperband", 1, 10, -np.inf),
            ("hyperband", 1, 15, 0.85),
        ],
        columns=["tuner", "seed", "epochs", "found"],
    )
    figure = grid_plots.tuner_comparison(frame, 0.91, {"random": "Random"}, 500)
    panel = figure.axes[0]
    assert list(panel.lines[0].get_xdata()) == [20, 30, 40]
    assert panel.lines[0].get_ydata() == pytest.approx([0.83, 0.88, 0.89])
    assert len(panel.collections) == 2
    assert legend(figure) == [
        "Random (2 seeds)",
        "hyperband (1 seed)",
        "best of the exhaustive grid: 0.9100",
        "epochs of the exhaustive grid: 500",
    ]
    assert panel.get_xscale() == "log"
    assert panel.get_xlim()[1] > 500
    assert "1 of 6 rows: 1 without a finite value" in note(figure)
    figure.png()


@pytest.mark.parametrize(
    "draw",
    [
        lambda empty: training_plots.batch_curves(empty, "Baseline", {}),
        lambda empty: training_plots.batch_losses(empty, {"high": "ordinary"}, {}),
        lambda empty: training_plots.train_and_test_loss(empty, "Large"),
        lambda _: training_plots.prediction_distribution(np.empty(0), [], "cnn"),
        lambda _: training_plots.predictions_by_label(np.empty(0), [], "cnn"),
        lambda empty: grid_plots.scatter_by(empty, "x", "y", {"filters": "filters"}, {}),
        lambda empty: grid_plots.ordered_bars(empty, "test_accuracy", "accuracy", {}),
        lambda empty: grid_plots.pareto_front(empty, "cost", "value", {}),
        lambda empty: grid_plots.tuner_comparison(empty, 0.9, {}),
        lambda _: grid_plots.pareto_front(
            search().assign(seconds_to_target=np.inf), "seconds_to_target", "test_accuracy", {}
        ),
    ],
)
def test_nothing_finished_is_said(draw):
    figure = draw(pd.DataFrame())
    assert isinstance(figure, Picture)
    assert "no finished trials" in figure.texts[0].get_text()


@pytest.mark.parametrize(
    ("draw", "column"),
    [
        (lambda: training_plots.batch_curves(losses(), "", {}), "batch"),
        (lambda: training_plots.train_and_test_loss(batches(), ""), "epoch"),
        (lambda: grid_plots.scatter_by(search(), "filters", "y", {}, {}), "y"),
        (lambda: grid_plots.ordered_bars(search(), "loss", "loss", {}), "loss"),
        (lambda: grid_plots.front(search(), "cost", "filters"), "cost"),
        (lambda: grid_plots.tuner_comparison(search(), 0.9, {}), "epochs"),
    ],
)
def test_missing_columns_are_named(draw, column):
    with pytest.raises(ReportError, match=f"lacks the columns .*{column}"):
        draw()


def test_names_that_do_not_fit_the_matrix_are_an_error():
    for draw in (training_plots.prediction_distribution, training_plots.predictions_by_label):
        with pytest.raises(ReportError, match="2 class names"):
            draw(MATRIX, ["a", "b"], "cnn")
