"""Variances that borrow from each other: the moderated t of Smyth (2004), as limma computes it.

From three or five seeds a spread is poorly known, and a t statistic is large as often because its
spread came out small as because its mean is far off. Contrasts of one metric in one experiment have
spreads of like size, so each is drawn towards what all of them say.

Smyth, G. K. (2004). Linear models and empirical Bayes methods for assessing differential expression
in microarray experiments. Statistical Applications in Genetics and Molecular Biology 3(1), 3.
"""

import math
from dataclasses import dataclass

import numpy as np
import scipy

# With more, a few contrasts of truly larger spread would be decided wrongly; with less, fewer true
# differences are found. Chosen by reports/calibration.md.
MOST_PRIOR_FREEDOM = 3.0
# Of fewer variances no prior can be had.
FEWEST_VARIANCES = 25
# Contrasts of very different n have spreads of different kinds.
MOST_UNEVEN = 2.0


@dataclass(frozen=True)
class Prior:
    """What a typical variance is, and how many degrees of freedom that knowledge is worth."""

    variance: float = 0.0
    freedom: float = 0.0

    def moderate(self, variance: float, freedom: float) -> tuple[float, float]:
        """A variance on `freedom` degrees of freedom drawn towards the prior, and its freedom."""
        total = self.freedom + freedom
        return (self.freedom * self.variance + freedom * variance) / total, total


def prior_of(variances: np.ndarray, counts: np.ndarray, most: float = MOST_PRIOR_FREEDOM) -> Prior:
    """The prior of some contrasts' variances, each of `counts` values; none where it may not be.

    It is worth at most so many degrees of freedom."""
    if len(variances) < FEWEST_VARIANCES or max(counts) > MOST_UNEVEN * min(counts):
        return Prior()
    prior = fit_prior(variances, counts - 1)
    return Prior(prior.variance, min(prior.freedom, most))


def fit_prior(variances: np.ndarray, freedom: np.ndarray) -> Prior:
    """limma's fitFDist: a scaled F distribution fitted to variances by the moments of their logs.

    `freedom` are the degrees of freedom of each. It is infinite where the variances differ no more
    than chance makes them.
    """
    # limma's guard against variances of zero, whose logarithm would be all that counts.
    variances = np.maximum(variances, 1e-5 * np.median(variances))
    half = np.asarray(freedom, float) / 2
    logs = np.log(variances) - scipy.special.digamma(half) + np.log(half)
    excess = logs.var(ddof=1) - scipy.special.polygamma(1, half).mean()
    if excess <= 0:
        return Prior(float(variances.mean()), math.inf)
    prior = _trigamma_inverse(excess)
    return Prior(
        float(np.exp(logs.mean() + scipy.special.digamma(prior) - np.log(prior))), 2 * prior
    )


def _trigamma_inverse(value: float) -> float:
    """Where the trigamma function has a value."""

    def gap(logarithm: float) -> float:
        return math.log(scipy.special.polygamma(1, math.exp(logarithm)) / value)

    return math.exp(scipy.optimize.brentq(gap, -300, 300, xtol=1e-14))
