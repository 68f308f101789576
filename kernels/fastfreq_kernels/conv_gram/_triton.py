"""Packed Gram matrices of a convolution on a GPU, from the kernel's autocorrelation (see `_lags.py`).

`lags_kernel` computes R_d = sum_{o_j - o_l = d} T_j T_l^T, one of each pair {d, -d}, straight into the packed form that
cosines (below) and sines (above the diagonal) multiply: a tile at rows I and columns J <= I needs
    X = R_d[I, J] = sum T_j[I] T_l[J]^T    and    Y = R_d[J, I]^T = sum T_l[I] T_j[J]^T
and writes X + Y below and X - Y, transposed, above. `gram_kernel` adds the lags of a block of frequencies:
    G[i, j] = sum_d (R_d + R_d^T)[i, j] cos(2 pi <k, d / grid>) + i (R_d - R_d^T)[i, j] sin(2 pi <k, d / grid>)
A lag that is its own opposite (zero is one) counts half, which its cosines carry.

Taps (t, c, b), h lags of a 3 x 3 kernel: 13, bytes of a number e:
    lags         t^2 c^2 b / 2   FMA in float32 or float64 as given, never in reduced precision
    gram         c^2 e           written per frequency, all that is written
                 h c^2 e / F     read per frequency, from L2, F frequencies in a tile
                 h c^2           FMA per frequency and as many selections of cosine or sine
No complex number and nothing else of the size of the result is ever in memory. Speed: kernels/README.md.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastfreq_kernels import _configs, _taps
from fastfreq_kernels._launch import Launch, run_on
from fastfreq_kernels.conv_symbols import _triton as conv_symbols

from . import _cpu, _lags, _reference


@triton.jit
def lags_kernel(
    out, taps, pairs, starts, groups, t, c, b, stride_g, stride_t, stride_c, stride_b,
    SIDE: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """Two tiles of one lag, (I, J) and (J, I), of out (h, groups, c, c); pairs (p, 2) sorted by lag."""
    sides = tl.cdiv(c, SIDE)
    tile, side = tl.program_id(0) // (sides * sides), tl.program_id(0) % (sides * sides)
    lag, group = tile // groups, tile % groups
    i0, j0 = side // sides * SIDE, side % sides * SIDE
    if j0 <= i0:
        i, j, k = i0 + tl.arange(0, SIDE), j0 + tl.arange(0, SIDE), tl.arange(0, DEPTH)
        own = taps + group.to(tl.int64) * stride_g
        at_i, at_j = i.to(tl.int64)[:, None] * stride_c, j.to(tl.int64)[:, None] * stride_c
        x = tl.zeros((SIDE, SIDE), out.dtype.element_ty)
        y = tl.zeros((SIDE, SIDE), out.dtype.element_ty)
        for pair in range(tl.load(starts + lag), tl.load(starts + lag + 1)):
            first = own + tl.load(pairs + 2 * pair).to(tl.int64) * stride_t
            second = own + tl.load(pairs + 2 * pair + 1).to(tl.int64) * stride_t
            for k0 in range(0, b, DEPTH):
                at = (k0 + k).to(tl.int64)[None, :] * stride_b
                rows, columns = (i < c)[:, None] & (k0 + k < b)[None, :], (j < c)[:, None] & (k0 + k < b)[None, :]
                first_i = tl.load(first + at_i + at, mask=rows, other=0)
                second_j = tl.load(second + at_j + at, mask=columns, other=0)
                x = tl.dot(first_i, tl.trans(second_j), x, input_precision="ieee", out_dtype=out.dtype.element_ty)
                second_i = tl.load(second + at_i + at, mask=rows, other=0)
                first_j = tl.load(first + at_j + at, mask=columns, other=0)
                y = tl.dot(second_i, tl.trans(first_j), y, input_precision="ieee", out_dtype=out.dtype.element_ty)
        here = out + (lag * groups + group).to(tl.int64) * c * c
        row, column = i[:, None], j[None, :]
        tl.store(here + row * c + column, x + y, mask=(row >= column) & (row < c))
        tl.store(here + column * c + row, x - y, mask=(row > column) & (row < c))


@triton.jit
def gram_kernel(
    out, lags, cosines, sines, groups, f, h, c, FREQUENCIES: tl.constexpr, ELEMENTS: tl.constexpr
):  # fmt: skip
    """Tile of out (groups, f, c c) from lags (h, groups, c c) and tables (f, h)."""
    elements = c * c
    wide, high = tl.cdiv(elements, ELEMENTS), tl.cdiv(f, FREQUENCIES)
    pid = tl.program_id(0)
    group = (pid // (wide * high)).to(tl.int64)
    row = (pid // wide % high) * FREQUENCIES + tl.arange(0, FREQUENCIES)
    column = pid % wide * ELEMENTS + tl.arange(0, ELEMENTS)
    below = (column // c >= column % c)[None, :]
    total = tl.zeros((FREQUENCIES, ELEMENTS), out.dtype.element_ty)
    for d in range(h):
        lag = tl.load(lags + (d * groups + group) * elements + column, mask=column < elements, other=0)
        at = row.to(tl.int64) * h + d
        cosine, sine = tl.load(cosines + at, mask=row < f, other=0), tl.load(sines + at, mask=row < f, other=0)
        total += tl.where(below, cosine[:, None], sine[:, None]) * lag[None, :]
    target = out + (group * f + row)[:, None] * elements + column[None, :]
    tl.store(target, total, mask=(row < f)[:, None] & (column < elements)[None, :])


def gram(taps: Tensor, offsets: Tensor, frequencies: Tensor, grid: Sequence[int]) -> Tensor:
    """(g, f, c, c) packed. Waits for the GPU once if the offsets are there; not if they are on the CPU."""
    g, _, a, b = taps.shape
    if not _cpu.autocorrelation_is_cheaper(taps, offsets, len(frequencies)):
        return _reference.packed_gram(conv_symbols.symbols(taps, offsets, frequencies, grid))
    out = taps.new_empty(g, len(frequencies), min(a, b), min(a, b))
    if out.numel():
        run_on(taps, lambda: launches(out, taps, offsets, frequencies, grid))
    return out


def launches(
    out: Tensor, taps: Tensor, offsets: Tensor, frequencies: Tensor, grid: Sequence[int]
) -> list[Launch]:  # fmt: skip
    """The launches that fill `out`, (g, f, c, c) contiguous."""
    if taps.shape[2] > taps.shape[3]:  # A^H A = sum T_j^T T_l e^{-i(o_j - o_l)}
        return launches(out, taps.transpose(2, 3), -offsets, frequencies, grid)
    g, t, c, b = taps.shape
    pairs, starts, differences, own = _table(offsets.cpu(), grid)
    there = functools.partial(Tensor.to, device=taps.device, non_blocking=True)
    h, f = len(differences), len(frequencies)
    lags = taps.new_empty(h, g, c, c)
    side = triton.cdiv(c, _configs.LAGS_SIDE)
    autocorrelation = Launch(
        lags_kernel,
        (h * g * side * side,),
        {
            "out": lags, "taps": taps, "pairs": there(pairs), "starts": there(starts), "groups": g,
            "t": t, "c": c, "b": b, "stride_g": taps.stride(0), "stride_t": taps.stride(1),
            "stride_c": taps.stride(2), "stride_b": taps.stride(3),
            "SIDE": _configs.LAGS_SIDE, "DEPTH": _configs.LAGS_DEPTH,
        },
        _configs.lags_warps(taps.dtype),
    )  # fmt: skip
    cosines, sines = _taps.phase_tables(differences, frequencies, grid, taps.dtype)
    cosines = torch.where(there(own), cosines / 2, cosines)
    tile = _configs.gram_tile(c * c, taps.dtype)
    sums = Launch(
        gram_kernel,
        (g * triton.cdiv(f, tile.frequencies) * triton.cdiv(c * c, tile.elements),),
        {
            "out": out, "lags": lags, "cosines": cosines, "sines": sines, "groups": g, "f": f, "h": h, "c": c,
            "FREQUENCIES": tile.frequencies, "ELEMENTS": tile.elements,
        },
        tile.warps,
    )  # fmt: skip
    return [autocorrelation, sums]


def _table(offsets: Tensor, grid: Sequence[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ordered pairs of taps by lag (p, 2), where each lag starts in them (h + 1), the lags, and which are their own."""
    index, second, differences = _lags.pairs_of(offsets, grid)
    j, other = torch.nonzero(~second, as_tuple=True)
    lag = index[j, other]
    order = torch.argsort(lag, stable=True)
    starts = torch.searchsorted(lag[order], torch.arange(len(differences) + 1))
    return torch.stack([j, other], dim=1)[order].int(), starts.int(), differences, _lags.own(differences, grid)
