"""A convolution on a grid of frequencies that bounds all others, however large the image.

In one axis f(theta) = u^H A(theta) v is a sum of m + 1 consecutive powers of exp(i theta). Turned by a phase, its real
part is a real function of exponential type m / 2 that takes the value max |f|; where a real function of type t is
largest, it is at least that times cos(t x) at a distance x < pi / 2 t on either side (M. Riesz). With N points a turn
one is within x = pi / N. Axes follow one after the other.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from .symbols import Symbols, distinct_frequencies

_POINTS = 8  # per power: a factor of at most 1 / cos(pi / 16) = 1.0196 for each axis


def sampled(symbols: Symbols) -> tuple[Symbols, float]:
    """The same taps on a coarser grid where that has fewer points, and what its norm times that is a bound with."""
    grid, offsets, factor = list(symbols.grid), symbols.offsets.clone(), 1.0
    for axis, n in enumerate(symbols.grid):
        places, step = _unwrapped(symbols.offsets[:, axis], n)
        powers = int(places.max()) // step
        points = max(1, _POINTS * powers)
        if points < n // math.gcd(step, n):  # of which the layer's own grid has frequencies that differ
            grid[axis], offsets[:, axis] = points, places // step
            factor /= math.cos(math.pi * powers / (2 * points))
    if factor == 1 and tuple(grid) == symbols.grid:
        return symbols, 1.0
    frequencies, multiplicity, cells = distinct_frequencies(offsets, tuple(grid))
    return dataclasses.replace(
        symbols, offsets=offsets, grid=tuple(grid), frequencies=frequencies.to(symbols.taps.device),
        multiplicity=multiplicity, cells=cells, exact=False,
    ), factor  # fmt: skip


def _unwrapped(offsets: Tensor, n: int) -> tuple[Tensor, int]:
    """Offsets modulo n from 0 on, along the shortest arc that has them all; their greatest common divisor."""
    residues = torch.unique(offsets % n)
    gaps = torch.diff(residues, append=residues[:1] + n)
    first = residues[(int(gaps.argmax()) + 1) % len(residues)]
    places = (offsets - first) % n
    return places, max(1, math.gcd(*places.tolist()))
