"""`frequency_response` for frequencies on parallel lines: values, or their products with waves, spread and transformed.

A line from zero needs no waves: values are real, and one real transform has j and -j. Others take exp(-2 pi i c . x)
of their middle c first, and many lines that many columns more: one FFT has them all.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastfreq_kernels._threads import each_in_threads

from . import _spreading
from ._lines import Lines

_COLUMNS = 128  # of a grid that is spread onto at a time: a share of the L2 cache
_PARTS = 8  # of the points at most, each spread onto a grid of its own: the same ones whatever the threads
_CELLS = 1 << 22  # times columns, of a grid
_ALL_CELLS = 1 << 25  # times columns, of the grids of all parts
_POINTS = 8192  # at least in each
_TOGETHER = 1024  # points between their phases and the grid


def by_lines(code: Any, points: Tensor, values: Tensor, lines: Lines, from_zero: int | None) -> Tensor:
    """(K, m) complex128 for parallel lines; `from_zero`: how many steps from zero a single one starts, if it does."""
    m, count = values.shape[1], lines.count
    most = max(8, min(_COLUMNS // 2, _CELLS // (8 * count)))  # outputs at a time
    if m > most:
        each_of = [by_lines(code, points, some, lines, from_zero) for some in values.split(most, dim=1)]
        return torch.cat(each_of, dim=1)
    real = from_zero is not None and max(abs(from_zero), abs(from_zero + count - 1)) <= 2 * count
    first = from_zero if real and from_zero is not None else -(count // 2)
    modes = torch.arange(first, first + count)
    spreader = _Spreader(code, points, values, lines.step, int(modes.abs().max()))
    if real:
        return spreader.modes(None, modes)[:, :m]
    centres = lines.starts + (count // 2) * lines.step
    each = max(1, _COLUMNS // (2 * m))
    out = torch.empty((len(centres), count, m), dtype=torch.complex128)
    for a in range(0, len(centres), each):
        some = centres[a : a + each]
        sums = spreader.modes(some, modes)[:, : 2 * m * len(some)]
        parts = sums.unflatten(1, (len(some), 2, m)).movedim(0, 2)
        out[a : a + each] = parts[:, 0] - 1j * parts[:, 1]
    return out.flatten(0, 1)


class _Spreader:
    """Points in parts, each spread onto a grid of its own."""

    def __init__(self, code: Any, points: Tensor, values: Tensor, step: Tensor, highest: int) -> None:
        self.code, self.points, self.values, self.step = code, points, values, step
        self.width, self.highest = _spreading.WIDTH[values.dtype], highest
        self.cells = _spreading.cells_for(highest, self.width)
        self.lanes = code.REGISTER // 8
        self.taps = _spreading.taps(self.width, self.lanes)

    def modes(self, centres: Tensor | None, modes: Tensor) -> Tensor:
        """(modes, columns) complex128: of the values, or of their products with cos and sin of 2 pi centres . x."""
        n, m = self.values.shape
        used = m if centres is None else 2 * m * len(centres)
        columns = -(-used // self.lanes) * self.lanes
        parts = max(1, min(_PARTS, _ALL_CELLS // (self.cells * columns)))
        part = max(_POINTS, -(-n // parts))
        grids = [np.zeros((self.cells + self.width) * columns) for _ in range(0, n, part)]
        tasks = [
            functools.partial(self._spread, grid, i * part, min(n, (i + 1) * part), centres, columns)
            for i, grid in enumerate(grids)
        ]
        each_in_threads(tasks)
        grid = torch.from_numpy(sum(grids[1:], start=grids[0])).view(-1, columns)
        found = _spreading.modes_of(grid, self.width, self.highest + 1)[modes.abs()]
        return torch.where((modes < 0)[:, None], found.conj(), found)

    def _spread(self, grid: NDArray[Any], start: int, stop: int, centres: Tensor | None, columns: int) -> None:
        weights = np.empty(self.taps.shape[1])
        for i in range(start, stop, _TOGETHER):
            some = slice(i, min(stop, i + _TOGETHER))
            x = self.points[some].double()
            turns = x @ self.step
            positions = (turns - turns.floor()) * self.cells
            strengths = self._strengths(x, self.values[some].double(), centres, columns)
            self.code.spread(positions.numpy(), strengths, self.taps, self.width, weights, grid)

    def _strengths(self, x: Tensor, v: Tensor, centres: Tensor | None, columns: int) -> NDArray[Any]:
        n, m = v.shape
        if centres is None:
            return torch.nn.functional.pad(v, (0, columns - m)).reshape(-1).numpy()
        padded = torch.cat([centres, centres.new_zeros(-len(centres) % self.lanes, centres.shape[1])])
        strengths, waves = np.empty((n, columns)), np.empty(2 * len(padded))
        phases = (x @ padded.mT).view(-1).numpy()
        self.code.modulate(phases, v.contiguous().view(-1).numpy(), m, waves, strengths)
        return strengths.reshape(-1)
