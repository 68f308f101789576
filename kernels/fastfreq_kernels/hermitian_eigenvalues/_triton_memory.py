"""Hermitian matrices too large for registers, on a GPU: tridiagonal form by one program per matrix, which stays in L2.

`spread_kernel` writes M = R + J (see `_triton`), over its largest element, to memory. A step of `reduction_kernel`
    takes row and column k, which with the update that the last step left pending give the reflector v = a + i b;
    goes once over the blocks of rows below, all columns at a time: subtracts the pending update, writes the block
    back, makes its rows of M q and M p (sums across the block) and adds its part of M^T p and M^T q (sums down it);
    and makes w from those four vectors: the update that is now pending.
Vectors go through 12 rows of scratch memory, with three barriers a step: what one thread wrote others read. Warps lie
side by side along the columns, so that sums down a block need none. Entries left of column k are finished; rows are
padded with zeros to 16, blocks start at multiples of their height and of 16 columns, so that loads stay wide, and what
they do to finished entries is read by nobody.

Per matrix of side c, b bytes a number:
    L2           2 c^3 b / 3     each entry that is left read and written once a step
    arithmetic   8 c^3 / 3 FMA
    latency      c steps of three reductions, three barriers, and two reductions for each block of rows
In float32 that is 4 FMA to 8 bytes: L2 bounds large sides, latency small ones. Speed not yet measured on any GPU.

Source: Householder 1958; the update fused with the next product as in Dongarra, Sorensen, Hammarling 1989.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastfreq_kernels import _configs
from fastfreq_kernels._launch import Launch


@triton.jit
def spread_kernel(matrices, packed, scales, c, stride, TILE: tl.constexpr):
    """M over its scale from a packed matrix: one tile on or below the diagonal, and its mirror image."""
    tiles = tl.cdiv(c, TILE)
    n, tile = (tl.program_id(0) // (tiles * tiles)).to(tl.int64), tl.program_id(0) % (tiles * tiles)
    if tile % tiles <= tile // tiles:
        i, j = tile // tiles * TILE + tl.arange(0, TILE), tile % tiles * TILE + tl.arange(0, TILE)
        inside, mirrored = (i < c)[:, None] & (j < c)[None, :], (j < c)[:, None] & (i < c)[None, :]
        here, there = packed + n * c * c + i[:, None] * c + j[None, :], packed + n * c * c + j[:, None] * c + i[None, :]
        real, imaginary = tl.load(here, mask=inside, other=0), tl.trans(tl.load(there, mask=mirrored, other=0))
        imaginary = tl.where(i[:, None] > j[None, :], imaginary, 0)
        scale = tl.load(scales + n)
        scale = tl.where(scale == 0, 1, scale)
        M = matrices + n * c * stride
        tl.store(
            M + i[:, None] * stride + j[None, :], (real + imaginary) / scale, mask=inside & (i[:, None] >= j[None, :])
        )
        mirrored = mirrored & (i[None, :] > j[:, None])
        tl.store(M + j[:, None] * stride + i[None, :], tl.trans((real - imaginary) / scale), mask=mirrored)


@triton.jit
def reduction_kernel(
    diagonal, squares, scales, phases, reflectors, matrices, scratch, c, stride,
    SIDE: tl.constexpr, ROWS: tl.constexpr, NEGLIGIBLE: tl.constexpr, KEEP: tl.constexpr,
):  # fmt: skip
    """T over its Frobenius norm of one matrix M, which is overwritten; with KEEP what leads back to M, too."""
    n = tl.program_id(0).to(tl.int64)
    M, d, e = matrices + n * c * stride, diagonal + n * c, squares + n * c
    index = tl.arange(0, SIDE)
    inside = index < c
    scratch += n * (12 * SIDE)
    sums = scratch + 8 * SIDE
    for i in range(8):
        tl.store(scratch + i * SIDE + index, tl.zeros((SIDE,), M.dtype.element_ty))
    tl.debug_barrier()

    for k in range(0, c):
        new, old = scratch + k % 2 * (4 * SIDE), scratch + (1 - k % 2) * (4 * SIDE)
        later = inside & (index > k)
        row = tl.load(M + k * stride + index, mask=later, other=0)
        column = tl.load(M + index * stride + k, mask=later, other=0)
        va, vb = tl.load(old + index), tl.load(old + SIDE + index)
        wa, wb = tl.load(old + 2 * SIDE + index), tl.load(old + 3 * SIDE + index)
        va_k, vb_k = tl.load(old + k), tl.load(old + SIDE + k)
        wa_k, wb_k = tl.load(old + 2 * SIDE + k), tl.load(old + 3 * SIDE + k)
        tl.store(d + k, tl.load(M + k * stride + k) - 2 * (va_k * wa_k + vb_k * wb_k))
        row -= va_k * (wa - wb) + vb_k * (wa + wb) + wa_k * (va - vb) + wb_k * (va + vb)
        column -= va * (wa_k - wb_k) + vb * (wa_k + wb_k) + wa * (va_k - vb_k) + wb * (va_k + vb_k)
        a = tl.where(later, (column + row) * 0.5, 0)
        b = tl.where(later, (column - row) * 0.5, 0)
        square = tl.sum(a * a + b * b)
        square = tl.where(square < NEGLIGIBLE, 0, square)  # NaN stays
        tl.store(e + k, square)
        active = (square > 0) & (k < c - 2)
        head_a, head_b = tl.sum(tl.where(index == k + 1, a, 0)), tl.sum(tl.where(index == k + 1, b, 0))
        norm, head = tl.sqrt(square), tl.sqrt(head_a * head_a + head_b * head_b)
        phase_a, phase_b = head_a / tl.where(head > 0, head, 1), head_b / tl.where(head > 0, head, 1)
        phase_a = tl.where(head > 0, phase_a, 1)
        unit = tl.where(active, 1 / tl.sqrt(tl.where(active, square + norm * head, 1)), 0)
        a = (a + tl.where(index == k + 1, phase_a * norm, 0)) * unit
        b = (b + tl.where(index == k + 1, phase_b * norm, 0)) * unit
        tl.store(new + index, a)
        tl.store(new + SIDE + index, b)
        if KEEP:
            phase, reflector = phases + 2 * (n * c + k), reflectors + 2 * (n * c + k) * c + index
            tl.store(phase, tl.where(active, -phase_a, phase_a))
            tl.store(phase + 1, tl.where(active, -phase_b, phase_b))
            tl.store(reflector, a, mask=inside)
            tl.store(reflector + c, b, mask=inside)
        tl.debug_barrier()

        # again: kept in registers across the reductions they would spill
        va, vb = tl.load(old + index), tl.load(old + SIDE + index)
        wa, wb = tl.load(old + 2 * SIDE + index), tl.load(old + 3 * SIDE + index)
        p, q = a + b, a - b
        down_p, down_q = tl.zeros((SIDE,), M.dtype.element_ty), tl.zeros((SIDE,), M.dtype.element_ty)
        right = (index < stride) & (index >= (k + 1) // 16 * 16)
        for first in range((k + 1) // ROWS * ROWS, c, ROWS):
            r = first + tl.arange(0, ROWS)
            here = right[None, :] & (r < c)[:, None]
            at = M + (r * stride)[:, None] + index[None, :]
            tile = tl.load(at, mask=here, other=0)
            x, y = tl.load(old + r)[:, None], tl.load(old + SIDE + r)[:, None]
            z, t = tl.load(old + 2 * SIDE + r)[:, None], tl.load(old + 3 * SIDE + r)[:, None]
            tile -= x * (wa - wb)[None, :] + y * (wa + wb)[None, :] + z * (va - vb)[None, :] + t * (va + vb)[None, :]
            tl.store(at, tile, mask=here)
            x, y = tl.load(new + r)[:, None], tl.load(new + SIDE + r)[:, None]
            down_p += tl.sum(tile * (x + y), axis=0)
            down_q += tl.sum(tile * (x - y), axis=0)
            tl.store(sums + r, tl.sum(tile * q[None, :], axis=1))
            tl.store(sums + SIDE + r, tl.sum(tile * p[None, :], axis=1))
        tl.store(sums + 2 * SIDE + index, down_p)
        tl.store(sums + 3 * SIDE + index, down_q)
        tl.debug_barrier()

        wa = tl.load(sums + index, mask=later, other=0) + tl.load(sums + 2 * SIDE + index, mask=later, other=0)
        wb = tl.load(sums + SIDE + index, mask=later, other=0) - tl.load(sums + 3 * SIDE + index, mask=later, other=0)
        length, product = tl.sum(a * a + b * b), tl.sum(a * wa + b * wb)
        inverse = tl.where(active, 1 / tl.where(active, length, 1), 0)  # 1/2 but for rounding
        half = product * inverse * inverse
        tl.store(new + 2 * SIDE + index, wa * inverse - half * a)
        tl.store(new + 3 * SIDE + index, wb * inverse - half * b)
        tl.debug_barrier()

    all_d, all_e = tl.load(d + index, mask=inside, other=0), tl.load(e + index, mask=inside, other=0)
    norm = tl.sqrt(tl.sum(all_d * all_d + 2 * all_e))
    norm = tl.where(norm == 0, 1, norm)
    tl.debug_barrier()
    tl.store(d + index, all_d / norm, mask=inside)
    tl.store(e + index, all_e / norm / norm, mask=inside)
    tl.store(scales + n, tl.load(scales + n) * norm)


class Tridiagonal(NamedTuple):
    """H = scale Q T Q^H of n matrices, once the launches ran.

    Attributes:
        diagonal: (n, c) of T.
        squares: (n, c) of the absolute values beside the diagonal, and a last 0.
        scales: (n,), NaN where a matrix is not finite.
        phases: (n, c, 2) of T[k + 1, k]; empty if nobody asked.
        reflectors: (n, c, 2, c) real and imaginary part of each v; Q is the product of I - 2 v v^H / |v|^2 in order.
    """

    diagonal: Tensor
    squares: Tensor
    scales: Tensor
    phases: Tensor
    reflectors: Tensor


def launches(matrices: Tensor, *, keep: bool) -> tuple[Tridiagonal, list[Launch]]:
    """The launches that reduce packed matrices (n, c, c), and what they fill; with `keep` what leads back, too."""
    n, c, _ = matrices.shape
    tile = _configs.reduction_tile(c, matrices.dtype)
    largest = torch.linalg.vector_norm(matrices, ord=torch.inf, dim=(1, 2))
    out = Tridiagonal(
        diagonal=matrices.new_empty(n, c),
        squares=matrices.new_empty(n, c),
        scales=torch.where(torch.isfinite(largest), largest, torch.nan),
        phases=matrices.new_empty((n, c, 2) if keep else (0,)),
        reflectors=matrices.new_empty((n, c, 2, c) if keep else (0,)),
    )
    stride = -(-c // 16) * 16
    work = matrices.new_zeros(n, c, stride)
    tiles = triton.cdiv(c, _configs.SPREAD_TILE)
    spread = Launch(
        spread_kernel,
        (n * tiles * tiles,),
        {
            "matrices": work,
            "packed": matrices,
            "scales": out.scales,
            "c": c,
            "stride": stride,
            "TILE": _configs.SPREAD_TILE,
        },
        4,
    )
    reduction = Launch(
        reduction_kernel,
        (n,),
        {
            **out._asdict(), "matrices": work, "scratch": matrices.new_empty(n, 12 * tile.side), "c": c,
            "stride": stride, "SIDE": tile.side, "ROWS": tile.rows, "KEEP": keep,
            "NEGLIGIBLE": (1e-3 * torch.finfo(matrices.dtype).eps) ** 2,
        },
        tile.warps,
    )  # fmt: skip
    return out, [spread, reduction]
