"""Values of which each item shows some, and what those tell of the rest: factor analysis of incomplete data.

An item (an image) has values v = m + W z + e, few factors z that are standard normal, and noise e of each kind of value
(each frequency) by itself. Fitted by expectation and maximisation to whatever was seen. Weights of kinds that are alike
are held together: neighbouring frequencies are, and each alone is seen of few images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Self

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

_PENALTY = 30.0  # of weights, items that the neighbours' count for: .5 to 4 % less of the variance is left than by 10
_FLOOR = 1e-3  # of the noise's variance: no value is foretold better
_POOLED = 20.0  # items that the mean of all kinds' noise counts for in each


@dataclasses.dataclass(frozen=True)
class Factors:
    """A fitted model.

    Attributes:
        mean: (p,) of each kind of value.
        weights: (p, r).
        noise: (p,) variances.
    """

    mean: FloatArray
    weights: FloatArray
    noise: FloatArray

    @classmethod
    def started(cls, values: FloatArray, seen: FloatArray, directions: FloatArray) -> Self:
        """Where a fit starts: one common factor, and a little of `directions` (p, r).

        Args:
            values: (p, n), 0 where not seen.
            seen: (p, n) of 0 and 1, at least one in each row.
            directions: of about unit size.

        Raises:
            ValueError: shapes that do not fit, or a row without anything seen.
        """
        if seen.shape != values.shape or len(directions) != len(values) or not seen.any(axis=1).all():
            raise ValueError(
                f"expected values and what is seen (p, n), something in each row, and directions (p, r), got "
                f"{values.shape}, {seen.shape} and {directions.shape}"
            )
        count = seen.sum(axis=1)
        mean = values.sum(axis=1) / count
        variance = (seen * np.square(values - mean[:, None])).sum(axis=1) / count
        weights = 0.1 * directions
        weights[:, 0] = 0.7 * np.sqrt(variance)
        return cls(mean, weights, np.maximum(0.5 * variance, _FLOOR))

    def improved(
        self, values: FloatArray, seen: FloatArray, average: Callable[[FloatArray], FloatArray], *, steps: int
    ) -> Self:
        """After some steps of expectation and maximisation.

        Args:
            values: (p, n), 0 where not seen.
            seen: (p, n) of 0 and 1.
            average: of weights (p, r) around each kind of value, to which its own are drawn.
            steps: how many.

        Source: Rubin, Thayer 1982, "EM algorithms for ML factor analysis"; the pull to neighbours is ours.
        """
        found, r = self, self.weights.shape[1]
        count, ridge = seen.sum(axis=1), np.diag([_PENALTY] * r + [1e-9])
        for _ in range(steps):
            z, spread = found._factors(values, seen)
            with_one = np.column_stack([z, np.ones(len(z))])
            second = with_one[:, :, None] * with_one[:, None, :]
            second[:, :r, :r] += spread
            gram = (seen @ second.reshape(len(z), -1)).reshape(-1, r + 1, r + 1)
            cross = values @ with_one
            pulled = cross.copy()
            pulled[:, :r] += _PENALTY * average(found.weights)
            fit = np.linalg.solve(gram + ridge, pulled[:, :, None])[:, :, 0]
            # E sum (v - fit)^2 by its parts: no residual of every value is formed
            left = np.square(values).sum(axis=1) - 2 * (fit * cross).sum(axis=1)
            left += np.einsum("pi,pij,pj->p", fit, gram, fit)
            noise = (left + _POOLED * left.sum() / count.sum()) / (count + _POOLED)
            found = dataclasses.replace(found, mean=fit[:, r], weights=fit[:, :r], noise=np.maximum(noise, _FLOOR))
        return found

    def foretold(self, values: FloatArray, seen: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(p, n) mean and variance of each value, from what is seen of its item **without it**.

        Args:
            values: (p, n), 0 where not seen.
            seen: (p, n) of 0 and 1.
        """
        z, spread = self._factors(values, seen)
        mean = self.mean[:, None] + self.weights @ z.T
        known = self._squares @ spread.reshape(len(z), -1).T
        left = 1 - known / self.noise[:, None] * seen  # leaving a value out divides by it
        told = seen > 0
        mean = np.where(told, (mean - (1 - left) * values) / left, mean)
        return mean, np.where(told, self.noise[:, None] / left, self.noise[:, None] + known)

    @property
    def _squares(self) -> FloatArray:
        """(p, r * r) of the weights."""
        return (self.weights[:, :, None] * self.weights[:, None, :]).reshape(len(self.weights), -1)

    def _factors(self, values: FloatArray, seen: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean (n, r) and covariance (n, r, r) of every item's factors, given what is seen of it."""
        r = self.weights.shape[1]
        worth = seen / self.noise[:, None]
        spread = np.linalg.inv((worth.T @ self._squares).reshape(-1, r, r) + np.eye(r))
        told = (worth * (values - self.mean[:, None])).T @ self.weights
        return np.einsum("nij,nj->ni", spread, told), np.asarray(spread, dtype=np.float64)
