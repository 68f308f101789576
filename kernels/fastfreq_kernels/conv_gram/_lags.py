"""The kernel's autocorrelation: a fixed number of real matrix products, whatever the number of frequencies.

G(k) = sum_d R_d exp(2 pi i <k, d / grid>) over the differences d of offsets, R_d = sum_{o_j - o_l = d} T_j T_l^T and
R_{-d} = R_d^T. With the differences modulo the grid, one of each pair {d, -d}: a 3 x 3 kernel has 13.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastfreq_kernels import _taps
from fastfreq_kernels._threads import each_in_threads, split_over_threads
from fastfreq_kernels.hermitian_eigenvalues import _cpu as _eigenvalues

_ROWS = 256  # of a lag that one product makes
_SMALL = 60_000_000  # multiplications of all pairs of taps below which one product takes them all


@dataclasses.dataclass(frozen=True)
class Lags:
    """One of each pair of differences, and the packed matrices that multiply its cosine and its sine.

    Attributes:
        offsets: (h, d) the differences, zero first.
        packed: (g, c, c, h): R_d + R_d^T (R_d alone where d = -d) in the lower triangle, which cosines multiply, and
            R_d^T - R_d in the strict upper one, which sines multiply.
    """

    offsets: Tensor
    packed: Tensor


def lags_of(taps: Tensor, offsets: Tensor, grid: Sequence[int]) -> Lags:
    """Autocorrelation of the taps (g, t, a, b), summed over the longer of a and b."""
    g, t, a, b = taps.shape
    if a > b:  # A^H A = sum T_j^T T_l e^{-i(o_j - o_l)}: the transposed taps at the opposite offsets
        return lags_of(taps.transpose(2, 3), -offsets, grid)
    index, partner, differences = pairs_of(offsets, grid)
    single = own(differences, grid)
    if g * (t * a) ** 2 * b < _SMALL:
        first, second = (~partner).nonzero(as_tuple=True)
        flat = taps.reshape(g, t * a, b)
        products = (flat @ flat.mT).reshape(g, t, a, t, a).transpose(2, 3)[:, first, second]
        lags = taps.new_zeros(g, len(differences), a, a).index_add_(1, index[first, second], products).transpose(0, 1)
        return Lags(differences, _packed(lags, single, 0, a))
    lags = taps.new_zeros(len(differences), g, a, a)
    taps = taps.contiguous()

    def add(d: int, rows: slice) -> None:
        for first, second in ((index == d) & ~partner).nonzero().tolist():
            lags[d, :, rows].baddbmm_(taps[:, first, rows], taps[:, second].mT)  # T_j T_l^T

    order = torch.bincount(index.reshape(-1)).argsort(descending=True, stable=True).tolist()
    blocks = [slice(row, row + _ROWS) for row in range(0, a, _ROWS)]  # for any number of threads the same products
    each_in_threads([functools.partial(add, d, rows) for d in order for rows in blocks])
    packed = taps.new_empty(g, a, a, len(differences))

    def pack(start: int, stop: int) -> None:
        packed[:, start:stop] = _packed(lags, single, start, stop)

    split_over_threads(pack, a)
    return Lags(differences, packed)


def _packed(lags: Tensor, single: Tensor, start: int, stop: int) -> Tensor:
    """Rows of the packed matrices (g, rows, a, h) of lags (h, g, a, a)."""
    own_rows, across = lags[:, :, start:stop], lags[..., start:stop].mT
    both = torch.where(single[:, None, None, None], own_rows, own_rows + across)
    # Im G[j, i] for i < j multiplies sin by (R_d - R_d^T)[j, i] = -(R_d - R_d^T)[i, j]
    columns = torch.arange(lags.shape[-1])
    lower = columns <= columns[start:stop, None]
    return torch.where(lower, both, across - own_rows).permute(1, 2, 3, 0).contiguous()


def pairs_of(offsets: Tensor, grid: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Of o_j - o_l: the row of its pair {d, -d}, whether it is the second of the pair, and the first of each pair."""
    sides = torch.tensor(list(grid), device=offsets.device)
    d = (offsets[:, None] - offsets[None, :]) % sides
    strides = torch.ones_like(sides)
    for axis in range(len(grid) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * sides[axis + 1]
    one, other = (d * strides).sum(-1), ((-d) % sides * strides).sum(-1)
    codes, index = torch.unique(torch.minimum(one, other).reshape(-1), return_inverse=True)
    differences = (codes[:, None] // strides) % sides
    return index.reshape(one.shape).cpu(), (one > other).cpu(), differences


def own(differences: Tensor, grid: Sequence[int]) -> Tensor:
    """(h,) whether d = -d modulo the grid: R_d is symmetric and counts once."""
    sides = torch.tensor(list(grid), device=differences.device)
    return ((2 * differences) % sides == 0).all(dim=1)


def gram_of(lags: Lags, frequencies: Tensor, grid: Sequence[int]) -> Tensor:
    """(g, f, c, c) packed Gram matrices at some frequencies."""
    cosines, sines = _taps.phase_tables(lags.offsets, frequencies, grid, lags.packed.dtype)
    g, c, _, h = lags.packed.shape
    flat = lags.packed.reshape(g, c * c, h).mT
    below, above = (torch.matmul(table, flat).reshape(g, len(frequencies), c, c) for table in (cosines, sines))
    return torch.where(torch.ones(c, c, dtype=torch.bool).tril(), below, above)


def eigenvalues_of(lags: Lags, frequencies: Tensor, grid: Sequence[int]) -> Tensor | None:
    """(g, f, c) eigenvalues, descending, of the Gram matrices, which are never held; None where that does not pay."""
    g, c, _, _ = lags.packed.shape
    code = _eigenvalues.compiled(c, len(frequencies))
    if code is None:
        return None
    cosines, sines = (table.numpy() for table in _taps.phase_tables(lags.offsets, frequencies, grid, lags.packed.dtype))
    out = lags.packed.new_empty(g, len(frequencies), c)
    for group in range(g):
        each = lags.packed[group].numpy()
        values = out[group].numpy()

        def run(a: int, b: int, each: Any = each, values: Any = values) -> bool:
            return code.gram_eigenvalues(each, cosines[a:b], sines[a:b], values[a:b])

        if not _eigenvalues.in_lanes(code, run, out[group]):
            return None
    return out
