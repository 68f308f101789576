"""Bidiagonalisation with one SIMD lane per matrix: as many matrices as a register has lanes go through it together."""

from __future__ import annotations

from fastfreq_kernels.hermitian_eigenvalues._compiled import _reflector
from fastfreq_kernels.simd.vector import fill, jit, load, store, to_double

from ._passes import product, update

__all__ = ["assemble", "bidiagonalise", "interleave"]


@jit
def interleave(matrices, first, lanes, powers, out):
    """`lanes` matrices (m, 2 n) from `first` on, the last repeated past the end, times `powers`."""
    count, m, width = matrices.shape
    for i in range(m):
        for j in range(width):
            slot = (i * width + j) * lanes
            for lane in range(lanes):
                out[slot + lane] = matrices[min(first + lane, count - 1), i, j] * powers[lane]


@jit
def assemble(taps, cosines, sines, first, lanes, tables, out):
    """sum_t taps[:, :, t] (cos_t + i sin_t), m x n, at `lanes` frequencies from `first` on, the last repeated."""
    count, (m, n, t) = len(cosines), taps.shape
    flat = taps.reshape(-1)
    for lane in range(lanes):
        row = min(first + lane, count - 1)
        for tap in range(t):
            tables[2 * tap * lanes + lane] = cosines[row, tap]
            tables[(2 * tap + 1) * lanes + lane] = sines[row, tap]
    for element in range(m * n):
        re, im = fill(out, 0), fill(out, 0)
        for tap in range(t):
            weight = fill(out, flat[element * t + tap])
            re = re + weight * load(tables, 2 * tap)
            im = im + weight * load(tables, 2 * tap + 1)
        store(out, 2 * element, re)
        store(out, 2 * element + 1, im)


@jit
def _column(matrix, v, x, y, u, out, k, m, n):
    """Column k of A - v y^H - x u^H, from row k on."""
    yr, yi, ur, ui = load(y, 2 * k), load(y, 2 * k + 1), load(u, 2 * k), load(u, 2 * k + 1)
    for i in range(k, m):
        slot = (i * n + k) * 2
        vr, vi, xr, xi = load(v, 2 * i), load(v, 2 * i + 1), load(x, 2 * i), load(x, 2 * i + 1)
        store(out, 2 * i, load(matrix, slot) - vr * yr - vi * yi - xr * ur - xi * ui)
        store(out, 2 * i + 1, load(matrix, slot + 1) - vi * yr + vr * yi - xi * ur + xr * ui)


@jit
def _row(matrix, v, y, sums, factor, out, k, n):
    """Fill y with factor sums, and `out` with row k of A - v y^H, conjugated, from column k + 1 on."""
    vr, vi = load(v, 2 * k), load(v, 2 * k + 1)
    for j in range(k + 1, n):
        yr, yi = factor * load(sums, 2 * j), factor * load(sums, 2 * j + 1)
        store(y, 2 * j, yr)
        store(y, 2 * j + 1, yi)
        slot = (k * n + j) * 2
        store(out, 2 * j, load(matrix, slot) - vr * yr - vi * yi)
        store(out, 2 * j + 1, vi * yr - vr * yi - load(matrix, slot + 1))


@jit
def _right(matrix, v, y, u, factor, x, k, m, n):
    """Fill x with factor (A - v y^H) u on rows after k."""
    product(matrix, u, x, k + 1, m, k + 1, n)
    re, im = fill(x, 0), fill(x, 0)
    for j in range(k + 1, n):
        yr, yi, ur, ui = load(y, 2 * j), load(y, 2 * j + 1), load(u, 2 * j), load(u, 2 * j + 1)
        re = re + yr * ur + yi * ui
        im = im + yr * ui - yi * ur
    for i in range(k + 1, m):
        vr, vi = load(v, 2 * i), load(v, 2 * i + 1)
        store(x, 2 * i, factor * (load(x, 2 * i) - re * vr + im * vi))
        store(x, 2 * i + 1, factor * (load(x, 2 * i + 1) - re * vi - im * vr))


@jit
def bidiagonalise(matrix, work, squares, group, groups, m, n, thinnest):
    """Squares of the diagonal and the superdiagonal, in turn, of bidiagonal matrices with the same singular values.

    They go to register `group` of each wide slot of `squares`; `matrix` is overwritten. `work` holds 6 (m + n) slots.
    """
    lanes = len(work) // (6 * (m + n))
    work[:] = 0
    a, b = 2 * m * lanes, 2 * n * lanes
    v, x, new = work[:a], work[a : 2 * a], work[2 * a : 3 * a]
    rest = work[3 * a :]
    y, u, sums = rest[:b], rest[b : 2 * b], rest[2 * b :]
    thin = fill(work, thinnest)
    for k in range(n):
        _column(matrix, v, x, y, u, new, k, m, n)
        square, factor = _reflector(new, k - 1, m, thin)
        store(squares, 2 * k * groups + group, to_double(square))
        if k == n - 1:
            break
        update(matrix, v, x, y, u, new, sums, k, m, k + 1, n)
        v, new = new, v
        _row(matrix, v, y, sums, factor, u, k, n)
        square, factor = _reflector(u, k, n, thin)
        store(squares, (2 * k + 1) * groups + group, to_double(square))
        _right(matrix, v, y, u, factor, x, k, m, n)
