"""Eigenvalues of packed Hermitian matrices on a GPU: Householder tridiagonalisation, then bisection.

Small matrices are reduced in registers, as told here, larger ones in memory (see `_triton_memory`).

`tridiagonal_kernel` keeps one matrix H = R + i J in the registers of one program as the real matrix M = R + J: R is
symmetric and J antisymmetric, so M holds both. With v = a + i b, p = a + b and q = a - b (vectors, ^T transposes):
    H v = (M q + M^T p) / 2 + i (M p - M^T q) / 2
    H - v w^H - w v^H  is  M - a (w_a - w_b)^T - b (w_a + w_b)^T - w_a q^T - w_b p^T
eight multiply-adds per element and no distinction between the triangles, from half the registers of R and J.
A step reflects the column x below the diagonal: v = (x + phase |x| e_1) / sqrt(|x| (|x| + |x_1|)) and
w = t H v - (t^2 v^H H v / 2) v with t = 2 / |v|^2, which is 1 but for rounding.

A launch stops when half of the tile is done and leaves the rest to the next, whose tile is half as wide: all columns
in one tile would cost 1.75 times the arithmetic, and small tiles leave room for more programs. `bisection_kernel` has
one lane for each eigenvalue and counts the negative pivots of T - x (Sturm). Matrices are divided by their Frobenius
norm first, so that all eigenvalues lie in [-1, 1] and squares do not overflow; one that is not finite has norm NaN,
hence eigenvalues NaN.

Per matrix of side c, a power of two, in elements of b bytes:
    read         c^2 b           and c^2 b / 3 written and read again between launches
    arithmetic   4.6 c^3 FMA     eight per element of the tile and step, 4/7 of them left by smaller tiles
    bisection    30 c^2 steps of a division and two additions (float64: 54)
At c = 64 in float32 this is 1.2 MFMA to 16 KB: arithmetic bounds it, and before that the latency of nine reductions
and eight changes of layout in each of c steps. Speed: kernels/README.md.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastfreq_kernels import _configs
from fastfreq_kernels._launch import Launch, run_on

from . import _cpu, _triton_memory


@triton.jit
def tridiagonal_kernel(
    diagonal, squares, scales, left, matrices, c, side,
    SIDE: tl.constexpr, STOP: tl.constexpr, FIRST: tl.constexpr, NEGLIGIBLE: tl.constexpr,
):  # fmt: skip
    """Reduce the columns before STOP of one matrix that lies in the lower right of a tile, and write the rest."""
    n = tl.program_id(0).to(tl.int64)
    index = tl.arange(0, SIDE)
    row, column = index[:, None], index[None, :]
    start = SIDE - side
    inside = (row >= start) & (column >= start)
    y, x = row - start, column - start
    if FIRST:  # M is still packed
        matrix = matrices + n * side * side
        own = tl.load(matrix + y * side + x, mask=inside, other=0)
        twin = tl.trans(own)
        M = tl.where(y > x, own + twin, tl.where(y < x, twin - own, own))
        largest = tl.max(tl.abs(own))
        M = M / tl.where(largest > 0, largest, 1)  # pyright: ignore[reportOperatorIssue]
        norm = tl.sqrt(tl.sum(M * M))
        M = M / tl.where(norm > 0, norm, 1)
        tl.store(scales + n, largest * norm)
    else:
        M = tl.load(matrices + n * side * side + y * side + x, mask=inside, other=0)

    for k in range(start, STOP):
        across, down = tl.sum(tl.where(column == k, M, 0), axis=1), tl.sum(tl.where(row == k, M, 0), axis=0)
        a = tl.where(index > k, (across + down) * 0.5, 0)
        b = tl.where(index > k, (across - down) * 0.5, 0)  # pyright: ignore[reportOperatorIssue]
        square = tl.sum(a * a + b * b)
        tl.store(squares + n * c + c - SIDE + k, square)
        active = (square >= NEGLIGIBLE) & (k < SIDE - 2)
        head_a, head_b = tl.sum(tl.where(index == k + 1, a, 0)), tl.sum(tl.where(index == k + 1, b, 0))
        norm, head = tl.sqrt(square), tl.sqrt(head_a * head_a + head_b * head_b)
        ratio = norm / tl.where(head > 0, head, 1)
        unit = tl.where(active, 1 / tl.sqrt(tl.where(active, square + norm * head, 1)), 0)
        a = (a + tl.where(index == k + 1, tl.where(head > 0, head_a * ratio, norm), 0)) * unit
        b = (b + tl.where(index == k + 1, head_b * ratio, 0)) * unit

        p, q = a + b, a - b
        across, down = tl.sum(M * q[None, :], axis=1), tl.sum(M * p[:, None], axis=0)
        w_a = tl.where(index > k, across + down, 0)
        across, down = tl.sum(M * p[None, :], axis=1), tl.sum(M * q[:, None], axis=0)
        w_b = tl.where(index > k, across - down, 0)  # pyright: ignore[reportOperatorIssue]
        inverse = 1 / tl.where(active, tl.sum(a * a + b * b), 1)  # 1/2 but for rounding
        w_a, w_b = w_a * inverse, w_b * inverse
        half = tl.sum(a * w_a + b * w_b) * inverse
        w_a, w_b = w_a - half * a, w_b - half * b
        M = M - a[:, None] * (w_a - w_b)[None, :] - b[:, None] * (w_a + w_b)[None, :]
        M = M - w_a[:, None] * q[None, :] - w_b[:, None] * p[None, :]

    d = tl.sum(tl.where(row == column, M, 0), axis=1)
    tl.store(diagonal + n * c + c - SIDE + index, d, mask=index >= start)
    rest: tl.constexpr = SIDE - STOP
    at = n * rest * rest + (row - STOP) * rest + column - STOP
    tl.store(left + at, M, mask=(row >= STOP) & (column >= STOP))


@triton.jit
def _over(x, y):
    """The quotient x / y, y not below 1e-30, in float64 from the inverse in float32: a third of a division's work."""
    if y.dtype == tl.float64:
        inverse = (1 / y.to(tl.float32)).to(tl.float64)
        inverse = inverse * (2 - y * inverse)
        return x * (inverse * (2 - y * inverse))
    return x / y


