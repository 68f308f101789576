"""Curves in the plane that carry a target given along them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfreq.vocabulary import numbers

FloatArray = NDArray[np.float64]
Manifold = Callable[[FloatArray, float], Any]


def petals(z: FloatArray, count: float) -> FloatArray:
    """(n, 2) points R (cos 2 pi z, sin 2 pi z), R = 1 + sin(2 pi L z) / 2: a flower of L petals, a circle for L = 0.

    Raises:
        ValueError: places that are no vector, or that are not finite.

    Source: Rahaman et al. 2019, experiments on manifolds.
    """
    z, count = numbers.as_array("z", z), numbers.as_float("count", count)
    if z.ndim != 1 or not np.isfinite(z).all():
        raise ValueError(f"expected finite places `z` (n,), got shape {z.shape}")
    radius = 1 + np.sin(2 * np.pi * count * z) / 2
    return np.stack([radius * np.cos(2 * np.pi * z), radius * np.sin(2 * np.pi * z)], axis=1)


def points(manifold: Manifold, z: FloatArray, shapes: tuple[float, ...]) -> FloatArray:
    """(shapes, n, d) points of a curve, for each of its shapes.

    Raises:
        ValueError: the curve gives something else than n finite points, of one dimension for all shapes.
    """
    found = [numbers.as_array("manifold", manifold(z.copy(), shape)) for shape in shapes]
    for each in found:
        if each.ndim != 2 or len(each) != len(z) or each.shape != found[0].shape or not np.isfinite(each).all():
            raise ValueError(f"expected `manifold` to give {len(z)} finite points (n, d), got shape {each.shape}")
    return np.stack(found)
