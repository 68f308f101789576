"""Fourier integrals of affine functions over intervals and convex polygons, in closed form.

With kappa = 2 pi k and e(x) = exp(-i kappa . x), an edge of length l with unit tangent d, middle x0 and theta =
kappa . d l / 2 has
    int e = l e(x0) sinc(theta)    int t e = -i (l^2 / 2) e(x0) j(theta)
for t from -l / 2 to l / 2 and j = sin(theta) / theta^2 - cos(theta) / theta, without cancellation at any theta. By the
divergence theorem, twice, a polygon with f = g . x + c and outward normals n to its edges has
    int f e = i / |kappa|^2  sum_edges (kappa . n) int f e  +  (g . kappa) / |kappa|^4  sum_edges (kappa . n) int e
In a sum over the regions of a continuous f the first term is left on the boundary of the window alone, and the second
gives every edge between two regions the jump of its gradient: order 2 along its normal, and, since int e then decays,
order 3 elsewhere.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from .linear_regions import INSIDE, Region
from .piecewise_linear import FloatArray

ComplexArray = NDArray[np.complex128]
_TOGETHER = 1 << 20  # edges times frequencies in memory
_NODES = 16  # of Gauss's rule on a side: exact to rounding for phases below SMALL
SMALL = 2.0  # radians of |kappa| times the window's diameter, below which polygons are integrated by Gauss's rule


def sinc(theta: FloatArray) -> FloatArray:
    """sin(theta) / theta."""
    return np.sinc(theta / np.pi)


def j1(theta: FloatArray) -> FloatArray:
    """sin(theta) / theta^2 - cos(theta) / theta."""
    small = np.abs(theta) < 0.3
    safe = np.where(small, 1.0, theta)
    square = theta * theta
    series = theta / 3 * (1 - square / 10 * (1 - square / 28 * (1 - square / 54 * (1 - square / 88))))
    return np.asarray(np.where(small, series, (np.sin(safe) / safe - np.cos(safe)) / safe))


def over_pieces(breaks: FloatArray, middles: FloatArray, slopes: FloatArray, kappa: FloatArray) -> ComplexArray:
    """(K, m) sums over pieces between breaks (p + 1,) with values (p, m) at their middles and slopes (p, m)."""
    half, middle = np.diff(breaks) / 2, (breaks[1:] + breaks[:-1]) / 2
    total = np.zeros((len(kappa), middles.shape[1]), np.complex128)
    for some in _blocks(len(kappa), len(half)):
        theta = np.outer(kappa[some], half)
        waves = np.exp(-1j * np.outer(kappa[some], middle))
        total[some] = (waves * sinc(theta) * 2 * half) @ middles - 1j * (waves * j1(theta) * 2 * half**2) @ slopes
    return total


def over_breaks(breaks: FloatArray, slopes: FloatArray, kappa: FloatArray) -> ComplexArray:
    """(K, m) the inner breaks' part: their jumps of slope over -kappa^2, times their waves; NaN at zero."""
    waves = np.exp(-1j * np.outer(kappa, breaks[1:-1]))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.asarray(waves @ np.diff(slopes, axis=0) / -(kappa[:, None] ** 2), np.complex128)
    found[kappa == 0] = complex(np.nan, np.nan)
    return found


def over_regions(regions: list[Region], kappa: FloatArray, diameter: float) -> tuple[ComplexArray, ComplexArray]:
    """(K, m) the whole transform, and the part of the edges between regions."""
    boundary, facets = over_edges(regions, kappa)
    small = np.linalg.norm(kappa, axis=1) * diameter < SMALL
    total = boundary + facets
    if small.any():
        total[small] = by_gauss(regions, kappa[small])
    return total, facets


def over_edges(regions: list[Region], kappa: FloatArray) -> tuple[ComplexArray, ComplexArray]:
    """(K, m) the part of the window's own edges and that of edges between regions; NaN at zero."""
    start = np.concatenate([region.corners for region in regions])
    end = np.concatenate([np.roll(region.corners, -1, axis=0) for region in regions])
    outside = np.concatenate([region.labels for region in regions]) != INSIDE
    owner = np.repeat(np.arange(len(regions)), [len(region.corners) for region in regions])
    along, middle = end - start, (end + start) / 2
    normal = np.stack([along[:, 1], -along[:, 0]], axis=1)  # outward, of the edge's length
    slopes = np.stack([region.slopes for region in regions])[owner]  # (e, 2, m)
    offset = np.stack([region.offset for region in regions])[owner]
    values = np.einsum("ei,eim->em", middle, slopes) + offset
    change = np.einsum("ei,eim->em", along, slopes) / 2  # of f over half the edge
    square = (kappa**2).sum(axis=1)[:, None]
    first = np.zeros((len(kappa), values.shape[1]), np.complex128)
    inner, outer = first.copy(), first.copy()
    for some in _blocks(len(kappa), len(start)):
        k = kappa[some]
        theta = k @ along.T / 2
        waves = np.exp(-1j * (k @ middle.T)) * (k @ normal.T)
        flat = waves * sinc(theta)
        bent = waves * j1(theta)
        first[some] = flat[:, outside] @ values[outside] - 1j * bent[:, outside] @ change[outside]
        for axis in range(2):
            outer[some] += k[:, axis, None] * (flat[:, outside] @ slopes[outside, axis])
            inner[some] += k[:, axis, None] * (flat[:, ~outside] @ slopes[~outside, axis])
    with np.errstate(divide="ignore", invalid="ignore"):
        return 1j * first / square + outer / square**2, inner / square**2


def by_gauss(regions: list[Region], kappa: FloatArray) -> ComplexArray:
    """(K, m) by Gauss's rule on the triangles of every polygon: for low frequencies, where closed forms cancel."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    u, w = (nodes + 1) / 2, weights / 2
    total = np.zeros((len(kappa), len(regions[0].offset)), np.complex128)
    for region in regions:
        a = region.corners[0]
        for b, c in itertools.pairwise(region.corners[1:]):
            share = u[:, None, None] * ((b - a) + u[None, :, None] * (c - b))  # a triangle as a square's image
            points = (a + share).reshape(-1, 2)
            double = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
            mass = (np.outer(w * u, w) * double).reshape(-1, 1)
            values = points @ region.slopes + region.offset
            total += np.exp(-1j * (kappa @ points.T)) @ (mass * values)
    return total


def _blocks(frequencies: int, others: int) -> list[slice]:
    each = max(1, _TOGETHER // max(1, others))
    return [slice(i, i + each) for i in range(0, frequencies, each)]
