"""The discrete Fourier transform of a network on a regular grid of inputs, of any number of dimensions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from fastfreq.vocabulary import numbers

from ._measures import NOTHING, FloatArray, Halves, Measure, Reading, Rows, Split, band_edges, energies

_PEAK = 1e-2  # of the largest amplitude: lower maxima are rounding, or ripples
_EVEN = 1e-3  # of a step: how far a point of a regular grid may be from its place


class ExactDFT(Measure):
    """f_k = (1/n) sum_x f(x) e^(-2 pi i k . x / n) of probes on a grid: frequencies are exact bins.

    A signal of period L is sampled at j L / n for j = 0 .. n - 1: with both ends of the period (numpy's `linspace` by
    default) no tone is a single bin.

    Args:
        grid: (n_1, ..., n_d) points along each axis, the last one fastest; None to find it from points of d
            coordinates that lie on one.
        frequencies: (K,) or (K, d) integer cycles per grid, each a row; None for the local maxima of |f_k| above 1 %
            of the largest in one dimension ("important frequencies"), and for rings one cycle wide in several.
        bands: edges of |k|, each band a row, in place of `frequencies`; |k| is in cycles per grid, of the shorter side
            where sides differ.

    Raises:
        ValueError: `frequencies` and `bands` at once, edges that do not ascend, or a grid of less than a point.

    Source: Xu, Zhang, Luo, Xiao, Ma 2020, section 3.
    """

    name = "dft"

    def __init__(
        self,
        grid: Sequence[int] | None = None,
        *,
        frequencies: ArrayLike | None = None,
        bands: Sequence[float] | None = None,
    ) -> None:
        if frequencies is not None and bands is not None:
            raise ValueError("expected `frequencies` or `bands`, got both")
        self.grid = None if grid is None else tuple(numbers.as_int("grid", n) for n in numbers.sequence("grid", grid))
        if self.grid is not None and (not self.grid or min(self.grid) < 1):
            raise ValueError(f"expected `grid` as points along each axis, from 1, got {self.grid}")
        self.frequencies, self.bands = frequencies, bands
        if bands is not None:
            band_edges(bands)

    def split(self, points: Tensor, targets: Tensor) -> Split:
        """As in `Measure`.

        Raises:
            ValueError: no grid, one of another number of points, or frequencies that it does not hold.
        """
        grid = grid_of(points) if self.grid is None else self.grid
        if math.prod(grid) != len(points):
            raise ValueError(
                f"expected a probe for every point of the grid, {' x '.join(map(str, grid))} = {math.prod(grid)}, got "
                f"{len(points)} probes"
            )
        return _GridSplit(grid, targets, self.frequencies, self.bands)


class _GridSplit(Split):
    def __init__(
        self,
        grid: tuple[int, ...],
        targets: Tensor,
        frequencies: ArrayLike | None,
        bands: Sequence[float] | None,
    ) -> None:
        self._grid = grid
        every = _every_frequency(grid)
        radius = _radius(every, grid)
        transform = self._transform(targets)
        scale = float(targets.square().sum(dim=1).mean().sqrt())
        self._halves = Halves(energies(transform), radius)
        self._chosen, pairs = np.arange(len(radius)), None
        if bands is not None:
            pairs, self.labels = band_edges(bands)[0], tuple(band_edges(bands)[1])
        elif frequencies is None and len(grid) > 1:
            pairs, labels = _rings(energies(transform), radius, grid, scale)
            self.labels = tuple(labels)
        else:
            asked = _peaks(transform, grid) if frequencies is None else _checked(frequencies, grid)
            self._chosen = np.ravel_multi_index(tuple((asked % np.array(grid)).T), grid)
            self.labels = tuple(_named(k) for k in asked.tolist())
        self._rows = Rows(transform[self._chosen], radius[self._chosen], pairs, self.labels, scale=scale)
        own = radius[self._chosen]
        self.radii = own if pairs is None else np.array([(low + high) / 2 for low, high in pairs])
        self.amplitudes = self._rows.amplitudes
        self.settings = f"grid {' x '.join(map(str, grid))}"

    def _transform(self, values: Tensor) -> Tensor:
        """(F, m) coefficients, F = n_1 ... n_d in the order of `_every_frequency`."""
        axes = tuple(range(len(self._grid)))
        found = torch.fft.fftn(values.reshape(*self._grid, -1), dim=axes, norm="forward")
        return found.reshape(math.prod(self._grid), -1)

    def read(self, residual: Tensor) -> Reading:
        """As in `Split`."""
        transform = self._transform(residual)
        errors, magnitudes = self._rows.errors(transform[self._chosen])
        return Reading(errors, magnitudes, self._halves.parts(energies(transform)))


def grid_of(points: Tensor) -> tuple[int, ...]:
    """(n_1, ..., n_d) of points (n, d) on a regular grid, the last coordinate fastest.

    Raises:
        ValueError: they lie on none.
    """
    n, d = points.shape
    way = (
        "give ExactDFT(grid=...) where probes are in the order of a grid whose coordinates the inputs do not show, or "
        "measure scattered probes by 'projection' or 'filtering'"
    )
    if d > 4:
        raise ValueError(f"expected probes on a grid for the exact DFT, got {n} points of {d} coordinates; {way}")
    array = points.numpy()
    axes = [_steps(array[:, i]) for i in range(d)]
    grid = tuple(len(axis) for axis in axes)
    if math.prod(grid) == n and all(map(_even, axes)):
        expected = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(n, d)
        slack = _EVEN * np.array([np.diff(axis).mean() if len(axis) > 1 else 1.0 for axis in axes])
        if (np.abs(array - expected) <= slack).all():
            return grid
    raise ValueError(
        f"expected probes on a regular grid for the exact DFT, the last coordinate fastest, got {n} points with "
        f"{' x '.join(map(str, grid))} distinct coordinates; {way}"
    )


def _steps(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distinct coordinates, ascending; those that rounding tells apart are one."""
    distinct = np.unique(values)
    if len(distinct) < 2:
        return distinct
    gaps = np.diff(distinct)
    return distinct[np.concatenate([[True], gaps > _EVEN * gaps.max()])]


