"""Figures of tuning and transfer: what is computed for them, what is drawn, what is said."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.patches import FancyBboxPatch
from scipy import stats

from refit.errors import ReportError
from refit.figures import layer_graph, transfer_plots, tuning_plots
from refit.figures.old_picture import COLOURS, Picture

VALUES = ("elu", "relu", "selu")
AXES = {f"model.activation{number}": f"activation {number}" for number in (1, 2, 3, 4)}
PUBLISHED = {"Adadelta": 0.758, "FTRL": 0.1, "NAdam": 0.9305, "Adamax": 0.9299, "sgd": 0.914}
PAIRS = ["before", "after", "published_before", "published_after"]


def grid():
    """A row per combination, in published order; the last layer's activation matters most."""
    frame = pd.DataFrame(itertools.product(VALUES, repeat=4), columns=list(AXES))
    places = zip(AXES, (6, 5, 4, 3), strict=True)
    worth = sum(frame[axis].map(VALUES.index) * 10.0**-place for axis, place in places)
    trials = frame.agg("-".join, axis=1)
    return frame.assign(trial=trials, test_accuracy=0.9 + worth, seconds=np.arange(81.0))


def optimizers(**scores):
    frame = pd.DataFrame({"optimizer": scores.keys(), "test_accuracy": scores.values()})
    return frame.assign(trial=frame["optimizer"])


def curves(trials=("mobilenet",), epochs=20, seeds=(1, 3)):
    rows = itertools.product(trials, seeds, range(1, epochs + 1))
    frame = pd.DataFrame(rows, columns=["trial", "seed", "epoch"])
    gain = 1 - np.exp(-frame["epoch"] / 5) - 0.01 * frame["seed"]
    return frame.assign(
        train_accuracy=gain, val_accuracy=gain - 0.1, train_loss=1.1 - gain, val_loss=1.2 - gain
    )


def trainings():
    """A row per number of images, way of starting and seed."""
    rows = itertools.product((10, 11, 100, 1000), ("transferred", "scratch"), (1, 2, 3))
    frame = pd.DataFrame(rows, columns=["images", "start", "seed"])
    lead = 0.2 * (frame["start"] == "transferred")
    return frame.assign(value=0.4 + lead + 0.01 * frame["seed"] + 0.05 * np.log10(frame["images"]))


def layer(name, kind, shape=(8, 8, 4), parameters=0, **more):
    return {
        "name": name,
        "type": kind,
        "output_shape": list(shape),
        "parameters": parameters,
    } | more


def entries(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def texts(panel):
    return [text.get_text() for text in panel.texts if text.get_text()]


def overlapping(figure, written):
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in written if text.get_text()]
    return [pair for pair in itertools.combinations(boxes, 2) if pair[0].overlaps(pair[1])]


def line(figure, label):
    """The place of the vertical line with this beginning of its entry in the legend."""
    handles = figure.legends[0].legend_handles
    colour, style = next(
        (handle.get_color(), handle.get_linestyle())
        for handle, text in zip(handles, entries(figure), strict=True)
        if text.startswith(label)
    )
    found = [
        drawn.get_xdata()[0]
        for drawn in figure.axes[0].lines
        if (drawn.get_color(), drawn.get_linestyle()) == (colour, style)
    ]
    assert len(found) == 1
    return found[0]


def marks(panel, marker):
    """The places of all marks of a kind, as (x, y)."""
    lines = [drawn.get_xydata() for drawn in panel.lines if drawn.get_marker() == marker]
    return np.concatenate(lines) if lines else np.empty((0, 2))


