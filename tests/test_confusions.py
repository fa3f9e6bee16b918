"""Confusions: shares over seeds, and captions that name the largest."""

import numpy as np
import pandas as pd
import pytest

from refit.figures import confusions


def table(*matrices, names=("coat", "shirt", "bag")):
    """The rows that a log keeps of some seeds' matrices: only pairs that occur."""
    rows = [
        (seed, names[true], names[predicted], count)
        for seed, matrix in enumerate(matrices)
        for (true, predicted), count in np.ndenumerate(np.array(matrix))
        if count
    ]
    return pd.DataFrame(rows, columns=["seed", "true", "predicted", "count"])


def test_shares_of_the_true_class_are_means_over_seeds():
    seeds = [[8, 2, 0], [3, 7, 0], [0, 0, 10]], [[10, 0, 0], [5, 5, 0], [0, 0, 10]]
    picture = confusions.matrix(table(*seeds), "Zoo: confusions")
    panel, bar = picture.axes
    cells = [text.get_text() for text in panel.texts]
    assert cells == [*("90", "10", "0"), *("40", "60", "0"), *("0", "0", "100")]
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("predicted class", "true class")
    assert bar.get_ylabel() == "share of the true class (%)"
    assert picture.caption == (
        "Most often shirt is taken for coat: 40 % of its images. Best known is bag, 100 %. "
        "Means over 2 seeds."
    )


def test_ties_are_named_and_perfection_is_said():
    tied = confusions.matrix(table([[5, 5, 0], [0, 10, 0], [0, 5, 5]]), "Zoo")
    assert "coat is taken for shirt and bag is taken for shirt: 50 %" in tied.caption
    perfect = confusions.matrix(table(np.eye(3, dtype=int)), "Zoo")
    assert perfect.caption == "Every image is predicted right."


def test_small_cells_have_no_numbers():
    names = [f"class {number}" for number in range(30)]
    picture = confusions.matrix(table(np.eye(30, dtype=int) * 9, names=names), "Zoo")
    assert not picture.axes[0].texts
    picture.png()


def test_predictions_stand_beside_labels_with_their_spread():
    seeds = [[8, 2, 0], [3, 7, 0], [0, 0, 10]], [[10, 0, 0], [5, 5, 0], [0, 0, 10]]
    picture = confusions.predictions(table(*seeds), "Zoo: labels and predictions")
    (panel,) = picture.axes
    labelled, predicted = ([bar.get_width() for bar in bars] for bars in panel.containers)
    assert labelled == [10, 10, 10]
    assert predicted == [13, 7, 10]
    spread = [line.get_xdata() for line in panel.lines if len(line.get_xdata())]
    assert np.ptp(spread[3]) == pytest.approx(2 * np.std([11, 15], ddof=1))
    assert picture.caption.startswith(
        "Predicted too often: coat (+3 images); too rarely: shirt (−3)."
    )
    same = confusions.predictions(table(np.eye(3, dtype=int)), "Zoo")
    assert same.caption == "Every label is predicted as often as it occurs."


@pytest.mark.parametrize("draw", [confusions.matrix, confusions.predictions])
def test_nothing_yet_is_said(draw):
    assert "No trial of this figure is finished." in draw(table(), "Zoo").caption