def _even(axis: NDArray[np.float64]) -> bool:
    gaps = np.diff(axis)
    return len(axis) < 3 or bool(np.ptp(gaps) <= 2 * _EVEN * gaps.mean())


def _every_frequency(grid: tuple[int, ...]) -> NDArray[np.int64]:
    """(F, d) signed cycles per grid of every bin, unshifted."""
    axes = [np.rint(np.fft.fftfreq(n) * n).astype(np.int64) for n in grid]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(grid))


def _radius(frequencies: NDArray[np.int64], grid: tuple[int, ...]) -> FloatArray:
    """|k| in cycles per grid, of the shorter side where sides differ; an axis of one point counts for nothing."""
    sides = np.array(grid, np.float64)
    longer = sides[sides > 1]
    shorter = longer.min() if len(longer) else 1.0
    return np.sqrt((np.square(frequencies * (shorter / sides))).sum(axis=1))


def _rings(
    energy: FloatArray, radius: FloatArray, grid: tuple[int, ...], scale: float
) -> tuple[list[tuple[float, float]], list[str]]:
    """Rings of one cycle's width around 1, 2 .. half the shorter side in which the target has something."""
    half = min(n for n in grid if n > 1) // 2
    pairs, labels = [], []
    for k in range(1, half + 1):
        inside = (radius >= k - 0.5) & (radius < k + 0.5)
        if inside.any() and np.sqrt(energy[inside].sum()) > NOTHING * scale:
            pairs.append((k - 0.5, k + 0.5))
            labels.append(f"{k}")
    if not pairs:
        raise ValueError("expected a target that varies over the grid, this one is constant")
    return pairs, labels


def _peaks(transform: Tensor, grid: tuple[int, ...]) -> NDArray[np.int64]:
    """(K, 1) frequencies at which |f_k| is larger than at both neighbours, zero and the last one left out."""
    amplitude = np.sqrt(energies(transform))[: grid[0] // 2 + 1]
    inner = amplitude[1:-1]
    high = inner > _PEAK * amplitude[1:].max(initial=0)
    found = np.flatnonzero((inner > amplitude[:-2]) & (inner > amplitude[2:]) & high) + 1
    if not len(found):
        raise ValueError(
            "expected a target whose spectrum has peaks, this one has none inside; say which to follow, with "
            "ExactDFT(frequencies=...) or bands=..."
        )
    return found[:, None].astype(np.int64)


def _checked(frequencies: ArrayLike, grid: tuple[int, ...]) -> NDArray[np.int64]:
    given = numbers.as_array("frequencies", frequencies)
    given = given[:, None] if given.ndim == 1 and len(grid) == 1 else given
    if given.ndim != 2 or given.shape[1] != len(grid) or not len(given) or (given != given.round()).any():
        raise ValueError(f"expected `frequencies` as integers of shape (K, {len(grid)}), got shape {given.shape}")
    sides = np.array(grid)
    if (2 * np.abs(given) > sides).any():
        bad = given[(2 * np.abs(given) > sides).any(axis=1)][0].tolist()
        raise ValueError(f"expected frequencies up to half the grid's {grid} points, got {bad}: it is another's alias")
    if len(np.unique(given % sides, axis=0)) < len(given):
        raise ValueError("expected `frequencies` each once")
    return given.astype(np.int64)


def _named(k: list[int]) -> str:
    return str(k[0]) if len(k) == 1 else f"({', '.join(map(str, k))})"
