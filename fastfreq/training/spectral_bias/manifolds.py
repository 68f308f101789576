"""Curves in the plane that carry a target given along them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Manifold = Callable[[FloatArray, float], Any]


def petals(z: FloatArray, count: float) -> FloatArray:
    """(n, 2) points R (cos 2 pi z, sin 2 pi z), R = 1 + sin(2 pi L z) / 2: a flower of L petals, a circle for L = 0.

    Source: Rahaman et al. 2019, experiments on manifolds.
    """
    radius = 1 + np.sin(2 * np.pi * count * z) / 2
    return np.stack([radius * np.cos(2 * np.pi * z), radius * np.sin(2 * np.pi * z)], axis=1)


def points(manifold: Manifold, z: FloatArray, shapes: tuple[float, ...]) -> FloatArray:
    """(shapes, n, d) points of a curve, for each of its shapes.

    Raises:
        ValueError: the curve gives something else than n finite points, of one dimension for all shapes.
    """
    found = [np.asarray(manifold(z.copy(), shape), dtype=np.float64) for shape in shapes]
    for each in found:
        if each.ndim != 2 or len(each) != len(z) or each.shape != found[0].shape or not np.isfinite(each).all():
            raise ValueError(f"expected `manifold` to give {len(z)} finite points (n, d), got shape {each.shape}")
    return np.stack(found)
