"""Where a convolution's norm over all frequencies is, and what it is at most: however large the image.

Let M be the largest ||A(theta)||. In one axis f = u^H A(theta) v is a sum of m + 1 consecutive powers of exp(i theta).
Turned by a phase, its real part g is a real function of exponential type t = m / 2 with |g| <= M, and such functions
have g'^2 + t^2 g^2 <= t^2 M^2 (Bernstein, Szego; Duffin, Schaeffer): arccos(||A|| / M) changes by at most t a radian.
Two things follow.

- From a maximum, where that angle is 0, the nearest of N points a turn is at most y = pi t / N away: one of them has
  ||A|| >= M cos(y). Axes follow one after the other, each from the largest value of its line: of a grid in d axes one
  point has ||A|| >= M cos(y)^d.
- Where ||A|| is small, it is small around: the grid's points within x radians times t of a frequency, all axes
  together, fall short of M cos(y)^d if ||A|| < M cos(x + arccos(cos(y)^d)) there, and need not be looked at.

So cells are halved only where they may hold the maximum. With L the largest value that was found,
M <= L / cos(y)^d: else a point of the finest grid above L would have been dropped.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor

from .symbols import Symbols

_FIRST, _HALVINGS = 4, 2  # cells per power at first, and how often they are halved
_HALVINGS_3D = 1  # where each halving makes eight
_OWN = 8  # points per power up to which all frequencies of the layer's own axis are taken, without a factor
_ROUNDING = 1e-9  # relative, of values and cosines


def sampled(symbols: Symbols, largest: Callable[[Symbols], Tensor]) -> tuple[Symbols, float]:
    """The same taps at one frequency, perhaps between those of the layer, and what their norm times that bounds.

    Args:
        symbols: of a convolution.
        largest: (f,) largest singular values at `Symbols.frequencies`, on the host.
    """
    cells = _Cells(symbols)
    found, best = -1.0, symbols
    for level in range(cells.halvings + 1):
        here = cells.symbols()
        if not len(here.frequencies):  # a coarser centre is above all others
            break
        values = largest(here)
        at = int(values.argmax())
        if float(values[at]) > found:
            found, best = float(values[at]), dataclasses.replace(here, frequencies=here.frequencies[at : at + 1])
        if level < cells.halvings:
            cells.halve(values >= cells.least(level) * found * (1 - _ROUNDING))
    return best, cells.factor


class _Cells:
    """Boxes of frequencies by their centres: odd multiples of a half cell, so that k and -k are both centres or none.

    Attributes:
        halvings: until the finest.
        factor: the largest value of all frequencies over that of the finest centres, at most.
    """

    def __init__(self, symbols: Symbols) -> None:
        self._of, self._offsets, self._grid, sides, self._free = symbols, symbols.offsets.clone(), [], [], []
        for axis, n in enumerate(symbols.grid):
            places, step = _unwrapped(symbols.offsets[:, axis], n)
            powers, period = int(places.max()) // step, n // math.gcd(step, n)
            free = powers > 0 and period > _OWN * powers
            if free:
                self._offsets[:, axis] = places // step
            self._free.append(free)
            sides.append(_FIRST * powers if free else period if powers else 1)
            self._grid.append(2 * sides[-1] if free else n)
        axes = sum(self._free)
        self.halvings = 0 if not axes else _HALVINGS_3D if axes > 2 else _HALVINGS
        self._axes, self._finest = axes, math.pi / 2 / (_FIRST << self.halvings)  # y
        self.factor = 1 / math.cos(self._finest) ** axes
        self._centres = self._first(sides)

    def _first(self, sides: list[int]) -> Tensor:
        """One of each pair k and -k."""
        every = [
            torch.arange(n) * 2 + 1 if free else torch.arange(n) for n, free in zip(sides, self._free, strict=True)
        ]
        centres = torch.cartesian_prod(*every).reshape(-1, len(sides))
        periods = [2 * n if free else n for n, free in zip(sides, self._free, strict=True)]
        places = torch.tensor([math.prod(periods[axis + 1 :]) for axis in range(len(sides))])
        code, twin = ((k * places).sum(dim=1) for k in (centres, -centres % torch.tensor(periods)))
        return centres[code <= twin]

    def symbols(self) -> Symbols:
        """At the centres; what counts frequencies of the layer's own grid is not theirs."""
        return dataclasses.replace(
            self._of, offsets=self._offsets, grid=tuple(self._grid),
            frequencies=self._centres.to(self._of.taps.device), exact=False,
        )  # fmt: skip

    def least(self, level: int) -> float:
        """Of the largest value so far: centres below have no maximum in their cells."""
        farthest = self._axes * (math.pi / 2 / (_FIRST << level) - self._finest)  # of the finest centres, times t
        angle = farthest + math.acos(math.cos(self._finest) ** self._axes)
        return self.factor * math.cos(angle) if angle < math.pi / 2 else -math.inf

    def halve(self, kept: Tensor) -> None:
        """Into 2^d each, of those that are kept."""
        steps = [torch.tensor([-1, 1]) if free else torch.zeros(1, dtype=torch.int64) for free in self._free]
        scale = torch.tensor([2 if free else 1 for free in self._free])
        children = torch.cartesian_prod(*steps).reshape(-1, len(steps))
        self._centres = ((self._centres[kept] * scale)[:, None] + children).reshape(-1, len(steps))
        self._grid = [2 * n if free else n for n, free in zip(self._grid, self._free, strict=True)]


def _unwrapped(offsets: Tensor, n: int) -> tuple[Tensor, int]:
    """Offsets modulo n from 0 on, along the shortest arc that has them all; their greatest common divisor."""
    residues = torch.unique(offsets % n)
    gaps = torch.diff(residues, append=residues[:1] + n)
    first = residues[(int(gaps.argmax()) + 1) % len(residues)]
    places = (offsets - first) % n
    return places, max(1, math.gcd(*places.tolist()))
