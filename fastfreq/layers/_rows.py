"""Symbols of one row or one column, as those of depthwise layers: their only singular value is their length."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from fastfreq_kernels._taps import phase_tables
from fastfreq_kernels._threads import split_over_threads
from torch import Tensor

_CACHED = 1 << 18  # numbers of a block of frequencies
_FEW = 8  # times fewer frequencies than the grid has, which a transform would all compute
_TAPS = 121  # up to which a product with the waves costs less than a transform


def row_norms(taps: Tensor, offsets: Tensor, frequencies: Tensor, grid: Sequence[int], *, descending: bool) -> Tensor:
    """(f, g) lengths of the symbols of taps (g, t, a, b), a or b 1, in their precision; `descending` in each row.

    Products with cosines and sines of a few taps or at a few frequencies; else an FFT of each group.
    """
    g, t, a, b = taps.shape
    flat = taps.permute(2, 3, 1, 0).reshape(a * b, t, g).contiguous()
    out = taps.new_empty(len(frequencies), g)
    few = t <= _TAPS or _FEW * len(frequencies) < math.prod(grid)
    squares = _by_products if few else _by_transform
    fill = squares(flat, offsets, frequencies, grid)

    def run(start: int, stop: int) -> None:
        step = max(1, _CACHED // max(1, g))
        for first in range(start, stop, step):
            part = out[first : min(first + step, stop)]
            fill(part, first)
            part.sqrt_()
            if descending:
                part.copy_(_sorted(part))

    if taps.is_cpu:
        split_over_threads(run, len(out))
    else:
        run(0, len(out))
    return out


def _by_products(
    flat: Tensor, offsets: Tensor, frequencies: Tensor, grid: Sequence[int]
) -> Callable[[Tensor, int], None]:
    """What fills rows of (f, g) from the first on with squared lengths, of taps (m, t, g)."""
    waves = phase_tables(offsets, frequencies, grid, flat.dtype)

    def fill(out: Tensor, first: int) -> None:
        out.zero_()
        for taps in flat:
            for wave in waves:
                part = wave[first : first + len(out)] @ taps
                out.addcmul_(part, part)

    return fill


def _by_transform(
    flat: Tensor, offsets: Tensor, frequencies: Tensor, grid: Sequence[int]
) -> Callable[[Tensor, int], None]:
    m, _, g = flat.shape
    sides = torch.tensor(list(grid), device=flat.device)
    half = (*grid[:-1], grid[-1] // 2 + 1)
    squares = flat.new_zeros(g, math.prod(half))
    place = _index(offsets.to(flat.device) % sides, grid)
    step = max(1, 8 * _CACHED // math.prod(grid))
    for first in range(0, g, step):
        part = flat[..., first : first + step]
        for taps in part:
            images = flat.new_zeros(part.shape[2], math.prod(grid)).index_copy_(1, place, taps.T)
            waves = torch.fft.rfftn(images.reshape(-1, *grid), dim=tuple(range(1, len(grid) + 1)))
            squares[first : first + step] += torch.view_as_real(waves).square().sum(dim=-1).flatten(1)
    k = frequencies % sides
    k = torch.where((k[:, -1:] >= half[-1]), -k % sides, k)
    rows = _index(k, half)

    def fill(out: Tensor, first: int) -> None:
        out.copy_(squares[:, rows[first : first + len(out)]].T)

    return fill


def _index(places: Tensor, sides: Sequence[int]) -> Tensor:
    """Rows of a flat array of `sides` that the places (n, d) have."""
    strides = [math.prod(sides[axis + 1 :]) for axis in range(len(sides))]
    return (places * torch.tensor(strides, device=places.device)).sum(dim=1)


def _sorted(values: Tensor) -> Tensor:
    """Descending in each row; by NumPy on a CPU, whose sort of short rows is far the quicker."""
    if not values.is_cpu:
        return values.sort(dim=1, descending=True).values
    return torch.from_numpy(np.sort(values.numpy(), axis=1)[:, ::-1].copy())
