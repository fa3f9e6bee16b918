"""What the figures show, on tables made by hand."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import seaborn as sns

from refit.figures import batches as batch_figures
from refit.figures import curves, picture, published, settings
from refit.figures.labels import amount, label
from refit.figures.picture import Picture, theme

HOSTILE = ["<b>$a_b$</b>", "a" * 90, "Größe ×2", "per cent %s {x}", "", "$", "\\alpha", "a\nb"]
PAIRS = [("train_loss", "val_loss"), ("train_accuracy", "val_accuracy")]


def course(trial: str, seed: int = 1, epochs: int = 6, best: float = 0.9, lost: int = 99):
    """Curves of one training that ends at accuracy `best`; its loss is no number from `lost` on."""
    epoch = np.arange(1, epochs + 1)
    accuracy = best * epoch / epochs
    loss = np.where(epoch < lost, 2 - accuracy, np.nan)
    values = {"train_accuracy": accuracy, "val_accuracy": accuracy - 0.05}
    values |= {"train_loss": loss, "val_loss": loss + 0.1}
    return pd.DataFrame({"sweep": "s", "trial": trial, "seed": seed, "epoch": epoch} | values)


def batches(trial: str, count: int, seed: int = 1) -> pd.DataFrame:
    loss = np.linspace(2, 1, count)
    frame = {"trial": trial, "seed": seed, "batch": range(count), "batch_loss": loss}
    return pd.DataFrame(frame | {"batch_accuracy": 1 - loss / 3})


@pytest.fixture(scope="module")
def results() -> pd.DataFrame:
    """Three seeds of a grid of learning rates and widths; one trial diverged in every seed."""
    rows = [
        {"sweep": "grid", "trial": f"{rate}-{width}", "seed": seed, "rate": rate, "width": width}
        | {"accuracy": 0.5 + rate + width / 1000 + seed / 100, "seconds": width + seed}
        | {"diverged": rate == 0.2 and width == 64}
        for rate in (0.1, 0.02, 0.2)
        for width in (64.0, 8.0)
        for seed in (0, 1, 2)
    ]
    frame = pd.DataFrame(rows)
    return frame.assign(accuracy=frame["accuracy"].mask(frame["diverged"]))


@pytest.fixture(autouse=True)
def nothing_global_changes():
    before = dict(matplotlib.rcParams)
    yield
    assert dict(matplotlib.rcParams) == before
    assert not plt.get_fignums()


def assert_readable(shown: Picture) -> None:
    """Every text is on the picture, high enough for a telephone, and the axes say what they are."""
    shown.png()
    drawn = shown.get_tightbbox()
    assert min(*drawn.min, *(shown.get_size_inches() - drawn.max)) > -0.02
    sizes = [text.get_fontsize() for text in shown.findobj(matplotlib.text.Text) if text.get_text()]
    assert min(sizes) * 400 / (72 * picture.WIDTH) > 8.9
    for panel in shown.axes:
        if panel.get_visible() and panel.get_label() != "<colorbar>":
            assert panel.get_xlabel()
            assert "_" not in panel.get_xlabel() + panel.get_ylabel()
    assert shown.alt == f"{shown.title}. {shown.caption}"


def legend(shown: Picture) -> list[str]:
    return [text.get_text() for text in shown.legends[0].get_texts()]


def test_picture_is_the_same_whatever_a_machine_has_set():
    def drawn() -> bytes:
        with theme():
            shown = Picture("A title")
            sns.lineplot(course("a"), x="epoch", y="val_loss", ax=shown.panels()[0, 0])
        return shown.png()

    usual = drawn()
    with matplotlib.rc_context({"lines.linewidth": 30, "font.size": 3, "axes.grid": False}):
        assert drawn() == usual
        assert matplotlib.rcParams["lines.linewidth"] == 30


def test_picture_shows_its_caption_and_hides_no_markup(tmp_path):
    shown = Picture("<i>title</i>").say("1 < 2.", "", '"Quoted."').save(tmp_path, "shown")
    page = shown._repr_html_()
    assert "<figcaption><b>1 &lt; 2.</b> &quot;Quoted.&quot;</figcaption>" in page
    assert 'alt="&lt;i&gt;title&lt;/i&gt;. 1 &lt; 2. &quot;Quoted.&quot;"' in page
    assert (tmp_path / "shown.png").read_bytes().startswith(b"\x89PNG")


def test_forty_families_are_told_apart_and_values_get_lighter():
    names = [f"family {number}" for number in range(40)]
    colours, marks = picture.palette(names), picture.markers(names)
    assert len({(colours[name], marks[name]) for name in names}) == 40
    light = [sum(colour[:3]) for colour in picture.shades([1, 2, 3]).values()]
    assert light == sorted(light)


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("val_loss", "test loss (nats)"),
        ("processor_seconds_to_target", "processor time to target (s)"),
        ("optimizer.learning_rate", "learning rate"),
        ("best_val_accuracy", "best test accuracy"),
    ],
)
def test_labels_have_units(column, words):
    assert label(column, "test") == words


def test_words_for_values():
    assert [picture.written(value) for value in (16.0, True, None, "x")] == ["16", "yes", "–", "x"]
    assert picture.listed(["a"]) == "a"
    assert picture.listed("abcde") == "a, b and 3 more"
    assert [amount(value) for value in (0.87123, 12345)] == ["0.871", "12,345"]
    assert picture.extremes(pd.Series({0.1: 0.5, 0.2: 0.75}), "accuracy", "rate") == (
        "Mean accuracy is highest with rate 0.2 (0.75) and lowest with 0.1 (0.5)."
    )
    assert picture.loss_limit(pd.Series([1.0, 2.0, 900.0, np.inf])) == pytest.approx(2.1)


def test_learning_curves_are_means_over_seeds_with_their_range():
    rows = pd.concat([course("a", 1, best=0.8), course("a", 2, best=0.9), course("b", best=0.3)])
    shown = curves.learning_curves(rows, "Zoo: a and b", {"a": "LeNet, Adam", "b": "LeNet, SGD"})
    assert_readable(shown)
    assert legend(shown) == ["LeNet, Adam", "LeNet, SGD"]
    accuracy = shown.axes[2]
    assert accuracy.lines[0].get_ydata()[-1] == pytest.approx(0.85)
    ends = accuracy.collections[0].get_paths()[0].vertices[:, 1]
    assert ends.max() == pytest.approx(0.9)
    assert "LeNet, SGD learns slowest: train accuracy 0.250 in epoch 5" in shown.caption
    assert "highest with LeNet, Adam, at 0.800" in shown.caption


def test_diverged_training_is_shown_and_said():
    rows = pd.concat([course("a"), course("b", lost=4)])
    shown = curves.learning_curves(rows, "Zoo: a and b")
    assert legend(shown) == ["a", "b (diverged)"]
    assert len(shown.axes[0].lines[1].get_xdata()) == 3
    assert "b diverged." in shown.caption


def test_exploding_loss_leaves_others_readable_and_is_said():
    rows = pd.concat([course(name) for name in "abc"])
    rows.loc[rows["trial"] == "c", "train_loss"] = 1e6
    shown = curves.learning_curves(rows, "Zoo: a to c")
    assert shown.axes[0].get_ylim()[1] < 3
    assert "Trials beyond the axis of losses, which ends at 2.05: 1." in shown.caption


def test_twenty_trials_stay_readable_in_one_figure():
    titles = {f"t{n}": f"LeNet {n} (wide, SGD 0.0001)" for n in range(20)} | {"z": "Not yet"}
    rows = pd.concat(
        [course(f"t{n}", seed, 10, 0.3 + n / 40) for n in range(20) for seed in (1, 2)]
    )
    shown = curves.small_multiples(rows, "Zoo: accuracy of every trial", titles)
    assert_readable(shown)
    drawn = [panel for panel in shown.axes if panel.get_visible()]
    assert len(drawn) == len(titles)
    assert "(not finished)" in drawn[-1].get_title()
    assert legend(shown) == ["training", "validation"]
    assert "LeNet 0 (wide, SGD 0.0001) learns slowest" in shown.caption


def test_curves_of_a_setting_have_medians_that_count_diverged_trials_as_infinite():
    rows = pd.concat([course("a"), course("b", best=0.6), course("c", lost=3), course("d")])
    values = {"a": 0.1, "b": 0.2, "c": 0.2, "d": None}
    shown = curves.curves_by_setting(rows, values, "MLP: curves by rate", "learning rate")
    assert_readable(shown)
    assert legend(shown) == ["0.1", "0.2 (1 of 2 diverged)"]
    loss = [line for line in shown.axes[0].lines if line.get_linewidth() == 2.4]
    assert [len(line.get_xdata()) for line in loss] == [6, 2]
    assert "with learning rate 0.1 (0.85) and lowest with 0.2" in shown.caption


def test_one_measure_against_another_shows_where_both_are_equal():
    rows = pd.concat([course("a", best=0.9), course("b", best=0.6)])
    shown = curves.against(rows, {"a": 0.0, "b": 0.5}, PAIRS, "MLP: train against test", "dropout")
    assert_readable(shown)
    assert legend(shown) == ["0", "0.5"]
    assert [panel.get_ylabel() for panel in shown.axes] == ["test loss (nats)", "test accuracy"]
    same = "Mean train accuracy less test accuracy is the same with every dropout, 0.05."
    assert same in shown.caption
    rows.loc[rows["trial"] == "b", "val_accuracy"] -= 0.1
    shown = curves.against(rows, {"a": 0.0, "b": 0.5}, PAIRS, "MLP: train against test", "dropout")
    assert "Mean train accuracy less test accuracy is highest with dropout 0.5" in shown.caption


def test_a_mean_ends_where_the_first_of_its_seeds_stopped():
    rows = pd.concat([course("a"), course("a", seed=2, epochs=4), course("b", epochs=6)])
    told = "A mean ends where the first of its seeds stopped."
    drawn = curves.curves_by_setting(rows, {"a": 0.1, "b": 0.2}, "Trained: losses", "rate")
    assert sorted(
        max(line.get_xdata()) for line in drawn.axes[0].lines if len(line.get_xdata())
    ) == [4, 6]
    for shown in (
        drawn,
        curves.against(rows, {"a": 0.1, "b": 0.2}, PAIRS, "Trained: train against test", "rate"),
        curves.learning_curves(rows, "Trained: curves"),
        curves.small_multiples(rows, "Trained: all", {"a": "A", "b": "B"}),
    ):
        assert told in shown.caption
    assert told not in curves.learning_curves(course("b"), "Trained: one").caption


def test_batches_stand_over_images_seen_with_an_ordinary_training_behind():
    rows = pd.concat([batches("special", 800), batches("ordinary", 400)])
    rows = rows.assign(images=(rows["batch"] + 1) * 8)
    shown = batch_figures.batch_curves(
        rows, "Grid: batches", {"special": "High rate"}, {"special": "ordinary"}
    )
    assert_readable(shown)
    panel = shown.axes[0]
    assert panel.get_xlabel() == "images seen"
    assert panel.get_title(loc="left") == "High rate (grey: ordinary)"
    assert legend(shown) == [
        "single batches of one seed",
        "every seed, mean over up to 100 batches",
    ]
    assert max(line.get_xdata().max() for line in panel.lines if len(line.get_xdata())) == 6400
    assert "High rate: the mean loss goes from 1.9" in shown.caption


def test_bars_are_means_and_their_error_bars_reach_over_all_seeds(results):
    one = results[results["width"] == 8]
    shown = settings.bars(one, "rate", "accuracy", "MLP: accuracy", {"rate": "learning rate"})
    assert_readable(shown)
    panel = shown.axes[0]
    assert [text.get_text() for text in panel.get_xticklabels()] == ["0.02", "0.1", "0.2"]
    assert [bar.get_height() for bar in panel.patches] == pytest.approx([0.538, 0.618, 0.718])
    reach = panel.lines[0].get_ydata()
    assert (np.nanmin(reach), np.nanmax(reach)) == pytest.approx((0.528, 0.548))
    assert "highest with learning rate 0.2 (0.718) and lowest with 0.02 (0.538)" in shown.caption
    assert "of up to 3 trainings" in shown.caption


def test_strips_have_a_dot_for_every_training_and_tell_which_setting_matters(results):
    names = {"rate": "learning rate", "width": "width"}
    shown = settings.strips(results, names, "accuracy", "Grid: accuracy by setting")
    assert_readable(shown)
    dots = sum(len(group.get_offsets()) for group in shown.axes[0].collections)
    assert dots == results["accuracy"].notna().sum()
    assert shown.caption.startswith("Of the settings learning rate moves mean accuracy most")
    assert "3 of 18 trainings diverged." in shown.caption


def test_heat_map_names_what_diverged(results):
    shown = settings.heat_map(results, "rate", "width", "accuracy", "Grid: accuracy by size")
    assert_readable(shown)
    cells = [text.get_text() for text in shown.axes[0].texts]
    assert cells == ["0.718", "0.618", "0.674", "0.538", "0.594", "diverged"]
    assert "Accuracy is highest, 0.718 with rate 0.2 and width 8" in shown.caption


def test_many_trials_stand_in_order_and_those_at_the_ends_have_names():
    rows = pd.DataFrame(
        {"trial": [f"t{n}" for n in range(64)], "sweep": "s", "accuracy": range(64)}
    )
    shown = settings.ordered(rows, "accuracy", "Grid: all by accuracy", {"t63": "The best"})
    assert_readable(shown)
    names = [text.get_text() for text in shown.axes[0].get_yticklabels()]
    assert (names[0], names[-1], len(names)) == ("The best", "t0", 2 * settings.NAMED)
    assert shown.caption.startswith("The best (63) is the best of 64 trials by accuracy")
    assert shown.get_figheight() < 9


def test_front_has_what_nothing_beats():
    rows = pd.DataFrame(
        {"cost": [1, 2, 3, 4, 1, np.inf], "worth": [1, 3, 2, 4, 1, 9], "sweep": "s"}
    ).assign(trial=list("abcdef"))
    assert list(settings.front(rows, "cost", "worth")["trial"]) == ["a", "e", "b", "d"]
    shown = settings.pareto_front(rows, "cost", "worth", "Grid: worth against cost", {"d": "Dear"})
    assert_readable(shown)
    assert shown.axes[0].get_xscale() == "log"
    assert legend(shown)[-4:] == ["1: a", "2: e", "3: b", "4: Dear"]
    assert "No trial beats a, e, b and Dear" in shown.caption
    assert "without a finite cost: 1." in shown.caption


def test_published_values_stand_beside_reproduced_ones():
    rows = [
        ("LeNet", "accuracy", 0.9, 0.85, 0.8, 0.88, "differs"),
        ("VGG", "accuracy", 0.8, None, None, None, "not judged here"),
        ("ResNet", "epochs", 7, 7.3, 6, 9, "agrees"),
    ]
    names = ["name", "label", "published", "reproduced", "lower", "upper", "agreement"]
    frame = pd.DataFrame(rows, columns=names)
    shown = published.published_against_reproduced(frame, "Zoo: published")
    assert_readable(shown)
    assert [panel.get_xlabel() for panel in shown.axes] == ["accuracy", "epochs"]
    assert [text.get_text() for text in shown.axes[0].get_yticklabels()] == ["LeNet"]
    assert shown.caption.startswith("1 of 2 published numbers lie where a repetition would.")
    assert "Differs (red): LeNet. Not measured yet: 1 more." in shown.caption
    many = pd.concat([frame.head(1).assign(name=str(number)) for number in range(40)])
    told = published.published_against_reproduced(many.reset_index(), "Zoo: many").caption
    assert "Drawn are 14 of 40" in told


def test_names_are_drawn_as_they_are_written(results):
    rows = pd.concat([course(name) for name in HOSTILE])
    titles = {name: name for name in HOSTILE}
    for shown in (
        curves.learning_curves(rows, "\n".join(HOSTILE)),
        curves.small_multiples(rows, "<title>", titles),
        settings.bars(results.assign(rate=HOSTILE[0]), "rate", "accuracy", "A $title$"),
    ):
        assert_readable(shown)
        assert HOSTILE[0] not in shown._repr_html_()


def test_tables_without_a_finished_trial_make_a_picture_that_says_so():
    empty = pd.DataFrame(columns=[*course("a"), "accuracy", "seconds", "batch", "batch_loss"])
    title = "Grid: nothing yet"
    for shown in (
        curves.learning_curves(empty, title),
        curves.small_multiples(empty, title, {"a": "A"}),
        curves.curves_by_setting(empty, {"a": 1}, title, "rate"),
        curves.against(empty, {"a": 1}, PAIRS, title, "rate"),
        batch_figures.batch_curves(empty, title, {"a": "A"}),
        settings.bars(empty, "rate", "accuracy", title),
        settings.strips(empty, {"rate": "rate"}, "accuracy", title),
        settings.heat_map(empty, "rate", "width", "accuracy", title),
        settings.ordered(empty, "accuracy", title, {}),
        settings.pareto_front(empty, "seconds", "accuracy", title, {}),
        published.published_against_reproduced(
            pd.DataFrame(columns=["name", "label", "published", "reproduced"]), title
        ),
    ):
        assert "<figure" not in shown._repr_html_()
        assert shown.caption == "No trial of this figure is finished."
