"""Statistics against independent implementations of the same."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from refit.verdicts import moderated
from refit.verdicts.interval_tests import IntervalTest, outcomes

STEPS = np.arange(1, 31)
VARIANCES = np.exp(1.3 * np.sin(1.7 * STEPS) + 0.8 * np.cos(0.9 * STEPS)) * 1e-4


@pytest.mark.parametrize(
    ("variances", "freedom", "variance", "prior"),
    [
        (VARIANCES, np.full(30, 4), 0.0001050302685794734, 4.305574844151749),
        (VARIANCES, np.where(STEPS % 2, 2, 4), 0.00014854796237025528, 17.978993701789527),
        (VARIANCES, np.full(30, 2), 0.000170053287662135, np.inf),
        (1e-4 * (1 + 0.01 * np.sin(STEPS)), np.full(30, 4), 0.00010000933501187575, np.inf),
    ],
)
def test_prior_is_that_of_limma(variances, freedom, variance, prior):
    """The numbers are those of `fitFDist` in inmoose 0.9.1, a translation of limma to Python."""
    found = moderated.fit_prior(variances, freedom)
    assert (found.variance, found.freedom) == pytest.approx((variance, prior), rel=1e-10)


@pytest.mark.parametrize(
    ("counts", "freedom"),
    [
        (np.full(30, 5), 3.0),  # at most
        (np.full(24, 5), 0.0),  # too few to know
        (np.where(STEPS == 1, 3, 5), 3.0),
        (np.where(STEPS == 1, 2, 5), 0.0),  # of other kinds
    ],
)
def test_a_prior_is_worth_little_and_takes_many_alike(counts, freedom):
    found = moderated.prior_of(VARIANCES[: len(counts)], counts)
    assert found.freedom == freedom


def contrasts(count, width=1e-2, n=5, **settings):
    random = np.random.default_rng(7)
    return [
        IntervalTest("", pd.Series(random.normal(0.5, width, n)), 0.49, metric="val_accuracy")
        for _ in range(count)
    ]


def test_moderated_p_values_and_intervals_are_those_of_the_formula():
    tests = contrasts(30)
    variances = np.array([test.values.var() for test in tests])
    prior = moderated.prior_of(variances, np.full(30, 5))
    for test, found in zip(tests, outcomes(tests), strict=True):
        shrunk = (prior.freedom * prior.variance + 4 * test.values.var()) / (prior.freedom + 4)
        error, freedom = np.sqrt(shrunk / 5), prior.freedom + 4
        assert found.inside == pytest.approx(stats.t.sf((test.estimate - 0.49) / error, freedom))
        half = stats.t.ppf(0.975, freedom) * error
        assert (found.low, found.high) == pytest.approx(
            (test.estimate - half, test.estimate + half)
        )


@pytest.mark.parametrize("ends", [(0.4, 0.7), (0.45, 0.56), (0.6, 0.9), (0.499, 0.501)])
def test_an_interval_takes_two_one_sided_tests(ends):
    values = pd.Series([0.38, 0.45, 0.51, 0.55, 0.61])
    above = stats.ttest_1samp(values, ends[0], alternative="greater").pvalue
    below = stats.ttest_1samp(values, ends[1], alternative="less").pvalue
    found = outcomes([IntervalTest("", values, *ends, metric="val_loss")])[0]
    assert found.inside == pytest.approx(max(above, below))
    assert found.outside == pytest.approx(min(1 - above, 1 - below))
    one_sided = outcomes([IntervalTest("", values, ends[0], metric="val_loss")])[0]
    assert (one_sided.inside, one_sided.outside) == pytest.approx((above, 1 - above))
    ours = stats.ttest_1samp(values, 0).confidence_interval()
    assert (found.low, found.high) == pytest.approx((ours.low, ours.high))


@pytest.mark.parametrize("count", [0, 1, 7, 12])
def test_flags_are_tested_exactly(count):
    flags = pd.Series([1.0] * count + [0.0] * (12 - count))
    found = outcomes([IntervalTest("", flags, 0.5, kind="flag", unit="network")])[0]
    assert found.inside == pytest.approx(stats.binomtest(count, 12, alternative="greater").pvalue)
    assert found.outside == pytest.approx(stats.binomtest(count, 12, alternative="less").pvalue)
    ours = stats.binomtest(count, 12).proportion_ci()
    assert (found.low, found.high) == pytest.approx((ours.low, ours.high))


@pytest.mark.parametrize(
    ("kind", "metric", "ends"),
    [
        ("correlation", "seconds", (-1, 1)),
        ("share", "val_loss", (0, 1)),
        ("number", "val_accuracy", (0, 1)),
        ("number", "accuracy_gap", (-1, 1)),
        ("difference", "val_accuracy", (-1, 1)),
        ("difference", "seconds", (-np.inf, np.inf)),
    ],
)
def test_an_interval_ends_where_the_number_does(kind, metric, ends):
    for sign in (1, -1):
        values = pd.Series([0.2, 0.95, 0.99]) * sign
        found = outcomes([IntervalTest("", values, 0.0, kind=kind, metric=metric)])[0]
        ours = stats.ttest_1samp(values, 0).confidence_interval()
        assert (found.low, found.high) == pytest.approx(tuple(np.clip(ours, *ends)))


def test_values_that_are_all_the_same_scatter_by_their_smallest_step_or_tell_nothing():
    same = IntervalTest("", pd.Series([0.9] * 5), 0.8995, metric="val_accuracy")
    assert (outcomes([same])[0].inside, outcomes([same])[0].outside) == (1.0, 1.0)
    for kind, terms in (("number", 1), ("difference", 2)):
        stepped = IntervalTest(
            "", same.values, 0.8995, metric="val_accuracy", kind=kind, resolution=0.001
        )
        distance = 0.0005 / (0.001 * np.sqrt(terms / 5))
        assert outcomes([stepped])[0].inside == pytest.approx(stats.t.sf(distance, 4))


def test_infinite_values_leave_the_sign_test():
    values = pd.Series([np.inf, np.inf, 0.6, 0.7, 0.4, 0.8])
    found = outcomes([IntervalTest("", values, 0.5, metric="val_loss")])[0]
    assert found.inside == pytest.approx(stats.binomtest(5, 6, alternative="greater").pvalue)
    assert np.isnan(found.low)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_fewer_than_three_values_decide_nothing_whatever_the_others_say(n):
    found = outcomes([*contrasts(30), *contrasts(1, n=n)])[-1]
    assert (found.inside, found.outside) == (1.0, 1.0)
    assert np.isnan(found.low)
