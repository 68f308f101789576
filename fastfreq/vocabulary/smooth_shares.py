"""Shares at every frequency from a few draws at each: a Gaussian process on their log odds, and what it leaves open."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
from numpy.typing import NDArray

from .even_functions import EvenFunctions
from .fourier import FloatArray, IntArray
from .statistics import normal_quantile

Array = NDArray[np.floating]

_SIZES = (0.1, 0.3, 0.8)  # standard deviations of log odds over a map
_NUGGETS = (0.05, 0.2)  # and of what a frequency shares with no other
_MIRRORED = (0.0, 0.9)
_SHORTEST, _LENGTHS = 1.5, 5  # cells over which neighbours are alike; how many lengths, up to half the map
_ROUNDS = 3  # of Newton's method under middling assumptions, before all are tried
_RELEVANT = 1e-2  # of the likelihood of the best assumptions
_FLOOR = 1e-6  # information of a frequency nothing is known of
_NODES = 9  # of a Gauss-Hermite rule for means over normal log odds


@dataclasses.dataclass(frozen=True, eq=False)
class SmoothShares:
    """What all items together will show, predicted from those that were looked at.

    Attributes:
        estimates: (f,) expected share of yes among all items.
        deviations: (f,) standard deviation of that share.
        least: (f,) the share if none of the others says yes.
        most: (f,) if all do.
        items: how many there are: shares are whole numbers of them.
    """

    estimates: FloatArray
    deviations: FloatArray
    least: FloatArray
    most: FloatArray
    items: int

    def interval(self, *, confidence: float = 0.95) -> tuple[FloatArray, FloatArray]:
        """(low, high), each (f,): normal on the scale of log odds, out to whole items, inside `least` and `most`.

        Raises:
            ValueError: a confidence outside (0, 1).
        """
        z = normal_quantile(confidence)
        p = self.estimates.clip(1e-12, 1 - 1e-12)
        odds, half = np.log(p / (1 - p)), z * self.deviations / (p * (1 - p))
        low, high = (_logistic(odds + sign * half) * self.items for sign in (-1, 1))
        low, high = np.floor(low) / self.items, np.ceil(high) / self.items
        return np.maximum(low, self.least), np.minimum(high, self.most)


@dataclasses.dataclass(frozen=True, eq=False)
class Posterior:
    """Of values g = features w + u at every frequency, w and u normal, given noisy readings of them.

    Attributes:
        mean: (f,) of g.
        variance: (f,) of g.
    """

    mean: FloatArray
    variance: FloatArray


class Readings:
    """Readings z = g + noise with the functions that g is made of, for many assumptions on their sizes.

    Args:
        values: (f,) z.
        precisions: (f,) 1 / variance of the noise.
        features: (f, m).
    """

    def __init__(self, values: FloatArray, precisions: FloatArray, features: FloatArray) -> None:
        self._values, self._noise, self._features = values, 1 / precisions, features
        self._moments: dict[float, tuple[Array, Array, Array, float]] = {}

    def _seen(self, nugget: float) -> tuple[Array, Array, Array, float]:
        """Weights, Gram matrix, products with z, and the likelihood's constant, which all sizes share."""
        if nugget not in self._moments:
            weight, phi = 1 / (self._noise + nugget**2), self._features
            constant = float(np.log(weight).sum() - (weight * self._values**2).sum())
            gram = (phi * weight[:, None]).T @ phi
            self._moments[nugget] = weight, gram, phi.T @ (weight * self._values), constant
        return self._moments[nugget]

    def _solved(self, variances: Array, nugget: float) -> tuple[NDArray[np.intp], Array, Array]:
        """The functions that matter, the Cholesky factor of their precision in units of the prior, and L^-1 of b."""
        _, gram, products, _ = self._seen(nugget)
        kept = np.flatnonzero(variances > 1e-12 * variances.max())
        root = np.sqrt(variances[kept])
        factor = np.linalg.cholesky(root[:, None] * gram[np.ix_(kept, kept)] * root + np.eye(len(kept)))
        return kept, factor, np.linalg.solve(factor, root * products[kept])

    def log_likelihood(self, variances: Array, nugget: float) -> float:
        """Logarithm of p(z) up to a constant, for weights of these variances and u of variance nugget^2."""
        _, factor, solved = self._solved(variances, nugget)
        return 0.5 * (self._seen(nugget)[3] + float(solved @ solved)) - float(np.log(np.diag(factor)).sum())

    def posterior(self, variances: Array, nugget: float) -> Posterior:
        """Of g, for weights of these variances and u of variance nugget^2."""
        kept, factor, solved = self._solved(variances, nugget)
        rows = np.linalg.solve(factor, (self._features[:, kept] * np.sqrt(variances[kept])).T)
        smooth, spread = rows.T @ solved, (rows * rows).sum(axis=0)
        own = nugget**2 / (nugget**2 + self._noise)  # of what is left, the part that is the frequency's own
        mean = own * self._values + (1 - own) * smooth
        return Posterior(mean, own * self._noise + (1 - own) ** 2 * spread)