def test_expected_maximum_agrees_with_simulation_and_known_values():
    assert tuning_plots.expected_maximum(1) == pytest.approx(0, abs=1e-9)
    assert tuning_plots.expected_maximum(2) == pytest.approx(1 / math.sqrt(math.pi))
    assert tuning_plots.expected_maximum(3) == pytest.approx(1.5 / math.sqrt(math.pi))
    simulated = np.random.default_rng(1).normal(size=(20_000, 81)).max(axis=1).mean()
    assert tuning_plots.expected_maximum(81) == pytest.approx(simulated, abs=0.015)
    assert tuning_plots.expected_maximum(81) == pytest.approx(2.43, abs=0.005)
    assert tuning_plots.expected_maximum(10**6) == pytest.approx(4.863, abs=0.002)
    with pytest.raises(ReportError, match="highest of 0"):
        tuning_plots.expected_maximum(0)


def test_combinations_are_ranked_and_keep_their_published_numbers():
    rows = grid()
    numbers = {trial: place for place, trial in enumerate(rows["trial"], 1)}
    rows.loc[5, "test_accuracy"] = np.inf
    rows.loc[[7, 8], "test_accuracy"] = 0.99
    table = tuning_plots.combinations(
        rows.sample(frac=1, random_state=1), AXES, "test_accuracy", numbers
    )
    assert list(table) == [
        *("rank", "combination", "trial"),
        *AXES.values(),
        *("test_accuracy", "seconds"),
    ]
    assert table["rank"][:4].tolist() == [1, 1, 3, 4]
    assert set(table["combination"][:2]) == {8, 9}
    assert table.loc[2, ["combination", "activation 1", "seconds"]].tolist() == [81, "selu", 80.0]
    assert table["trial"].iloc[-1] == rows["trial"][5]
    assert pd.isna(table["rank"].iloc[-1])
    unnumbered = tuning_plots.combinations(rows[:2], AXES, "test_accuracy", {})
    assert unnumbered["combination"].isna().all()
    assert tuning_plots.combinations(pd.DataFrame(), AXES, "test_accuracy", {}).empty


def test_main_effects_are_means_over_all_other_settings():
    rows = grid()
    figure = tuning_plots.main_effects(rows, AXES, "test_accuracy", "Activations", "accuracy")
    assert [panel.get_xlabel() for panel in figure.axes] == list(AXES.values())
    assert len({panel.get_ylim() for panel in figure.axes}) == 1
    for panel, axis in zip(figure.axes, AXES, strict=True):
        assert [tick.get_text() for tick in panel.get_xticklabels()] == list(VALUES)
        groups = rows.groupby(axis)["test_accuracy"]
        (bars,) = panel.containers
        assert bars.lines[0].get_ydata() == pytest.approx(groups.mean().to_numpy())
        halves = [np.ptp(segment[:, 1]) / 2 for segment in bars.lines[2][0].get_segments()]
        expected = stats.t.ppf(0.975, 26) * groups.std() / math.sqrt(27)
        assert halves == pytest.approx(expected.to_numpy())
        assert len(marks(panel, "o")) == 81 + 3
    assert figure.axes[3].get_title() == "means differ by 0.0020"
    assert figure.legends[0].get_title().get_text() == "Activations"
    assert "mean of all: 0.9011" in entries(figure)
    figure.png()


def test_failed_trainings_do_not_flatten_the_others():
    rows = grid()
    rows.loc[[0, 40], "test_accuracy"] = 0.1
    rows.loc[80, "test_accuracy"] = np.nan
    figure = tuning_plots.main_effects(rows, AXES, "test_accuracy", "")
    for panel in figure.axes:
        low = marks(panel, "v")
        assert np.round(low[:, 0]).tolist() == [0, 1]
        assert set(low[:, 1]) == {panel.get_ylim()[0]}
        assert panel.get_ylim()[0] > 0.5
    expected = "Triangles: 2 of 80 trials, down to 0.1000. Not drawn: 1 of 81 trials"
    assert figure.get_supxlabel().startswith(expected)
    figure.png()


def test_main_effects_of_nothing_are_refused():
    with pytest.raises(ReportError, match="none is named"):
        tuning_plots.main_effects(grid(), {}, "test_accuracy", "")


