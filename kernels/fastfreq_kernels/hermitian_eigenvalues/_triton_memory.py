"""Hermitian matrices too large for registers, on a GPU: tridiagonal form, each matrix in memory, which is mostly L2.

`spread_kernel` writes R and J of H = R + i J, over the largest element, to memory: both triangles, so that a product
H v needs sums down columns only, and no two threads the same number:
    H v  =  R^T a + J^T b  +  i (R^T b - J^T a)        v = a + i b, R symmetric, J antisymmetric
`reduction_kernel` takes one column a step. From v and y = H v of the step before it makes w, which leaves the update
H - v w^H - w v^H pending; takes row k with that update, which gives the next v; then goes once down its columns below
row k, subtracts the update, writes them back and adds up y = H v. Threads own columns, so nothing waits inside that
pass. Its columns come in tiles, and `programs` of them share a matrix, tile by tile in turn: every program makes v and
w for itself, and all wait for each other once a step. So the values are the same bits however many share. They wait
inside the kernel if all are on the GPU at once (a cooperative launch); else a launch is a step.

Rows are padded with zeros to 16 numbers. Entries left of column k are finished and read by nobody.

Per matrix of side c, b bytes a number:
    L2           4 c^3 b / 3     each of two numbers of an entry that is left read and written once a step
    arithmetic   4 c^3 FMA
    latency      c steps of three reductions and three barriers, one of them between programs
In float32 that is 3 FMA to 4 bytes: L2 bounds large sides, latency small ones. On NVIDIA H200 in float64: 700 matrices
of side 256 in 40 ms, 90 of 512 in 58 ms, one of 1,024 in 9 ms by 64 programs. `_triton_held` moves less, where a tile
says so.

Source: Householder 1958; the update fused with the next product as in Dongarra, Sorensen, Hammarling 1989.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastfreq_kernels import _configs
from fastfreq_kernels._device import INTERPRETED
from fastfreq_kernels._launch import Launch

from . import _triton_held
from ._triton_steps import normalise, reflector, store_reflector, wait_for_all


@triton.jit
def spread_kernel(matrices, packed, scales, c, stride, TILE: tl.constexpr):
    """R and J over their scale from a packed matrix: one tile on or below the diagonal, and its mirror image."""
    tiles = tl.cdiv(c, TILE)
    n, tile = (tl.program_id(0) // (tiles * tiles)).to(tl.int64), tl.program_id(0) % (tiles * tiles)
    if tile % tiles <= tile // tiles:
        i, j = tile // tiles * TILE + tl.arange(0, TILE), tile % tiles * TILE + tl.arange(0, TILE)
        inside, mirrored = (i < c)[:, None] & (j < c)[None, :], (j < c)[:, None] & (i < c)[None, :]
        here, there = packed + n * c * c + i[:, None] * c + j[None, :], packed + n * c * c + j[:, None] * c + i[None, :]
        real, imaginary = tl.load(here, mask=inside, other=0), tl.trans(tl.load(there, mask=mirrored, other=0))
        scale = tl.load(scales + n)
        scale = tl.where(scale == 0, 1, scale)
        real, imaginary = real / scale, tl.where(i[:, None] > j[None, :], imaginary, 0) / scale
        R = matrices + n * 2 * c * stride
        J = R + c * stride
        below = inside & (i[:, None] >= j[None, :])
        tl.store(R + i[:, None] * stride + j[None, :], real, mask=below)
        tl.store(J + i[:, None] * stride + j[None, :], imaginary, mask=below)
        mirrored = mirrored & (i[None, :] > j[:, None])
        tl.store(R + j[:, None] * stride + i[None, :], tl.trans(real), mask=mirrored)
        tl.store(J + j[:, None] * stride + i[None, :], -tl.trans(imaginary), mask=mirrored)


@triton.jit(do_not_specialize=["begin", "end"])
def reduction_kernel(
    diagonal, squares, scales, phases, reflectors, matrices, products, vectors, arrived, c, stride, programs,
    begin, end, SIDE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, NEGLIGIBLE: tl.constexpr,
    KEEP: tl.constexpr, WAIT: tl.constexpr,
):  # fmt: skip
    """Steps `begin` to `end` of one matrix, which is overwritten; after the last T over its Frobenius norm."""
    n, own = (tl.program_id(0) // programs).to(tl.int64), tl.program_id(0) % programs
    size = c * stride
    matrix, d, e = matrices + n * 2 * size, diagonal + n * c, squares + n * c
    index = tl.arange(0, SIDE)
    inside = index < c
    vectors += tl.program_id(0).to(tl.int64) * (6 * SIDE)  # of this program: v of two steps, w
    products += n * (4 * SIDE)  # of all that share the matrix: y of two steps
    pending = vectors + 4 * SIDE
    column, low = tl.arange(0, COLUMNS), tl.arange(0, ROWS)
    tiles = tl.cdiv(c, COLUMNS)

    for k in range(begin, end):
        new, old = k % 2 * (2 * SIDE), (1 - k % 2) * (2 * SIDE)
        va, vb = tl.load(vectors + old + index), tl.load(vectors + old + SIDE + index)
        known = inside & (index >= k)
        ya = tl.load(products + old + index, mask=known, other=0, cache_modifier=".cg")
        yb = tl.load(products + old + SIDE + index, mask=known, other=0, cache_modifier=".cg")
        length, product = tl.sum(va * va + vb * vb), tl.sum(va * ya + vb * yb)
        reflected = length > 0  # pyright: ignore[reportOperatorIssue]
        twice = tl.where(reflected, 2 / tl.where(reflected, length, 1), 0)
        half = product * twice * twice * 0.5
        wa, wb = ya * twice - half * va, yb * twice - half * vb
        tl.store(pending + index, wa)
        tl.store(pending + SIDE + index, wb)
        real = tl.load(matrix + k * stride + index, mask=known, other=0, cache_modifier=".cg")
        imaginary = tl.load(matrix + size + k * stride + index, mask=known, other=0, cache_modifier=".cg")
        tl.debug_barrier()

        va_k, vb_k = tl.load(vectors + old + k), tl.load(vectors + old + SIDE + k)
        wa_k, wb_k = tl.load(pending + k), tl.load(pending + SIDE + k)
        last = tl.load(matrix + k * stride + k, cache_modifier=".cg") - 2 * (va_k * wa_k + vb_k * wb_k)
        later = inside & (index > k)
        a = tl.where(later, real - (va_k * wa + vb_k * wb + wa_k * va + wb_k * vb), 0)
        b = tl.where(later, vb_k * wa - va_k * wb + wb_k * va - wa_k * vb - imaginary, 0)
        head_a, head_b = tl.sum(tl.where(index == k + 1, a, 0)), tl.sum(tl.where(index == k + 1, b, 0))
        a, b, phase_a, phase_b, square = reflector(a, b, head_a, head_b, index, k, c, NEGLIGIBLE)
        tl.store(vectors + new + index, a)
        tl.store(vectors + new + SIDE + index, b)
        if own == 0:
            tl.store(d + k, last)
            tl.store(e + k, square)
            if KEEP:
                store_reflector(phases, reflectors, a, b, phase_a, phase_b, n, k, c, index, inside)
        tl.debug_barrier()

        first = (k + 1) // COLUMNS
        for tile in range(first + (own - first % programs + programs) % programs, tiles, programs):
            j = tile * COLUMNS + column
            va_j, vb_j = tl.load(vectors + old + j)[None, :], tl.load(vectors + old + SIDE + j)[None, :]
            wa_j, wb_j = tl.load(pending + j)[None, :], tl.load(pending + SIDE + j)[None, :]
            ya_j = tl.zeros((ROWS, COLUMNS), matrix.dtype.element_ty)
            yb_j = tl.zeros((ROWS, COLUMNS), matrix.dtype.element_ty)
            for top in range((k + 1) // ROWS * ROWS, c, ROWS):
                i = top + low
                at = matrix + (i * stride)[:, None] + j[None, :]
                here = ((i > k) & (i < c))[:, None] & (j < stride)[None, :]
                R, J = tl.load(at, mask=here, other=0), tl.load(at + size, mask=here, other=0)
                va_i, vb_i = tl.load(vectors + old + i)[:, None], tl.load(vectors + old + SIDE + i)[:, None]
                wa_i, wb_i = tl.load(pending + i)[:, None], tl.load(pending + SIDE + i)[:, None]
                R -= va_i * wa_j + vb_i * wb_j + wa_i * va_j + wb_i * vb_j
                J -= vb_i * wa_j - va_i * wb_j + wb_i * va_j - wa_i * vb_j
                tl.store(at, R, mask=here)
                tl.store(at + size, J, mask=here)
                a_i, b_i = tl.load(vectors + new + i)[:, None], tl.load(vectors + new + SIDE + i)[:, None]
                ya_j += R * a_i + J * b_i
                yb_j += R * b_i - J * a_i
            tl.store(products + new + j, tl.sum(ya_j, axis=0))
            tl.store(products + new + SIDE + j, tl.sum(yb_j, axis=0))
        tl.debug_barrier()
        if WAIT:
            wait_for_all(arrived + n, (k + 1) * programs)

    if (own == 0) & (end == c):
        normalise(d, e, scales + n, index, inside)


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


def launches(
    matrices: Tensor, *, keep: bool, programs: int | None = None, wait: bool = True,
    tile: _configs.ReductionTile | None = None,
) -> tuple[Tridiagonal, list[Launch]]:  # fmt: skip
    """The launches that reduce packed matrices (n, c, c), and what they fill.

    Args:
        matrices: packed.
        keep: also what leads back.
        programs: that share a matrix; None for as many as the GPU has room for.
        wait: for each other within one launch, which then starts only if all of them fit; else each step is a launch.
        tile: of the programs; None for the one of `_configs.py`.
    """
    n, c, _ = matrices.shape
    tile = _configs.reduction_tile(c, matrices.dtype) if tile is None else tile
    programs = sharing(matrices, tile) if programs is None else programs
    largest = torch.linalg.vector_norm(matrices, ord=torch.inf, dim=(1, 2))
    out = Tridiagonal(
        diagonal=matrices.new_empty(n, c),
        squares=matrices.new_empty(n, c),
        scales=torch.where(torch.isfinite(largest), largest, torch.nan),
        phases=matrices.new_empty((n, c, 2) if keep else (0,)),
        reflectors=matrices.new_empty((n, c, 2, c) if keep else (0,)),
    )
    return out, [*_reduction(out, matrices, tile, programs, keep, wait)]


def _reduction(
    out: Tridiagonal, packed: Tensor, tile: _configs.ReductionTile, programs: int, keep: bool, wait: bool
) -> Iterator[Launch]:
    """The launches that unpack and reduce; with updates held back where the tile says of how many steps."""
    n, c, _ = packed.shape
    stride, held, side = -(-c // 16) * 16, tile.held, tile.side
    work = packed.new_zeros((n, c, stride) if held else (n, 2, c, stride))
    tiles = triton.cdiv(c, _configs.SPREAD_TILE)
    yield Launch(
        _triton_held.fold_kernel if held else spread_kernel,
        (n * tiles * tiles,),
        {
            "matrices": work, "packed": packed, "scales": out.scales, "c": c, "stride": stride,
            "TILE": _configs.SPREAD_TILE,
        },
        4,
    )  # fmt: skip
    partial = 2 + 2 * side // tile.columns  # of the columns, and of the rows in each tile
    arguments = {
        **out._asdict(), "matrices": work, "products": packed.new_zeros(n, (2 * partial if held else 4) * side),
        "vectors": packed.new_zeros(n * programs, (4 * held + 2 if held else 6) * side),
        "arrived": torch.zeros(n, dtype=torch.int32, device=packed.device), "c": c, "stride": stride,
        "programs": programs, "SIDE": side, "ROWS": tile.rows, "COLUMNS": tile.columns, "KEEP": keep,
        "NEGLIGIBLE": (1e-3 * torch.finfo(packed.dtype).eps) ** 2, "WAIT": wait and programs > 1,
    }  # fmt: skip
    if held:
        arguments |= {"HELD": held, "WIDE": min(tile.columns, 512 // packed.itemsize)}
    for begin, end in [(0, c)] if wait or programs == 1 else [(k, k + 1) for k in range(c)]:
        yield Launch(
            _triton_held.held_kernel if held else reduction_kernel,
            (n * programs,),
            {**arguments, "begin": begin, "end": end},
            tile.warps,
            tile.together,
            cooperative=wait and programs > 1,
        )


def sharing(matrices: Tensor, tile: _configs.ReductionTile) -> int:
    """How many programs share a matrix: as many as there are tiles of columns and multiprocessors for all of them."""
    if not matrices.is_cuda or INTERPRETED or torch.version.hip is not None:
        return 1
    room = torch.cuda.get_device_properties(matrices.device).multi_processor_count
    return max(1, min(triton.cdiv(matrices.shape[-1], tile.columns), room // len(matrices)))
