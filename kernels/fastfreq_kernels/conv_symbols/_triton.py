"""Symbols of a convolution on a GPU: each is written once, and taps are read once for a block of frequencies.

A_g(k) = sum_j T_gj (cos + i sin)(2 pi <k, o_j / grid>): with the cosines and sines of all frequencies and taps in two
small tables, a program keeps a tile of frequencies x elements of the matrices and adds the taps one by one.

Per element and frequency, b bytes per real number, t taps, F frequencies in a tile:
    written      2 b
    read         t b / F      taps, from L2
    arithmetic   2 t          FMA
A 3 x 3 kernel in float32 has 4.5 flops to a byte: bandwidth bounds it on an H200 (14 of them), up to 5 x 5 taps.
Speed: kernels/README.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastfreq_kernels import _configs, _taps
from fastfreq_kernels._launch import Launch, run_on


@triton.jit
def symbols_kernel(
    out, taps, cosines, sines, f, t, elements, FREQUENCIES: tl.constexpr, ELEMENTS: tl.constexpr
):  # fmt: skip
    """Tile of out (g, f, elements, 2) from taps (g, t, elements) and tables (f, t)."""
    wide, high = tl.cdiv(elements, ELEMENTS), tl.cdiv(f, FREQUENCIES)
    pid = tl.program_id(0)
    group = (pid // (wide * high)).to(tl.int64)
    row = (pid // wide % high) * FREQUENCIES + tl.arange(0, FREQUENCIES)
    start = (pid % wide).to(tl.int64) * ELEMENTS
    column = start + tl.arange(0, ELEMENTS)
    real = tl.zeros((FREQUENCIES, ELEMENTS), taps.dtype.element_ty)
    imaginary = tl.zeros((FREQUENCIES, ELEMENTS), taps.dtype.element_ty)
    for j in range(t):
        tap = tl.load(taps + (group * t + j) * elements + column, mask=column < elements, other=0)
        at = row.to(tl.int64) * t + j
        cosine, sine = tl.load(cosines + at, mask=row < f, other=0), tl.load(sines + at, mask=row < f, other=0)
        real += cosine[:, None] * tap[None, :]
        imaginary += sine[:, None] * tap[None, :]
    part = 2 * start + tl.arange(0, 2 * ELEMENTS)
    target = out + (group * f + row)[:, None] * elements * 2 + part[None, :]
    inside = (row < f)[:, None] & (part < 2 * elements)[None, :]
    tl.store(target, tl.interleave(real, imaginary), mask=inside)


def symbols(taps: Tensor, offsets: Tensor, frequencies: Tensor, grid: Sequence[int]) -> Tensor:
    """(g, f, a, b) complex; nothing waits for the GPU."""
    g, _, a, b = taps.shape
    out = torch.empty((g, len(frequencies), a, b, 2), dtype=taps.dtype, device=taps.device)
    if out.numel():
        run_on(taps, lambda: [launch(out, taps, offsets, frequencies, grid)])
    return torch.view_as_complex(out)


def launch(out: Tensor, taps: Tensor, offsets: Tensor, frequencies: Tensor, grid: Sequence[int]) -> Launch:
    """The launch that fills `out`, (g, f, a, b, 2) contiguous."""
    g, t, a, b = taps.shape
    f, elements = len(frequencies), a * b
    cosines, sines = _taps.phase_tables(offsets, frequencies, grid, taps.dtype)
    tile = _configs.symbols_tile(elements, taps.dtype)
    return Launch(
        symbols_kernel,
        (g * triton.cdiv(f, tile.frequencies) * triton.cdiv(elements, tile.elements),),
        {
            "out": out, "taps": taps.contiguous(), "cosines": cosines, "sines": sines, "f": f, "t": t,
            "elements": elements, "FREQUENCIES": tile.frequencies, "ELEMENTS": tile.elements,
        },
        tile.warps,
    )  # fmt: skip
