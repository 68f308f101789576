"""Thresholds of monotone psychometric functions, and the Gaussian in log frequency that fits them."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastfreq.vocabulary import statistics

FloatArray = NDArray[np.float64]
FWHM = 2 * math.sqrt(2 * math.log(2))  # full width at half maximum of a unit Gaussian
NARROWEST, WIDEST = 0.5, 12.0  # octaves: bands an octave apart cannot tell narrower channels from each other
_WIDTHS = np.geomspace(NARROWEST, WIDEST, 161)
_COARSE = (5, 4)  # steps of the first search over centres and widths
_CLIMBS = 40
_HALF_BAND = 0.5  # octaves


class Crossings(NamedTuple):
    """Where accuracies fall to the criterion, each (s, b).

    Attributes:
        value: interpolated; inf where they never do.
        below: the largest tested deviation at which the fit is still at the criterion; 0 if only without noise.
        above: the next tested deviation; inf where there is none.
    """

    value: FloatArray
    below: FloatArray
    above: FloatArray


def isotonic(values: FloatArray) -> FloatArray:
    """The decreasing sequence closest to `values` (..., k) in least squares, along the last axis.

    fit_i = max over b >= i of min over a <= i of mean(values[a .. b]), the min-max formula for k small.
    """
    k = values.shape[-1]
    total = np.concatenate([np.zeros((*values.shape[:-1], 1)), np.cumsum(values, axis=-1)], axis=-1)
    fit = np.empty_like(values)
    for i in range(k):
        over_b = [
            np.min([(total[..., b + 1] - total[..., a]) / (b + 1 - a) for a in range(i + 1)], axis=0)
            for b in range(i, k)
        ]
        fit[..., i] = np.max(over_b, axis=0)
    return fit


def crossings(accuracy: FloatArray, deviations: FloatArray, criterion: float) -> Crossings:
    """Deviations at which accuracies (s, b, 1 + d), of no noise and of `deviations`, fall to `criterion`."""
    fit = isotonic(accuracy)
    below = fit < criterion
    never = ~below.any(axis=-1)
    at = np.where(never, 1, below.argmax(axis=-1)).clip(1)[..., None]  # first deviation that is below
    upper = np.take_along_axis(fit, at - 1, axis=-1)[..., 0]
    lower = np.take_along_axis(fit, at, axis=-1)[..., 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.clip((upper - criterion) / (upper - lower), 0, 1)
    levels = np.concatenate([[0.0], deviations])
    left, right = levels[at[..., 0] - 1], levels[at[..., 0]]
    found = np.where(
        at[..., 0] == 1,
        np.maximum(share, 0.5) * right,
        np.exp2(np.log2(np.maximum(left, deviations[0])) * (1 - share) + np.log2(right) * share),
    )
    return Crossings(
        np.where(never, np.inf, found), np.where(never, deviations[-1], left), np.where(never, np.inf, right)
    )


def fit_gaussians(octaves: FloatArray, heights: FloatArray, *, flat: float = 0.0) -> FloatArray:
    """(s, 3) centre in cycles, bandwidth in octaves and height of the Gaussian closest to heights (s, b) at `octaves`.

    The height is linear, so that for each centre and width it has a closed form and the squared error falls by
    <g, y>^2 / <g, g>: the best pair of a grid, searched coarsely and then uphill from the best coarse pair.

    Args:
        octaves: (b,) centres of the bands.
        heights: (s, b), not negative.
        flat: octaves on either side of a band's centre over which the Gaussian's largest value counts.
    """
    centres = np.arange(octaves.min() - 0.5, octaves.max() + 0.505, 0.01)

    def gain(i: NDArray[np.int64], j: NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
        """(<g, y>^2 / <g, g>, <g, y> / <g, g>) of centres i and widths j, both (s or 1, k)."""
        away = np.maximum(np.abs(octaves - centres[i][..., None]) - flat, 0)
        shapes = np.exp(-0.5 * np.square(away * (FWHM / _WIDTHS[j])[..., None]))
        norms = np.square(shapes).sum(axis=-1)
        inner = heights @ shapes[0].T if len(shapes) == 1 else np.einsum("skb,sb->sk", shapes, heights)
        # a shape that misses every band fits nothing
        norms = np.where(norms > 1e-200, norms, np.inf)
        return np.square(inner) / norms, inner / norms

    coarse = np.meshgrid(np.arange(0, len(centres), _COARSE[0]), np.arange(0, len(_WIDTHS), _COARSE[1]), indexing="ij")
    i, j = (a.reshape(1, -1) for a in coarse)
    best = gain(i, j)[0].argmax(axis=1)
    i, j = i[0, best][:, None], j[0, best][:, None]
    around = [a.reshape(1, -1) for a in np.meshgrid(*(np.arange(-s, s + 1) for s in _COARSE), indexing="ij")]
    for _ in range(_CLIMBS):  # narrow channels lie on a ridge, aslant to the grid
        near = (i + around[0]).clip(0, len(centres) - 1), (j + around[1]).clip(0, len(_WIDTHS) - 1)
        best = gain(*near)[0].argmax(axis=1)[:, None]
        before, (i, j) = (i, j), (np.take_along_axis(a, best, axis=1) for a in near)
        if (before[0] == i).all() and (before[1] == j).all():
            break
    return np.stack([2 ** centres[i[:, 0]], _WIDTHS[j[:, 0]], gain(i, j)[1][:, 0]], axis=1)


def anywhere_between(found: Crossings, smallest: float, random: np.random.Generator) -> FloatArray:
    """Thresholds (s, b) drawn anew between the tested deviations next to them, uniformly in octaves.

    Below the `smallest` deviation they are drawn down to half of it. Where none above was tested, sensitivities 1 / t
    are drawn uniformly from those that no deviation shows.
    """
    share = 1 - random.uniform(size=found.value.shape)  # not 0
    below = np.maximum(found.below, smallest / 2)
    unknown = np.isinf(found.above)
    return np.where(unknown, below / share, below * (np.where(unknown, below, found.above) / below) ** share)


def fit_with_ends(
    octaves: FloatArray, heights: FloatArray, confidence: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(low, value, high), each (3,), of a Gaussian's centre, bandwidth and height from heights (1 + s, b).

    The value is the fit of the first row; the ends are percentiles of those of the others, and hold the value. The low
    end of the bandwidth is that of channels whose largest value within each band counts; 0 and inf where the grid of
    widths ends.
    """
    fitted = fit_gaussians(octaves, heights)
    low, high = percentiles(fitted[1:], confidence)
    narrow = fit_gaussians(octaves, heights[1:], flat=_HALF_BAND)
    low[1] = min(low[1], percentiles(narrow, confidence)[0][1])
    low[1] = 0 if low[1] <= NARROWEST else low[1]
    high[1] = np.inf if high[1] >= WIDEST else high[1]
    return np.minimum(low, fitted[0]), fitted[0], np.maximum(high, fitted[0])


def percentiles(drawn: FloatArray, confidence: float) -> tuple[FloatArray, FloatArray]:
    """(low, high) over the first axis of bootstrap samples; infinities count as such, no interpolation."""
    statistics.normal_quantile(confidence)  # refuses what is no confidence
    tail = (1 - confidence) / 2
    low = np.quantile(drawn, tail, axis=0, method="inverted_cdf")
    return low, np.quantile(drawn, 1 - tail, axis=0, method="inverted_cdf")