def test_optimizers_stand_in_published_order_with_both_ranks():
    rows = optimizers(adadelta=0.7, ftrl=0.1, nadam=0.92, adamax=0.93, sgd=0.91, lion=0.5)
    figure = tuning_plots.ranking(rows, "optimizer", PUBLISHED)
    (panel,) = figure.axes
    assert [tick.get_text() for tick in panel.get_yticklabels()] == [
        "NAdam  (published 1st, here 2nd)",
        "Adamax  (published 2nd, here 1st)",
        "sgd  (published 3rd, here 3rd)",
        "Adadelta  (published 4th, here 4th)",
        "FTRL  (published 5th, here 6th)",
        "lion  (published –, here 5th)",
    ]
    published, here = (drawn.get_xdata() for drawn in panel.lines)
    assert published[:2] == pytest.approx([0.9305, 0.9299])
    assert here == pytest.approx([0.92, 0.93, 0.91, 0.7, 0.1, 0.5])
    assert figure.get_supxlabel().startswith("The two orders of 5: Spearman's rho 0.90")
    best, next_best, worst = panel.transData.transform([(0.93, 0), (0.91, 0), (0.1, 0)])[:, 0]
    assert (best - next_best) / (best - worst) > 0.05, "on a plain axis it would be 0.024"
    assert "stretched" in panel.get_xlabel()
    assert not overlapping(figure, panel.get_xticklabels())
    figure.png()


def test_optimizers_that_were_not_run_are_named_and_a_short_axis_stays_plain():
    figure = tuning_plots.ranking(optimizers(sgd=0.3), "optimizer", {"SGD": 0.31, "Adam": 0.4})
    (panel,) = figure.axes
    assert texts(panel) == ["not run"]
    assert panel.get_xscale() == "linear"
    assert figure.get_supxlabel().startswith("No rank correlation: 1 with both scores")
    figure.png()
    perfect = tuning_plots.ranking(optimizers(nadam=1.0, ftrl=0.0), "optimizer", PUBLISHED)
    assert perfect.axes[0].get_xlim()[1] >= 1
    perfect.png()


def test_rank_agreement_is_one_for_the_same_order_and_says_how_rare_it_is():
    scores = {name: place**2 for place, name in enumerate("ABCDEFGH")}
    lower = {name.lower(): value + 3 for name, value in scores.items()}
    same = tuning_plots.rank_agreement(lower | {"unpublished": 1.0}, scores)
    assert same["coefficient"].tolist() == ["Spearman's rho", "Kendall's tau"]
    assert same["value"].tolist() == pytest.approx([1, 1])
    assert same["p"].tolist() == pytest.approx([1 / math.factorial(8)] * 2)
    assert same["n"].tolist() == [8, 8]
    swapped = tuning_plots.rank_agreement(scores | {"A": 1, "B": 0}, scores)
    assert swapped["value"].tolist() == pytest.approx([1 - 6 * 2 / (8 * 63), 1 - 2 / 28])
    opposite = tuning_plots.rank_agreement({name: -value for name, value in scores.items()}, scores)
    assert opposite["value"].tolist() == pytest.approx([-1, -1])
    constant = tuning_plots.rank_agreement(dict.fromkeys(scores, 0.5), scores)
    assert constant["value"].isna().all()