def smooth_shares(
    yes: IntArray,
    drawn: IntArray,
    items: IntArray,
    *,
    frequencies: IntArray,
    shape: tuple[int, int],
    columns: FloatArray | None = None,
) -> SmoothShares:
    """Shares of yes among all items at every frequency, from draws of some.

    Items are of s kinds, such as images by what the model says of them as they are. At frequency k an item of kind i
    says yes with probability logistic(c_i + g(k)), g being an even function of frequency that is smooth but for a
    part of its own (`EvenFunctions`). c is fitted; g is normal given the counts, by Laplace's method, and averaged
    over lengths, sizes, roughness and mirror symmetry, each weighted by its likelihood. What the items that were not
    drawn will say is then binomial, so that with all items drawn the share is what was counted, and certain.

    Intervals of 95 % are those of this model, no theorem. Over made maps (rings, flat ones, few yes; 5 or 30 draws a
    frequency of 1,000) they held more than 93 % of shares, but 90 to 92 % with 5 draws of maps that are rough too.

    Args:
        yes: (f, s) draws that said yes.
        drawn: (f, s) draws, each item at most once.
        items: (s,) how many there are in all.
        frequencies: (f, 2), signed.
        shape: (h, w) of the image.
        columns: (f, p) what log odds may be linear in besides, such as another method's prediction.

    Source: Rasmussen, Williams 2006, "Gaussian Processes for Machine Learning", sections 2.7 and 3.4; kinds are
        strata as in Holt, Smith 1979, "Post stratification".
    """
    kinds = np.flatnonzero(items)
    yes, drawn, items = yes[:, kinds], drawn[:, kinds], items[kinds]
    functions = EvenFunctions.over(frequencies, shape, columns)
    values, levels = np.zeros(len(yes)), _levels(yes, drawn, np.zeros(len(yes)), None)
    middle = functions.variances(length=_lengths(frequencies)[2], size=0.3, mirrored=0.5)
    for _ in range(_ROUNDS):
        values = _readings(yes, drawn, levels, values, functions).posterior(middle, _NUGGETS[0]).mean
        levels = _levels(yes, drawn, values, levels)
    for last in (False, True):
        found = _averaged(_readings(yes, drawn, levels, values, functions), functions, _lengths(frequencies))
        if not last:
            values, levels = found.mean, _levels(yes, drawn, found.mean, levels)
    return _predicted(yes, drawn, items, levels, found)


def _lengths(frequencies: IntArray) -> FloatArray:
    longest = max(2 * _SHORTEST, float(np.abs(frequencies).max()) * 1.25)
    return np.geomspace(_SHORTEST, longest, _LENGTHS)


def _logistic(odds: FloatArray) -> FloatArray:
    return 0.5 * (1 + np.tanh(odds / 2))


def _readings(
    yes: IntArray, drawn: IntArray, levels: FloatArray, values: FloatArray, functions: EvenFunctions
) -> Readings:
    """What the counts say of g, to second order around `values`."""
    p = _logistic(levels + values[:, None])
    information = np.maximum((drawn * p * (1 - p)).sum(axis=1), _FLOOR)
    return Readings(values + (yes - drawn * p).sum(axis=1) / information, information, functions.values)


def _levels(yes: IntArray, drawn: IntArray, values: FloatArray, levels: FloatArray | None) -> FloatArray:
    """(s,) c, given g: where they are most likely, with half a yes and half a no more of each kind."""
    total, said = drawn.sum(axis=0), yes.sum(axis=0)
    c = np.log((said + 0.5) / (total - said + 0.5)) if levels is None else levels
    for _ in range(5):
        p, own = _logistic(c + values[:, None]), _logistic(c)
        step = ((yes - drawn * p).sum(axis=0) + 0.5 - own) / ((drawn * p * (1 - p)).sum(axis=0) + own * (1 - own))
        c = c + step.clip(-1, 1)
    return c


def _averaged(readings: Readings, functions: EvenFunctions, lengths: FloatArray) -> Posterior:
    """The posterior over all assumptions, weighted by how likely the readings are under each."""
    assumed = [
        (functions.variances(length=length, size=size, mirrored=mirrored), nugget)
        for length, size, mirrored, nugget in itertools.product(lengths, _SIZES, _MIRRORED, _NUGGETS)
    ]
    likelihoods = np.array([readings.log_likelihood(*each) for each in assumed])
    weights = np.exp(likelihoods - likelihoods.max())
    weights[weights < _RELEVANT] = 0
    weights /= weights.sum()
    mean = second = np.zeros(len(functions.values))
    for weight, each in zip(weights, assumed, strict=True):
        if weight > 0:
            one = readings.posterior(*each)
            mean, second = mean + weight * one.mean, second + weight * (one.variance + one.mean**2)
    return Posterior(mean, (second - mean**2).clip(0))


def _predicted(yes: IntArray, drawn: IntArray, items: IntArray, levels: FloatArray, found: Posterior) -> SmoothShares:
    """What all items show: those that were drawn, and the others by chance."""
    total, left = int(items.sum()), items - drawn
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    weights = weights / weights.sum()
    mean, second, chance = (np.zeros(len(yes)) for _ in range(3))
    for node, weight in zip(nodes, weights, strict=True):
        p = _logistic(levels + (found.mean + node * np.sqrt(found.variance))[:, None])
        expected = (left * p).sum(axis=1)
        mean, second = mean + weight * expected, second + weight * expected**2
        chance += weight * (left * p * (1 - p)).sum(axis=1)
    said, open_ = yes.sum(axis=1), left.sum(axis=1)
    variance = (second - mean**2).clip(0) + chance
    return SmoothShares((said + mean) / total, np.sqrt(variance) / total, said / total, (said + open_) / total, total)
