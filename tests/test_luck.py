"""The best of many: what luck alone gives, and what is left in new trainings."""

import math

import numpy as np
import pandas as pd
import pytest

from refit.figures import luck

SEARCH = {"default": 0.80, "a": 0.82, "b": 0.90, "c": 0.78, "lost": math.nan}
AGAIN = {
    "default": pd.Series([0.79, 0.81, 0.80], [1, 2, 3]),
    "b": pd.Series([0.84, 0.82], [1, 2]),
}


def test_the_best_of_many_runs_lies_where_order_statistics_say():
    scores = pd.Series(np.random.default_rng(1).normal(0.5, 0.01, 20_000))
    middle, low, high = luck.best_of(81, scores)
    # Of the highest of 81 standard normal numbers the median is 2.39, 95 % from 1.68 to 3.42.
    assert [(place - 0.5) / 0.01 for place in (middle, low, high)] == pytest.approx(
        [2.39, 1.70, 3.42], abs=0.06
    )
    alone, *ends = luck.best_of(1, scores)
    assert alone == pytest.approx(0.5, abs=0.001)
    assert np.ptp(ends) == pytest.approx(2 * 1.96 * 0.01, rel=0.05)


def test_few_runs_know_little():
    few, many = pd.Series([0.4, 0.5, 0.6]), pd.Series([0.4, 0.5, 0.6] * 20)
    wide, narrow = (np.ptp(luck.best_of(81, scores)[1:]) for scores in (few, many))
    assert wide > 2 * narrow
    assert luck.best_of(81, pd.Series([0.3, 0.7]))[2] == 1, "no accuracy exceeds one"
    assert np.isnan(luck.best_of(81, few[:1])).all()


def test_new_trainings_stand_beside_the_search():
    default, winner, lead = luck.trained_again(SEARCH, "default", AGAIN).to_dict("records")
    assert (default["trial"], winner["trial"]) == ("default", "b")
    assert (default["n"], winner["n"], lead["n"]) == (3, 2, 2)
    assert winner["mean"] == pytest.approx(0.83)
    assert winner["shrinkage"] == pytest.approx(0.07)
    # Student's t with two degrees of freedom: 4.303 standard errors.
    assert default["upper"] - default["mean"] == pytest.approx(
        4.303 * 0.01 / math.sqrt(3), rel=1e-3
    )
    assert lead["mean"] == pytest.approx((0.05 + 0.01) / 2), "paired by what they share"
    assert lead["score in the search"] == pytest.approx(0.1)


def test_where_the_default_is_best_the_second_is_the_winner():
    rows = luck.trained_again(SEARCH | {"default": 0.95}, "default", AGAIN)
    assert rows["trial"].tolist() == ["default", "b", ""]


@pytest.mark.parametrize("search", [{}, {"default": 0.8}, {"a": 0.7, "b": 0.8}])
def test_without_a_default_or_a_rival_there_is_nothing(search):
    assert luck.trained_again(search, "default", AGAIN).empty
    assert "No trial" in luck.best_of_search(search, "default", AGAIN, "Zoo").caption


def test_the_figure_shows_the_search_and_what_was_trained_again():
    picture = luck.best_of_search(SEARCH, "default", AGAIN, "Zoo: best", published=0.93)
    upper, lower = picture.axes
    assert sum(bar.get_height() for bar in upper.patches if bar.get_height() >= 1) >= 4
    assert lower.get_xlabel() == "test accuracy"
    assert [tick.get_text() for tick in lower.get_yticklabels()] == ["default", "winner"]
    names = [text.get_text() for text in picture.legends[0].get_texts()]
    assert {"best by luck alone", "best of the search", "published best"} <= set(names)
    assert "The best of 4 trials is b (0.9)." in picture.caption
    assert "more than luck alone gives" in picture.caption
    assert "b reaches 0.83 on average, 0.07 less than in the search (n = 2)" in picture.caption
    assert "1 of 5 trials have no finite score." in picture.caption
    picture.png()


def test_ties_and_an_unknown_spread_are_said():
    tied = luck.best_of_search(SEARCH | {"a": 0.9}, "default", {}, "Zoo")
    assert "The best of 4 trials is a and b (0.9), a tie of 2 trials." in tied.caption
    assert tied.caption.endswith("is not known. 1 of 5 trials have no finite score.")
    noisy = {"default": pd.Series([0.7, 0.8, 0.9])}
    shown = luck.best_of_search(SEARCH, "default", noisy, "Zoo")
    assert "no more than luck alone gives" in shown.caption
    tied.png()
