"""Means of outcomes known better than their own sample allows: what other images tell of cheap predictors is used.

Images come in a random order of rank. Cell k (a frequency) is evaluated on the first n_k of N images, a few cells, the
controls, on the first n_c, which are more, and the clean image is on all. With scores that predict the outcome of
a cell from what is known of an image on each level, the mean of the cell is a sum of means over ever fewer images,

    mean(Y) = mean(s_0) + mean(s_1 - s_0) + mean(Y - s_1),

s_0 of the clean margin, s_1 of the controls too. Any fixed scores give an unbiased estimate; good ones leave little
variance to the last term, the only one that costs a pass in every cell (Giles's multilevel Monte Carlo).
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

_SQUASH = 1.5  # margins in units of their standard deviation over this go through tanh: far ones tell no more


def squashed(margins: FloatArray, scale: float) -> FloatArray:
    """Margins as predictors: tanh of multiples of `scale`, so that no image outweighs many."""
    return np.tanh(margins * (_SQUASH / scale))


@dataclasses.dataclass(frozen=True)
class Scores:
    """A linear prediction of the outcomes of all cells, fitted by ridge regression on pilot images alone.

    Attributes:
        centre: (p,) mean predictors of the pilot.
        level: (cells,) mean outcomes of the pilot.
        weights: (p, cells).
        residual: (cells, m) outcome of each pilot image less its score in a fit without it.
        gain: (p + 1, m) by how much, times its residual, leaving an image out lowers the level and the weights.
    """

    centre: FloatArray
    level: FloatArray
    weights: FloatArray
    residual: FloatArray
    gain: FloatArray

    @classmethod
    def fitted(cls, predictors: FloatArray, outcomes: FloatArray, *, penalty: float) -> Scores:
        """From predictors (m, p) and outcomes (cells, m) of the pilot.

        Ridge regression, the mean not penalised. The fit without image i has residual r_i / (1 - h_i) at it, h the
        diagonal of the hat matrix (1 / m for the mean, and that of the ridge).

        Raises:
            ValueError: shapes that do not fit, fewer than two images, no positive penalty.
        """
        m = len(predictors)
        if outcomes.shape[1:] != (m,) or m < 2 or penalty <= 0:
            raise ValueError(
                f"expected predictors (m, p), outcomes (cells, m) and a positive penalty, got {predictors.shape}, "
                f"{outcomes.shape} and {penalty}"
            )
        centre, level = predictors.mean(axis=0), outcomes.mean(axis=1)
        x = predictors - centre
        solve = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T)
        weights = solve @ (outcomes - level[:, None]).T
        residual = outcomes - (level + x @ weights).T
        hat = np.einsum("ip,pi->i", x, solve) + 1 / m
        residual = residual / (1 - hat)
        return cls(centre, level, weights, residual, np.vstack([np.full(m, 1 / m), solve]))

    def __call__(self, predictors: FloatArray) -> FloatArray:
        """(cells, n) scores of images with predictors (n, p)."""
        return (self.level + (predictors - self.centre) @ self.weights).T

    def mean_without(self, predictors: FloatArray) -> FloatArray:
        """(cells, m) the mean score of images in each fit without a pilot image."""
        mean = predictors.mean(axis=0) - self.centre
        whole = self.level + mean @ self.weights
        return whole[:, None] - self.residual * (np.concatenate([[1.0], mean]) @ self.gain)


def mean_interval(
    values: FloatArray, population: int | None, z: float, *, variance: float | None = None
) -> tuple[float, float, float]:
    """(mean, width below, width above) of the mean of a population from values (n,) drawn from it in random order.

    mean +- s sqrt((1 - n / N) / n) (z -+ (2 z^2 + 1) g / 6), g the skewness of the mean: the quantile of Cornish and
    Fisher of a studentised mean. An approximation for many values, not a theorem for few; 0 wide at n = N.

    Args:
        values: (n,).
        population: N; None for infinitely many.
        z: normal quantile.
        variance: of the values, where it is known better than from these.

    Source: Johnson 1978, "Modified t tests and confidence intervals for asymmetrical populations"; Cochran 1977,
        theorem 2.2, for the variance without replacement.
    """
    n = len(values)
    mean = float(values.mean())
    if population is not None and n >= population:
        return mean, 0.0, 0.0
    share = 0.0 if population is None else n / population
    away = values - mean
    own = float((away**2).mean())
    if variance is None:
        variance = own * n / max(n - 1, 1)
    skew = float((away**3).mean()) / own**1.5 / math.sqrt(n) if own > 1e-12 else 0.0
    tilt = (2 * z * z + 1) * skew * (1 - 2 * share) / math.sqrt(1 - share) / 6
    tilt = max(-z / 2, min(z / 2, tilt))
    spread = math.sqrt(variance * (1 - share) / n)
    return mean, spread * (z - tilt), spread * (z + tilt)
