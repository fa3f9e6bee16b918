"""The parts of an article: what they say, for whom, and that they need neither Keras nor trust."""

import dataclasses
import subprocess
import sys

import pandas as pd
import pytest
from bs4 import BeautifulSoup

import page_tools
from refit.pages import article, claim_items
from refit.verdicts import claims

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study at small scale whose trainings are invented."""
    made = page_tools.opened(tmp_path_factory.mktemp("article"), "transfer", "small", seeds=3)
    page_tools.train(made)
    return made


def text(shown) -> str:
    return " ".join(BeautifulSoup(shown.data, "html.parser").get_text().split())


def judged(**changes) -> pd.DataFrame:
    """A table of one claim, as it is judged."""
    row = dict.fromkeys(claims.COLUMNS) | {
        "id": "C01", "weight": "headline", "statement": "A is better than B.", "n": 5.0,
        "verdict": "reproduced", "estimate": 0.9, "low": 0.0, "interval_low": 0.6,
        "interval_high": 1.2, "unit": "seed", "seeds_declared": 5, "q": 0.001,
        "metric": "test_loss", "kind": "number", "strict": False,
    }  # fmt: skip
    return pd.DataFrame([row | changes])


def show(study, frame: pd.DataFrame, part: str) -> BeautifulSoup:
    """A part of the article in which these are the judged claims."""
    log, numbers, verdicts = study.measured
    vars(study)["measured"] = (log, numbers, frame)
    try:
        return BeautifulSoup(getattr(article, part)(study).data, "html.parser")
    finally:
        vars(study)["measured"] = (log, numbers, verdicts)


def test_summary_tells_the_scale_and_what_was_trained(study):
    shown = text(article.summary(study))
    assert "Small scale." in shown
    count = len(study.trials)
    told = f"{count} of {count} trainings are done on 200 train, 200 validation-and-test images of "
    assert f"{told}invented images." in shown
    assert "All of: MobileNetV2" in shown


@pytest.mark.parametrize(
    ("changes", "said", "tone"),
    [
        ({}, "Of 1 claims 1 holds.", "yes"),
        ({"verdict": "contradicted"}, "1 does not hold", "no"),
        ({"verdict": "inconclusive"}, "1 stays open", "open"),
        ({"verdict": "not_judged", "small_scale": "like"}, "At small scale, of 1 claims", "yes"),
        ({"verdict": "not_judged", "reason": "needs labels"}, "None of 1 claims is judged", "none"),
    ],
)
def test_verdict_has_the_same_words_and_colour_in_every_part(study, changes, said, tone):
    frame = judged(**changes)
    assert said in show(study, frame, "summary").get_text()
    assert said in show(study, frame, "conclusion").get_text()
    assert show(study, frame, "summary").select(f".bar .{tone}")
    assert show(study, frame, "claims").select(f"article#C01.{tone} .chip.{tone}")


def test_claim_shows_what_was_claimed_as_a_band_and_the_estimate_with_its_interval(study):
    drawn = show(study, judged(), "claims").select_one(".interval")
    assert drawn["aria-label"] == "measured 0.9 [0.6, 1.2], claimed at least 0"
    places = {part["class"][0]: part for part in drawn.select("rect, circle")}
    band = float(places["band"]["x"].rstrip("%"))
    estimate = drawn.select_one("rect.estimate")
    assert band < float(estimate["x"].rstrip("%")) < float(drawn.circle["cx"].rstrip("%"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"estimate": -32.0, "interval_low": -45.0, "interval_high": -19.0, "scale": "s",
             "metric": "processor_seconds", "n": 16.0, "unit": "matched pair"},
            "Processor time: 32 s faster [19, 45] with A than with B, claimed slower "
            "(16 matched pairs)",
        ),
        (
            {"estimate": 0.012, "interval_low": 0.004, "interval_high": 0.02, "scale": "points",
             "metric": "test_accuracy", "low": None, "high": 0.005},
            "Test accuracy: 1.2 points higher [0.4, 2] with A than with B, "
            "claimed less than 0.5 points higher (5 seeds)",
        ),
        (
            {"estimate": -0.012, "interval_low": -0.02, "interval_high": -0.004, "low": -0.005,
             "scale": "points", "metric": "test_accuracy"},
            "Test accuracy: 1.2 points lower [0.4, 2] with A than with B, "
            "claimed less than 0.5 points lower (5 seeds)",
        ),
        (
            {"estimate": -32.0, "interval_low": -45.0, "interval_high": -19.0, "scale": "s",
             "metric": "processor_seconds", "low": 1.0, "high": 40.0},
            "Processor time: 32 s faster [19, 45] with A than with B, claimed 1 to 40 s slower",
        ),
        (
            {"a": "", "b": "", "estimate": 0.9, "high": 0.95, "low": 0.85, "scale": "%",
             "interval_high": 1.0, "metric": "test_accuracy", "kind": "number", "strict": False},
            "Test accuracy: 90 % [60, 100], claimed 85 to 95 % (5 seeds)",
        ),
        (
            {"a": "", "b": "", "estimate": 1.0, "low": 0.8, "interval_low": 0.75,
             "interval_high": 1.0, "metric": "batch_loss_noise", "kind": "correlation",
             "strict": False},
            "Rank correlation: 1 [0.75, 1], claimed at least 0.8 (5 seeds)",
        ),
    ],
)  # fmt: skip
def test_what_was_measured_is_a_sentence_with_units(study, changes, said):
    compared = {"a": "A", "b": "B", "kind": "difference", "strict": True}
    shown = show(study, judged(**compared | changes), "conclusion")
    assert said in " ".join(shown.get_text().split())


def test_a_try_is_told(study):
    assert "A try." not in text(article.summary(study))
    fewer = dataclasses.replace(study, trials=[study.trials[0]])
    assert "A try. 1 of " in text(article.summary(fewer))


def test_fewer_seeds_than_declared_are_told_and_comparisons_capped(study):
    many = "; ".join(f"comparison {number}" for number in range(80))
    shown = show(study, judged(n=2.0, observed=many), "claims").get_text()
    assert "2 of 5 seeds" in shown
    assert "6 of 80 comparisons shown" in shown
    assert "comparison 6" not in shown


def test_headlines_come_first():
    frame = pd.concat([judged(id="C01", weight="detail"), judged(id="C02")])
    assert [item.row["id"] for item in claim_items.items(frame)] == ["C02", "C01"]


def test_text_of_a_report_is_escaped(study):
    texts = dict.fromkeys(("statement", "quote", "place", "note", "trials", "observed"), HOSTILE)
    for part in ("summary", "claims", "conclusion"):
        soup = show(study, judged(**texts), part)
        assert HOSTILE in soup.get_text()
        assert not soup.find("script")


def test_training_shows_the_trial_as_a_reader_would_write_it(study):
    chosen = dataclasses.replace(study, trials=[study.trial("transferred-125")])
    shown = text(article.training(chosen))
    assert "keras.optimizers.Adam(learning_rate=0.001)" in shown
    assert "base.trainable = False" in shown
    assert "src/refit/training/fit.py" in shown


def test_models_show_the_factory_and_the_layers_that_it_built(study):
    shown = text(article.models(study))
    assert "def build_mobilenet_v2(" in shown
    assert "def _build(" in shown, "what it uses of its own file is there too"
    assert "1 layers, 1,000 parameters" in shown


def test_runs_are_stored_in_the_columns_of_other_tools(study):
    study.save()
    for name, columns in (
        ("mlflow", ["Start Time", "Duration", "Run ID", "Name"]),
        ("wandb", ["Name", "State", "Notes", "User", "Tags", "Created"]),
    ):
        runs = pd.read_csv(study.pages / f"runs_{name}.csv")
        assert [*runs][: len(columns)] == columns
        assert len(runs) == len(study.trials)
        assert runs["optimizer.learning_rate"].gt(0).all()


def test_claims_lead_to_their_trainings(study):
    trial = study.trials[0]
    shown = show(study, judged(trials=trial.name), "claims")
    assert shown.select_one(f'.links a[href="#trial-{trial.name}"]').text == trial.title
    page = BeautifulSoup(article.figures(study).data, "html.parser")
    assert page.select_one(f"tr#trial-{trial.name}")


def test_article_imports_no_keras():
    code = "import sys; from refit.pages import article; sys.exit('keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