def test_winners_curse_pairs_new_trainings():
    values = {"default": 0.90, "a": 0.91, "b": 0.93, "lost": math.inf}
    again = {
        "default": pd.Series([0.90, 0.92, 0.94], [1, 2, 3]),
        "b": pd.Series([0.93, 0.92, 0.91, 0.5], [3, 2, 1, 9]),
        "a": [0.9],
    }
    table = tuning_plots.winners_curse(values, "default", again).set_index("row")
    assert table.index.tolist() == [
        *("default", "winner", "retrained"),
        *("winner − default", "retrained − default"),
    ]
    assert table["trial"].tolist() == ["default", "b", "a", "b", "a"]
    default, lead = table.loc["default"], table.loc["winner − default"]
    assert default["retrained mean"] == pytest.approx(0.92)
    assert default["standard deviation"] == pytest.approx(0.02)
    assert default["shrinkage"] == pytest.approx(-0.02)
    half = stats.t.ppf(0.975, 2) * 0.02 / math.sqrt(3)
    assert default["upper"] - default["retrained mean"] == pytest.approx(half)
    assert lead["n"] == 3, "the fourth new training of the winner has no partner"
    assert lead["retrained mean"] == pytest.approx(0.0)
    assert lead["standard deviation"] == pytest.approx(0.01)
    assert lead[["score in the search", "shrinkage"]].tolist() == pytest.approx([0.03, 0.03])
    assert (table.loc["retrained", "n"], table.loc["retrained − default", "n"]) == (1, 0)
    assert math.isnan(table.loc["retrained", "lower"])
    alone = tuning_plots.winners_curse({"a": 0.9}, "a", {"a": [0.8]})
    assert alone["row"].tolist() == ["default, which is the winner"]
    assert tuning_plots.winners_curse({"a": math.nan}, "a", {}).empty


def test_best_of_many_is_compared_with_luck():
    rows = grid()
    values = dict(zip(rows["trial"], rows["test_accuracy"], strict=True))
    default, winner = "relu-relu-relu-relu", "selu-selu-selu-selu"
    again = {default: [0.900, 0.902, 0.904], winner: [0.901, 0.905], "elu-elu-elu-elu": [0.9]}
    figure = tuning_plots.best_of_many(
        values, default, again, 0.9337, "Best of 81", titles={winner: "all selu"}
    )
    upper, lower = figure.axes
    assert sum(bar.get_height() for bar in upper.patches) == 81
    # Squares around the means: 8 and 8 millionths, with two and one degrees of freedom.
    spread = math.sqrt((8 + 8) * 1e-6 / 3)
    expected = rows["test_accuracy"].mean() + tuning_plots.expected_maximum(81) * spread
    assert line(figure, "best to expect of 81 equal networks") == pytest.approx(expected)
    assert f"2.43 × {spread:.4f} = {expected:.4f}" in " ".join(entries(figure))
    assert line(figure, "published best") == 0.9337
    assert line(figure, "best of the search") == rows["test_accuracy"].max()
    assert [tick.get_text() for tick in lower.get_yticklabels()] == [
        "default: relu-relu-relu-relu\n0.9020 ± 0.0050, n = 3",
        "winner: all selu\n0.9030 ± 0.0254, n = 2",
        "retrained: elu-elu-elu-elu\n0.9000, n = 1",
    ]
    assert marks(lower, "D")[:, 0].tolist() == [values[name] for name in again]
    assert upper.get_xlim() == lower.get_xlim()
    figure.png()


def test_without_new_trainings_nothing_is_said_of_luck():
    values = {f"trial{number}": 0.9 + 0.001 * number for number in range(20)}
    values |= {"failed": 0.1, "lost": math.nan}
    figure = tuning_plots.best_of_many(values, "trial3", {}, None, "Best of 22")
    assert [text.split(":")[0] for text in entries(figure)] == [
        "trials of the search (21)",
        "their mean",
        "best of the search",
        "score in the search",
    ]
    assert figure.get_supxlabel() == (
        "Not drawn: 1 with lower scores, down to 0.1000. 1 of 22 trials have no finite score. "
        "How far runs of one network differ is not known"
    )
    labels = [tick.get_text() for tick in figure.axes[1].get_yticklabels()]
    assert labels[1] == "winner: trial19\nnot trained again"
    figure.png()
    tuning_plots.best_of_many({"a": 0.9}, "a", {"a": [0.9, 0.91]}, 0.9, "Best of one").png()


