"""Thin singular value decompositions on a GPU: one-sided Jacobi rotations, one matrix per program in registers.

Unitary rotations of pairs of columns make those of A V orthogonal, A the tall matrix (k x c, or the adjoint of a wide
one): A V = U diag(S). V starts as the identity and is rotated along. The rotation of columns x and y is
    t = sign(zeta) / (|zeta| + sqrt(1 + zeta^2)),  zeta = (|y|^2 - |x|^2) / (2 |x^H y|)
    x' = cos x - sin conj(phase) y,  y' = cos y + sin phase x,  tan = t,  phase = x^H y / |x^H y|
One step rotates all pairs (i, i xor mask), mask = 1 .. side - 1, so every lane holds its column's partner after one
gather, and both sides of a pair do the same: they differ in the sign of zeta only. Sweeps end when no cosine
|x^H y| / (|x| |y|) of the last one was above sqrt(k) eps.

Errors are relative to each value where A = B D with D diagonal and B well conditioned (Demmel, Veselic 1992), not only
to the largest: columns may differ by many orders of magnitude. Columns below 1e-17 (float64: 1e-150) of the largest
element count as zero; vectors of zero values complete the others to an orthonormal set.

Per matrix of k x c (the sides of tiles are powers of two), in real numbers:
    read         2 k c
    written      2 k c + 2 c^2 + c
    arithmetic   (14 k + 8 c) c      FMA per step, c - 1 steps per sweep, 6 to 10 sweeps
At k = c = 64 in float32 this is 34 to 57 MFMA to 98 KB: arithmetic bounds it, and before that the latency of four
gathers and three reductions in each step. Speed: kernels/README.md.
"""

# pyright: reportArgumentType=false, reportOperatorIssue=false
# (Triton's annotations give what a kernel's functions return no type that can be indexed or compared)

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastfreq_kernels import _configs
from fastfreq_kernels._launch import Launch, run_on

from . import _cpu


@triton.jit
def _partner(X, partner):
    """Column `partner` of each column."""
    return tl.gather(X, tl.broadcast_to(partner[None, :], X.shape), 1)


@triton.jit
def _rotation(X, Y, P, Q, index, partner, tolerance, LEAST: tl.constexpr):
    """Of columns X + i Y and partners P + i Q: cos, Re and Im of sin times the phase, largest cosine between them."""
    square = tl.sum(X * X + Y * Y, axis=0)
    other = tl.gather(square, partner, 0)
    # from one side of a pair for both: rounded twice, a product near zero would have two phases
    first = index < partner
    real, imaginary = tl.sum(X * P + Y * Q, axis=0), tl.sum(X * Q - Y * P, axis=0)
    real = tl.where(first, real, tl.gather(real, partner, 0))
    imaginary = tl.where(first, imaginary, -tl.gather(imaginary, partner, 0))

    length, other_length = tl.sqrt(square), tl.sqrt(other)
    present = (length > LEAST) & (other_length > LEAST)
    unit = tl.maximum(tl.abs(real), tl.abs(imaginary))
    present = present & (unit > 0)
    unit = tl.where(present, unit, 1)
    real, imaginary = real / unit, imaginary / unit  # the phase, of length 1 to sqrt(2)
    size = tl.sqrt(real * real + imaginary * imaginary)
    between = unit / tl.maximum(length, LEAST) * (size / tl.maximum(other_length, LEAST))
    between = tl.where(present, between, 0)
    active = between > tolerance
    size = tl.where(active, size, 1)
    zeta = (other - square) / (2 * unit * size)
    large = tl.abs(zeta)
    near = tl.minimum(large, 1e9)
    t = tl.where(large > 1e9, 0.5 / tl.maximum(large, 1), 1 / (near + tl.sqrt(1 + near * near)))
    t = tl.where((zeta > 0) | ((zeta == 0) & first), t, -t)
    cosine = tl.where(active, 1 / tl.sqrt(1 + t * t), 1)
    sine = tl.where(active, cosine * t / size, 0)
    return cosine, sine * real, -sine * imaginary, tl.max(between)


@triton.jit
def _rotated(X, Y, P, Q, cosine, real, imaginary):
    cosine, real, imaginary = cosine[None, :], real[None, :], imaginary[None, :]
    return cosine * X - (real * P - imaginary * Q), cosine * Y - (real * Q + imaginary * P)


@triton.jit
def _completed(X, Y, row, k, chosen):
    """The chosen column of U = X + i Y set to a unit vector orthogonal to all others; empty columns are zero."""
    share = tl.sum(X * X + Y * Y, axis=1)[:, None]
    here = row == tl.argmin(tl.where(row < k, share, 2), axis=0)  # the unit vector least inside their span
    real, imaginary = tl.sum(tl.where(here, X, 0), axis=0)[None, :], tl.sum(tl.where(here, Y, 0), axis=0)[None, :]
    x = tl.where(here, 1, 0) - tl.sum(X * real + Y * imaginary, axis=1)[:, None]
    y = -tl.sum(Y * real - X * imaginary, axis=1)[:, None]
    length = tl.sqrt(tl.sum(x * x + y * y))
    return tl.where(chosen, x / length, X), tl.where(chosen, y / length, Y)


