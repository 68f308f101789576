"""Means of outcomes known better than their own sample allows: what other outcomes of the same images tell is used.

Cell k (a frequency) is evaluated on n_k of P images, drawn for itself. With scores s that foretell its outcome Y on
each image from what is known of that image without it, the mean of the cell is the sum of two means,

    mean(Y) = mean over P of s + mean over n_k of (Y - s).

Any scores that do not know whether the cell itself was evaluated give an unbiased estimate; good ones leave little
variance to the last term, the only one whose images cost a pass in every cell (Cassel, Saerndal, Wretman 1976).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

_LOGISTIC = 0.851  # tanh of this multiple is within 0.02 of the normal distribution's error function
_UNSEEN = 0.1  # by simulations: made outcomes of which 2 to 10 % are wrong are covered by .96 and more
_SQUASH = 0.7  # margins in units of their standard deviation over this go through tanh: far ones tell no more


def squashed(margins: FloatArray, scale: float) -> FloatArray:
    """Margins as predictors: tanh of multiples of `scale`, so that no image outweighs many."""
    return np.tanh(margins * (_SQUASH / scale))


def chance_below_zero(mean: FloatArray, variance: FloatArray) -> FloatArray:
    """That a margin is below zero, of its mean and variance: the logistic function nearest to the normal one."""
    return 0.5 - 0.5 * np.tanh(_LOGISTIC * mean / np.sqrt(variance))


def sum_interval(terms: Sequence[Moments], population: int | None, z: float) -> tuple[FloatArray, FloatArray]:
    """Widths (below, above) of the intervals of sums of means, of values drawn from a population in random order.

    s (z -+ (2 z^2 + 1) g / 6), s^2 and g the variance and the skewness of the sum: Cornish's and Fisher's quantile of a
    studentised mean. An approximation for many values, not a theorem for few; 0 wide where all are drawn.

    Args:
        terms: of each mean, (cells,).
        population: N; None for infinitely many.
        z: normal quantile.

    Source: Johnson 1978, "Modified t tests and confidence intervals for asymmetrical populations"; Cochran 1977,
        theorem 2.2, for the variance without replacement.
    """
    variance, third = np.zeros(()), np.zeros(())
    for term in terms:
        share = 0.0 if population is None else term.n / population
        variance = variance + term.variance * (1 - share) / term.n
        third = third + term.third * (1 - share) * (1 - 2 * share) / term.n**2
    spread = np.sqrt(np.maximum(variance, 0.0))
    tilt = (2 * z * z + 1) / 6 * third / np.maximum(spread, 1e-9) ** 3
    tilt = tilt.clip(-z / 2, z / 2)
    return spread * (z - tilt), spread * (z + tilt)


@dataclasses.dataclass(frozen=True)
class Moments:
    """Of values of all cells.

    Attributes:
        variance: (cells,).
        third: (cells,) third central moment.
        n: (cells,) how many values.
    """

    variance: FloatArray
    third: FloatArray
    n: FloatArray

    @classmethod
    def of(cls, values: FloatArray, seen: NDArray[np.bool_] | None = None) -> Moments:
        """Of (cells, n), or of those that are seen."""
        n = np.full(len(values), float(values.shape[1])) if seen is None else seen.sum(axis=1).astype(np.float64)
        some = values if seen is None else np.where(seen, values, 0.0)
        away = some - (some.sum(axis=1) / n)[:, None]
        if seen is not None:
            away = np.where(seen, away, 0.0)
        square = away * away
        return cls(square.sum(axis=1) / np.maximum(n - 1, 1), np.einsum("ki,ki->k", square, away) / n, n)

    def with_unseen(self, scores: FloatArray, z: float) -> Moments:
        """With some errors more, and some fewer, than their scores (cells, m) foretell: `_UNSEEN` z^2 of each.

        Where few outcomes differ from what is foretold, none of those seen may, and the variance of the residuals is 0.
        An error more is a residual of 1 - s, at an image of which 1 - s is the chance to be right; one fewer of -s,
        with chance s. Agresti and Coull add z^2 / 2 of each to a sample that nothing foretells.

        Source: Agresti, Coull 1998, "Approximate is better than exact for interval estimation of binomial proportions".
        """
        wrong = scores.clip(0, 1)
        right = 1 - wrong
        more, fewer = (np.maximum(s.sum(axis=1), 1e-12) for s in (right, wrong))
        r2, w2 = right * right, wrong * wrong
        second = np.einsum("ki,ki->k", r2, right) / more + np.einsum("ki,ki->k", w2, wrong) / fewer
        third = np.einsum("ki,ki->k", r2, r2) / more - np.einsum("ki,ki->k", w2, w2) / fewer
        pseudo = _UNSEEN * z * z / self.n
        return Moments(self.variance + pseudo * second, self.third + pseudo * third, self.n)