def test_layer_graphs_stand_side_by_side_with_their_totals():
    chain = [
        layer("conv", "Conv2D", (224, 224, 64), 1234),
        layer("norm", "BatchNormalization", (224, 224, 2048), 123_456_789),
        layer("relu", "ReLU"),
        layer("pool", "GlobalAveragePooling2D", (1280,)),
        layer("drop", "SpatialDropout2D", (1280,)),
        layer("dense", "Dense", (10,), 99),
    ]
    figure = layer_graph.draw({"long": chain, "short": [layer("resnet50", "Functional")]})
    left, right = figure.axes
    assert [panel.get_title() for panel in figure.axes] == ["long", "short"]
    assert texts(left)[:6] == ["layer", "output", "parameters", "Conv2D", "224 × 224 × 64", "1,234"]
    assert texts(left)[-1] == "6 layers, 123,458,122 parameters"
    assert texts(right)[3:] == ["resnet50", "8 × 8 × 4", "0", "1 layer, 0 parameters"]
    boxes = [patch for patch in left.patches if isinstance(patch, FancyBboxPatch)]
    assert [box.get_edgecolor()[:3] for box in boxes] == [to_rgb(hue) for hue in COLOURS[:6]]
    assert [text.split()[0] for text in entries(figure)] == [*layer_graph.KINDS, "other"]
    arrows = [text for text in left.texts if getattr(text, "arrow_patch", None)]
    assert len(arrows) == 5
    assert not overlapping(figure, left.texts)
    figure.png()


def test_what_is_no_chain_is_said_beside_its_arrow():
    rows = [
        layer("resize", "Resizing", inputs=["images"]),
        layer("together", "Concatenate", inputs=["resize"] * 3),
        layer("conv", "Conv2D", inputs=["together"]),
        layer("add", "Add", inputs=["conv", "together"]),
        layer("pool", "MaxPooling2D", inputs=["conv"]),
    ]
    (panel,) = layer_graph.draw({"branches": rows}).axes
    notes = {"3 copies", "and from together", "from conv"}
    assert [text for text in texts(panel) if text in notes or "from" in text] == [
        "3 copies",
        "and from together",
        "from conv",
    ]
    arrows = [text for text in panel.texts if getattr(text, "arrow_patch", None)]
    assert len(arrows) == 3, "none from the addition to the pooling"
    first = [layer("together", "Concatenate", inputs=["images"] * 3)]
    assert "from 3 copies of images" in texts(layer_graph.draw({"first": first}).axes[0])


def test_many_networks_wrap_and_a_missing_one_says_so():
    short, long = [layer("a", "Dense")], [layer(str(place), "Dense") for place in range(30)]
    figure = layer_graph.draw({"a": short, "b": [], "c": short, "d": long})
    assert len(figure.axes) == 6
    assert texts(figure.axes[1]) == ["no finished trials"]
    tops = [panel.get_subplotspec().rowspan.start for panel in figure.axes]
    assert tops == [0, 0, 0, 1, 1, 1]
    assert not overlapping(figure, figure.axes[3].texts)
    with pytest.raises(ReportError, match="a layer of a lacks output_shape, parameters"):
        layer_graph.draw({"a": [{"name": "x", "type": "Dense"}]})