@triton.jit
def jacobi_kernel(
    left, values, right, matrices, k, c, tolerance,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, SWEEPS: tl.constexpr, LEAST: tl.constexpr,
):  # fmt: skip
    """U (n, k, c, 2), S (n, c) and V (n, c, c, 2) of matrices (n, k, c, 2)."""
    n = tl.program_id(0).to(tl.int64)
    index = tl.arange(0, COLUMNS)
    row, column, lower = tl.arange(0, ROWS)[:, None], index[None, :], index[:, None]
    inside = (row < k) & (column < c)
    at = matrices + 2 * ((n * k + row) * c + column)
    X, Y = tl.load(at, mask=inside, other=0), tl.load(at + 1, mask=inside, other=0)
    scale = tl.max(tl.maximum(tl.abs(X), tl.abs(Y)))
    scale = tl.where(scale > 0, scale, 1)
    X, Y = X / scale, Y / scale
    V, W = tl.where(lower == column, 1, 0).to(X.dtype), tl.zeros((COLUMNS, COLUMNS), X.dtype)

    worst, sweep = tl.full((), 1, X.dtype), 0
    while (worst > tolerance) & (sweep < SWEEPS):
        worst = tl.full((), 0, X.dtype)
        for mask in range(1, COLUMNS):
            partner = index ^ mask
            P, Q = _partner(X, partner), _partner(Y, partner)
            cosine, real, imaginary, between = _rotation(X, Y, P, Q, index, partner, tolerance, LEAST)
            X, Y = _rotated(X, Y, P, Q, cosine, real, imaginary)
            V, W = _rotated(V, W, _partner(V, partner), _partner(W, partner), cosine, real, imaginary)
            worst = tl.maximum(worst, between)
        sweep += 1

    length, unit = tl.sqrt(tl.sum(X * X + Y * Y, axis=0)), tl.sqrt(tl.sum(V * V + W * W, axis=0))
    present = length > LEAST
    value = tl.where(present, length / unit, 0)  # unit is 1 but for the rounding of rotations, which lengths share
    earlier = (value[:, None] > value[None, :]) | ((value[:, None] == value[None, :]) & (lower < column))
    order = tl.sum(earlier.to(tl.int32), axis=0)
    tl.store(values + n * c + order, value * scale, mask=index < c)
    at = 2 * ((n * c + lower) * c + order[None, :])
    square = (lower < c) & (column < c)
    tl.store(right + at, V / unit[None, :], mask=square)
    tl.store(right + at + 1, W / unit[None, :], mask=square)
    inverse = tl.where(present, 1 / tl.where(present, length, 1), 0)[None, :]
    X, Y = X * inverse, Y * inverse
    for place in range(tl.sum(present.to(tl.int32)), c):
        X, Y = _completed(X, Y, row, k, (row < k) & (order == place)[None, :])
    at = 2 * ((n * k + row) * c + order[None, :])
    tl.store(left + at, X, mask=inside)
    tl.store(left + at + 1, Y, mask=inside)


def svd(matrices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(U, S, Vh); sides too large for registers are the host's: the vendor's solver takes them one by one."""
    *batch, m, n = matrices.shape
    k, c = max(m, n), min(m, n)
    tile = _configs.jacobi_tile(k, c, matrices.dtype.to_real())
    if tile is None:
        u, s, vh = (each.to(matrices.device) for each in _cpu.svd(matrices.cpu()))
        return u, s, vh
    tall = (matrices if m >= n else matrices.mH).to(matrices.dtype.to_complex()).reshape(-1, k, c)
    left, right = torch.empty_like(tall, memory_format=torch.contiguous_format), tall.new_empty(len(tall), c, c)
    values = tall.real.new_empty(len(tall), c)
    if len(tall):
        run_on(matrices, lambda: [launch(left, values, right, tall, tile)])
    if not matrices.is_complex():
        left, right = left.real, right.real
    left, right, values = left.reshape(*batch, k, c), right.reshape(*batch, c, c), values.reshape(*batch, c)
    return (left, values, right.mH.resolve_conj()) if m >= n else (right, values, left.mH.resolve_conj())


def launch(left: Tensor, values: Tensor, right: Tensor, tall: Tensor, tile: _configs.JacobiTile) -> Launch:
    """The launch that fills U (n, k, c), S (n, c) and V (n, c, c), contiguous, of complex matrices (n, k, c)."""
    n, k, c = tall.shape
    double = values.dtype == torch.float64
    return Launch(
        jacobi_kernel,
        (n,),
        {
            "left": torch.view_as_real(left), "values": values, "right": torch.view_as_real(right),
            "matrices": torch.view_as_real(tall.resolve_conj().contiguous()), "k": k, "c": c,
            "tolerance": math.sqrt(k) * torch.finfo(values.dtype).eps,
            "ROWS": tile.rows, "COLUMNS": tile.columns, "SWEEPS": 30, "LEAST": 1e-150 if double else 1e-17,
        },
        tile.warps,
        together=1,
    )  # fmt: skip
