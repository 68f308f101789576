"""Means of outcomes known better than their own sample allows: what other images tell of cheap predictors is used.

Images come in a random order of rank. Cell k (a frequency) is evaluated on the first n_k of N images, a few cells, the
controls, and the clean image on the first n_c, which are more. With scores s that foretell the outcome of a cell from
what is known of those images, the mean of the cell is the sum of two means,

    mean(Y) = mean over n_c of s + mean over n_k of (Y - s).

Any fixed scores give an unbiased estimate; good ones leave little variance to the last term, the only one that costs a
pass in every cell (Giles's multilevel Monte Carlo). Scores are fitted to the n_k images themselves; each enters with
that of a fit without it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

_LOGISTIC = 0.851  # tanh of this multiple is within 0.02 of the normal distribution's error function
_UNSEEN = 0.2  # by simulations of made outcomes: 0.1 covers .945 where a twentieth is wrong
_NARROW = 1e-3  # no margin is told better than this
_SQUASH = 0.7  # margins in units of their standard deviation over this go through tanh: far ones tell no more


def squashed(margins: FloatArray, scale: float) -> FloatArray:
    """Margins as predictors: tanh of multiples of `scale`, so that no image outweighs many."""
    return np.tanh(margins * (_SQUASH / scale))


@dataclasses.dataclass(frozen=True)
class Scores:
    """Predictions of the outcomes of all cells: the chance that a margin is below zero, by ridge regression of margins.

    s(x) = g(-m(x) / d), m linear in the predictors, d the standard deviation of the margins about it, g the logistic
    function that is nearest to the normal distribution's. Margins tell more about the weights than outcomes do.

    Attributes:
        centre: (p,) mean predictors of the images fitted to.
        level: (cells,) their mean margins.
        weights: (p, cells).
        width: (cells,) d.
        rest: (cells, m) margin of each image less that of a fit without it.
        residual: (cells, m) outcome of each image less its score in a fit without it.
        gain: (p + 1, m) by how much, times its `rest`, leaving an image out lowers the level and the weights.
        freedom: degrees of freedom of the fit.
    """

    centre: FloatArray
    level: FloatArray
    weights: FloatArray
    width: FloatArray
    rest: FloatArray
    residual: FloatArray
    gain: FloatArray
    freedom: float

    @classmethod
    def fitted(cls, predictors: FloatArray, margins: FloatArray, wrong: NDArray[np.bool_], *, penalty: float) -> Scores:
        """From predictors (m, p), margins and outcomes (cells, m).

        The mean is not penalised. The fit without image i has residual r_i / (1 - h_i) at it, h the diagonal of the hat
        matrix (1 / m for the mean, and that of the ridge).

        Raises:
            ValueError: shapes that do not fit, fewer than two images, no positive penalty.
        """
        m = len(predictors)
        if margins.shape[1:] != (m,) or wrong.shape != margins.shape or m < 2 or penalty <= 0:
            raise ValueError(
                f"expected predictors (m, p), margins and outcomes (cells, m) and a positive penalty, got "
                f"{predictors.shape}, {margins.shape}, {wrong.shape} and {penalty}"
            )
        centre, level = predictors.mean(axis=0), margins.mean(axis=1)
        x = predictors - centre
        solve = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T)
        weights = solve @ (margins - level[:, None]).T
        hat = np.einsum("ip,pi->i", x, solve) + 1 / m
        rest = (margins - (level + x @ weights).T) / (1 - hat)
        width = np.maximum(np.sqrt(np.square(rest).mean(axis=1)), _NARROW)
        residual = wrong - _chance((margins - rest) / width[:, None])
        gain = np.vstack([np.full(m, 1 / m), solve])
        return cls(centre, level, weights, width, rest, residual, gain, float(hat.sum()))

    def __call__(self, predictors: FloatArray) -> FloatArray:
        """(cells, n) scores of images with predictors (n, p)."""
        return _chance((self.level + (predictors - self.centre) @ self.weights).T / self.width[:, None])

    def mean_without(self, predictors: FloatArray, scores: FloatArray) -> FloatArray:
        """(cells, m) the mean score of images in each fit without one of those fitted to, to first order.

        Args:
            predictors: (n, p) of the images.
            scores: (cells, n) theirs.
        """
        slope = 2 * _LOGISTIC / self.width[:, None] * scores * (1 - scores)
        steps = np.column_stack([slope.mean(axis=1), slope @ (predictors - self.centre) / len(predictors)])
        return scores.mean(axis=1, keepdims=True) + self.rest * (steps @ self.gain)


def _chance(margins: FloatArray) -> FloatArray:
    """That a margin with this mean and standard deviation 1 is below zero."""
    return 0.5 - 0.5 * np.tanh(_LOGISTIC * margins)


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
    def of(cls, values: FloatArray) -> Moments:
        """Of (cells, n)."""
        n = values.shape[1]
        away = values - values.mean(axis=1, keepdims=True)
        square = away * away
        many = np.full(len(values), float(n))
        return cls(square.sum(axis=1) / max(n - 1, 1), np.einsum("ki,ki->k", square, away) / n, many)

    def at(self, cell: int) -> Moments:
        """Of one cell."""
        return Moments(self.variance[cell], self.third[cell], self.n[cell])

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