def test_phases_are_told_apart_by_a_line():
    frame = curves(("mobilenet", "inception", "other"))
    switches = {"inception": 10, "mobilenet": 4, "later": 3}
    figure = transfer_plots.phases(frame, switches, "Transfer", {"inception": "InceptionV3"})
    assert [panel.get_ylabel() for panel in figure.axes[::2]] == [
        "InceptionV3\n\naccuracy",
        "mobilenet\n\naccuracy",
        "later\n\naccuracy",
    ]
    for panels, switch in ((figure.axes[:2], 10.5), (figure.axes[2:4], 4.5)):
        for panel in panels:
            training, validation, begins = panel.lines
            assert begins.get_xdata() == [switch, switch]
            assert len(training.get_xdata()) == len(validation.get_xdata()) == 20
            assert texts(panel) == ["head ", "fine-tuning"]
    expected = frame[frame["trial"] == "inception"].groupby("epoch")["val_accuracy"].mean()
    assert figure.axes[0].lines[1].get_ydata() == pytest.approx(expected.to_numpy())
    assert [texts(panel) for panel in figure.axes[4:]] == [["no finished trials"]] * 2
    assert entries(figure) == ["training", "validation", "fine-tuning begins"]
    figure.png()


def test_phases_that_were_not_reached_or_diverged():
    frame = curves(epochs=3, seeds=(1,))
    figure = transfer_plots.phases(frame, {"mobilenet": 3}, "")
    assert [len(panel.lines) for panel in figure.axes] == [2, 2]
    assert texts(figure.axes[0]) == ["head"]
    only = transfer_plots.phases(frame[:1], {"mobilenet": 0}, "")
    assert texts(only.axes[0]) == ["fine-tuning"]
    assert only.axes[0].lines[0].get_marker() == "o"
    only.png()
    frame.loc[2, ["train_loss", "val_loss"]] = [np.nan, np.inf]
    lost = transfer_plots.phases(frame, {"mobilenet": 1}, "")
    assert lost.get_supxlabel() == "Not drawn: 2 of 6 losses, not finite"
    lost.png()


def test_gain_has_means_over_seeds_on_a_logarithmic_axis():
    rows = trainings()
    rows.loc[0, "value"] = np.nan
    names = {"transferred": "trained on other classes", "scratch": "from scratch"}
    figure = transfer_plots.gain(
        rows, "images", "value", names, "Gain", chance=0.1, label="accuracy"
    )
    (panel,) = figure.axes
    assert panel.get_xscale() == "log"
    means = panel.lines[3]
    expected = rows[rows["start"] == "scratch"].groupby("images")["value"].mean()
    assert means.get_xydata() == pytest.approx(expected.reset_index().to_numpy())
    assert len(panel.lines[2].get_xdata()) == 12
    assert entries(figure) == [
        "trained on other classes (2 to 3 seeds)",
        "from scratch (3 seeds)",
        "guessing: 0.1",
    ]
    assert panel.lines[-1].get_ydata() == [0.1, 0.1]
    ticks = [tick.get_text() for tick in panel.get_xticklabels()]
    assert ticks == ["10", "100", "1,000"], "11 has no room"
    assert "Not drawn: 1 of 24 trainings: 1 without a finite accuracy" in figure.get_supxlabel()
    figure.png()
    names["other"] = "other start"
    one = transfer_plots.gain(rows[1:2], "images", "value", names, "Gain")
    assert entries(one)[1:] == ["from scratch (none yet)", "other start (none yet)"]
    one.png()


def test_pairs_stand_above_the_published_ones():
    rows = [
        ("a", 0.9, 0.98, 0.9223, 1.0),
        ("b", 0.8, 0.7, *[np.nan] * 2),
        ("c", *[np.nan] * 2, 0.9, 1),
    ]
    frame = pd.DataFrame(rows, columns=["trial", *PAIRS]).assign(title=["A", "B", "C"])
    figure = transfer_plots.before_after(frame)
    (panel,) = figure.axes
    before, after, published_before, _ = panel.lines
    assert before.get_xdata()[:2].tolist() == [0.9, 0.8]
    assert after.get_xdata()[:2].tolist() == [0.98, 0.7]
    assert (before.get_ydata() < published_before.get_ydata()).all()
    assert published_before.get_markerfacecolor() == "white"
    written = ["0.9000", "0.9800", "0.7000", "0.8000", "not run"]
    assert texts(panel) == [*written, "0.9223", "1.0000", "0.9000", "1.0000"]
    lower = {text.get_text(): text.get_ha() for text in panel.texts[2:4]}
    assert lower == {"0.7000": "right", "0.8000": "left"}, (
        "outside the line, whatever its direction"
    )
    assert not overlapping(figure, panel.texts)
    figure.png()


