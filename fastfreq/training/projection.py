"""The Fourier transform of a network along one direction of its inputs: the projection method."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import fastfreq_kernels as kernels
import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from fastfreq.vocabulary import numbers, streams

from ._measures import Halves, Measure, Reading, Rows, Split, band_edges, energies

_BANDS = (0.0, 3.0, 8.0, 16.0, 40.0)
_SMALL = 512  # of the smaller side of the inputs: up to here all principal components are found at once
_CONVERGED, _ROUNDS = 1e-10, 500


class Projection(Measure):
    """f_k = (1/n) sum_i f(x_i) e^(-2 pi i k t_i) with t_i = p . x_i, brought to [0, 1] over the probes.

    Points t_i are not even, so that frequencies leak into each other: bands say more than single ones, and only low
    frequencies mean much.

    Args:
        direction: p; None for the first principal component of the probes, a number for another one (0 is the first),
            or (d,) of your own.
        frequencies: (K,) k from 0, cycles over the range of t, each a row; None for `bands`.
        bands: edges of k, each band of its integer frequencies a row; None for 0, 3, 8, 16, 40, without `frequencies`.

    Raises:
        ValueError: `frequencies` and `bands` at once, or not ascending from 0.

    Source: Xu, Zhang, Luo, Xiao, Ma 2020, section 4.
    """

    name = "projection"

    def __init__(
        self,
        direction: int | ArrayLike | None = None,
        *,
        frequencies: Sequence[float] | None = None,
        bands: Sequence[float] | None = None,
    ) -> None:
        if frequencies is not None and bands is not None:
            raise ValueError("expected `frequencies` or `bands`, got both")
        self.direction, self.bands = direction, bands
        self.frequencies = None
        if frequencies is not None:
            self.frequencies = numbers.ascending("frequencies", frequencies, numbers.as_float)
            if self.frequencies[0] < 0:
                raise ValueError(f"expected `frequencies` from 0, got {self.frequencies[0]:g}")
        else:
            band_edges(_BANDS if bands is None else bands)

    def split(self, points: Tensor, targets: Tensor) -> Split:
        """As in `Measure`.

        Raises:
            ValueError: a direction of another length, or along which the probes are one point.
        """
        direction, name = _direction(self.direction, points)
        place = points @ direction
        low, high = float(place.min()), float(place.max())
        if not high > low:
            raise ValueError("expected probes that differ along the direction, they are one point there")
        return _LineSplit((place - low) / (high - low), targets, self.frequencies, self.bands, name)


class _LineSplit(Split):
    def __init__(
        self,
        place: Tensor,
        targets: Tensor,
        frequencies: tuple[float, ...] | None,
        bands: Sequence[float] | None,
        direction: str,
    ) -> None:
        pairs = None
        if frequencies is None:
            edges = _BANDS if bands is None else bands
            pairs, labels = band_edges(edges)
            asked = np.arange(np.ceil(pairs[0][0]), pairs[-1][1])
            self.radii = np.array([(asked[(asked >= low) & (asked < high)]).mean() for low, high in pairs])
        else:
            asked = np.array(frequencies)
            labels, self.radii = [f"{k:g}" for k in asked], asked
        self._place, self._asked = place[:, None], torch.from_numpy(asked)[:, None]
        transform = self._transform(targets)
        self.labels = tuple(labels)
        scale = float(targets.square().sum(dim=1).mean().sqrt())
        self._rows = Rows(transform, asked, pairs, labels, scale=scale)
        self._halves = Halves(energies(transform), asked)
        self.amplitudes = self._rows.amplitudes
        self.settings = f"along {direction}, {len(asked)} frequencies"

    def _transform(self, values: Tensor) -> Tensor:
        return kernels.frequency_response(self._place, values, self._asked)

    def read(self, residual: Tensor) -> Reading:
        """As in `Split`."""
        transform = self._transform(residual)
        errors, magnitudes = self._rows.errors(transform)
        return Reading(errors, magnitudes, self._halves.parts(energies(transform)))


def _direction(asked: int | ArrayLike | None, points: Tensor) -> tuple[Tensor, str]:
    """((d,) unit vector, its name)."""
    if asked is None or (isinstance(asked, (int, np.integer)) and not isinstance(asked, bool)):
        index = 0 if asked is None else int(asked)  # pyright: ignore[reportArgumentType]
        return principal_component(points, index), f"principal component {index}"
    given = torch.from_numpy(numbers.as_array("direction", asked))
    if given.shape != (points.shape[1],) or not torch.isfinite(given).all() or not given.norm() > 0:
        raise ValueError(
            f"expected `direction` as {points.shape[1]} finite numbers, not all zero, got shape {tuple(given.shape)}"
        )
    unit = given / given.norm()
    digest = hashlib.sha256((unit.numpy().round(12) + 0.0).tobytes()).hexdigest()[:8]  # tells it from others
    return unit, f"a direction of {len(unit)} numbers, {digest}"


def principal_component(points: Tensor, index: int = 0) -> Tensor:
    """(d,) the unit direction of largest variance but `index`; its largest entry is positive.

    Args:
        points: (n, d) float64.
        index: from 0.

    Raises:
        ValueError: there is no such component, or it is not one direction, as two have the same variance.
    """
    n, d = points.shape
    if not 0 <= index < min(n - 1, d):
        raise ValueError(f"expected a principal component from 0 to {min(n - 1, d) - 1}, got {index}")
    centred = points - points.mean(dim=0)
    if min(n, d) <= _SMALL:
        _, values, vectors = torch.linalg.svd(centred, full_matrices=False)
        vectors = vectors.T
    else:
        values, vectors = _leading(centred, index + 6)
    gaps = [values[i] - values[i + 1] for i in (index - 1, index) if 0 <= i < len(values) - 1]
    if not values[index] > 0 or any(gap <= 1e-6 * values[0] for gap in gaps):
        raise ValueError(
            f"expected probes with a principal component {index}, their variance there is zero or that of another "
            f"one, so that it is no one direction; give a `direction`"
        )
    vector = vectors[:, index]
    return vector * vector[vector.abs().argmax()].sign()


def _leading(centred: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(values, vectors (d, count)) of the largest singular values, by subspace iteration."""
    start = streams.generator("probes", 0).standard_normal((centred.shape[1], count))
    basis = torch.linalg.qr(torch.from_numpy(start)).Q
    values = torch.zeros(count, dtype=torch.float64)
    for _ in range(_ROUNDS):
        basis, factor = torch.linalg.qr(centred.T @ (centred @ basis))
        left, found, _ = torch.linalg.svd(factor)
        basis, before, values = basis @ left, values, found.sqrt()
        if (values - before)[:-4].abs().max() <= _CONVERGED * values[0]:
            break
    return values, basis