@triton.jit
def bisection_kernel(
    out, diagonal, squares, scales, c, wanted, count, BLOCK: tl.constexpr, HALVINGS: tl.constexpr, PIVOT: tl.constexpr
):
    """Lane i of a matrix finds its i-th largest eigenvalue. All lanes halve [-1, 1], so the results are in order."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    n, above = at // wanted, at % wanted
    d, e = diagonal + n * c, squares + n * c
    x = tl.zeros((BLOCK,), out.dtype.element_ty)
    width = x + 1
    first = tl.load(d, mask=inside, other=0)
    for _ in range(HALVINGS):
        pivot = first - x
        pivot = tl.where(tl.abs(pivot) < PIVOT, -PIVOT, pivot)  # counts as negative, as it acts on the next
        below = (pivot < 0).to(tl.int32)
        for k in range(1, c):
            pivot = tl.load(d + k, mask=inside, other=0) - x - _over(tl.load(e + k - 1, mask=inside, other=0), pivot)
            pivot = tl.where(tl.abs(pivot) < PIVOT, -PIVOT, pivot)
            below += (pivot < 0).to(tl.int32)
        width *= 0.5
        x += tl.where(below < c - above, width, -width)
    tl.store(out + at, x * tl.load(scales + n, mask=inside, other=0), mask=inside)


def eigenvalues(packed: Tensor, count: int) -> Tensor:
    """(..., count) descending; sides too large for a GPU's programs are the host's, which alone makes it wait."""
    c = packed.shape[-1]
    if _configs.eigenvalues_route(c, packed.dtype) == "host":
        return _cpu.eigenvalues(packed.cpu(), count).to(packed.device)
    out = torch.empty((*packed.shape[:-2], count), dtype=packed.dtype, device=packed.device)
    if out.numel():
        run_on(packed, lambda: launches(out, packed))
    return out


def launches(out: Tensor, packed: Tensor) -> list[Launch]:
    """The launches that fill `out`, (..., count) contiguous."""
    c = packed.shape[-1]
    matrices = packed.reshape(-1, c, c).contiguous()
    if _configs.eigenvalues_route(c, packed.dtype) == "memory":
        form, run = _triton_memory.launches(matrices, keep=False)
        return [*run, bisection(out, form.diagonal, form.squares, form.scales)]
    n = len(matrices)
    diagonal, squares = matrices.new_empty(n, c), matrices.new_empty(n, c)
    scales = matrices.new_empty(n)
    shared = {"diagonal": diagonal, "squares": squares, "scales": scales}
    run = [_tridiagonal(shared, matrices)]
    while (left := run[-1].arguments["left"]).shape[-1] > 1:
        run.append(_tridiagonal(shared, left))
    return [*run, bisection(out, **shared)]


def _tridiagonal(shared: dict[str, Any], matrices: Tensor) -> Launch:
    """Reduce (n, s, s) until half a tile is left, or, in small tiles, all of it."""
    n, side, _ = matrices.shape
    c = shared["diagonal"].shape[1]
    tile = _configs.matrix_tile(side)
    rest = tile // 2 if tile > _configs.EIGENVALUES_SMALLEST_TILE else 1
    return Launch(
        tridiagonal_kernel,
        (n,),
        {
            **shared, "left": matrices.new_empty(n, rest, rest), "matrices": matrices, "c": c, "side": side,
            "SIDE": tile, "STOP": tile - rest, "FIRST": side == c,
            "NEGLIGIBLE": (1e-3 * torch.finfo(matrices.dtype).eps) ** 2,
        },
        _configs.eigenvalues_warps(tile, matrices.dtype),
        together=1,
    )  # fmt: skip


def bisection(out: Tensor, diagonal: Tensor, squares: Tensor, scales: Tensor) -> Launch:
    """The launch that fills `out` (..., count) with the largest eigenvalues of scale T, T of norm 1."""
    double = out.dtype == torch.float64
    return Launch(
        bisection_kernel,
        (triton.cdiv(out.numel(), _configs.BISECTION_BLOCK),),
        {
            "out": out, "diagonal": diagonal, "squares": squares, "scales": scales, "c": diagonal.shape[1],
            "wanted": out.shape[-1], "count": out.numel(), "BLOCK": _configs.BISECTION_BLOCK,
            "HALVINGS": 54 if double else 30, "PIVOT": 1e-30,
        },
        _configs.BISECTION_BLOCK // 32,
    )  # fmt: skip