def test_moments_join_what_was_measured_and_what_was_published():
    before, after = transfer_plots.MOMENTS
    means = pd.DataFrame(
        {"trial": ["scratch", "small", "big"], "title": ["S", "Small", "Big"]}
        | {before: [np.nan, 0.6, 0.7], after: [0.5, 0.8, 0.9]}
    )
    printed = [
        ("big", before, 0.92),
        ("big", after, 1.0),
        ("never", before, 0.98),
        ("x", after, 1.0),
    ]
    numbers = pd.DataFrame(printed, columns=["trial", "metric", "published"])
    numbers = numbers.assign(epochs="", reproduced=np.nan)
    table = transfer_plots.moments(means, numbers).set_index("trial")
    assert table.index.tolist() == ["big", "never", "small"]
    assert table["title"].tolist() == ["Big", "never", "Small"]
    assert table.loc["big", PAIRS].tolist() == [0.7, 0.9, 0.92, 1.0]
    assert table.loc["small", PAIRS[:2]].tolist() == [0.6, 0.8]
    assert table.loc["never", "published_before"] == 0.98
    assert table.isna().to_numpy().sum() == 5
    assert texts(transfer_plots.before_after(table.reset_index()).axes[0])[2] == "not run"
    unfinished = transfer_plots.moments(means[:0], numbers)
    assert "no finished trials" in transfer_plots.before_after(unfinished).texts[0].get_text()
    assert transfer_plots.moments(means[:1], numbers[3:]).empty


@pytest.mark.parametrize(
    "draw",
    [
        lambda empty: tuning_plots.main_effects(empty, AXES, "test_accuracy", "Effects"),
        lambda _: tuning_plots.main_effects(
            grid().assign(test_accuracy=np.nan), AXES, "test_accuracy", "Effects"
        ),
        lambda empty: tuning_plots.ranking(empty, "optimizer", PUBLISHED),
        lambda _: tuning_plots.best_of_many({}, "a", {}, 0.9, "Best"),
        lambda _: tuning_plots.best_of_many({"a": np.nan}, "a", {"a": [0.9]}, 0.9, "Best"),
        lambda _: layer_graph.draw({}),
        lambda _: layer_graph.draw({"a": [], "b": []}),
        lambda empty: transfer_plots.phases(empty, {"a": 1}, "Phases"),
        lambda _: transfer_plots.phases(curves(), {"a": 1}, "Phases"),
        lambda empty: transfer_plots.gain(empty, "images", "value", {"a": "A"}, "Gain"),
        lambda _: transfer_plots.gain(trainings(), "images", "value", {"a": "A"}, "Gain"),
        lambda empty: transfer_plots.before_after(empty),
        lambda _: transfer_plots.before_after(
            pd.DataFrame({"trial": ["a"], "title": ["A"], **dict.fromkeys(PAIRS, np.nan)})
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
        (lambda: tuning_plots.combinations(grid(), AXES, "speed", {}), "speed"),
        (lambda: tuning_plots.main_effects(grid(), {"depth": "depth"}, "seconds", ""), "depth"),
        (lambda: tuning_plots.ranking(grid(), "optimizer", PUBLISHED), "optimizer"),
        (lambda: transfer_plots.phases(trainings(), {}, ""), "epoch"),
        (lambda: transfer_plots.gain(trainings(), "cost", "value", {}, ""), "cost"),
        (lambda: transfer_plots.before_after(trainings()), "published_after"),
    ],
)
def test_missing_columns_are_named(draw, column):
    with pytest.raises(ReportError, match=f"lacks the columns .*{column}"):
        draw()
