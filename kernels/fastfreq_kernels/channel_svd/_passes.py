"""The two passes over a matrix that one step of Householder bidiagonalisation needs.

Slots are registers of floats (see `simd.vector`). Row i of a matrix starts at slot 2 i n; its slots
come in pairs, Re and Im, n of them. What belongs to rows (v, x, new) has a pair of slots per row, what belongs to
columns (y, u, sums) a pair per slot pair of a row. Whether the lanes of a register are as many matrices or as many
columns of one is the caller's: then vectors over rows hold one number in all lanes.
"""

from __future__ import annotations

from fastfreq_kernels.simd.vector import fill, jit, load, store

__all__ = ["product", "update"]


@jit
def _update_row(matrix, v, x, y, u, new, sums, i, first, n):
    vr, vi, xr, xi = load(v, 2 * i), load(v, 2 * i + 1), load(x, 2 * i), load(x, 2 * i + 1)
    pr, pi = load(new, 2 * i), load(new, 2 * i + 1)
    row = i * n
    for j in range(first, n):
        slot = (row + j) * 2
        yr, yi, ur, ui = load(y, 2 * j), load(y, 2 * j + 1), load(u, 2 * j), load(u, 2 * j + 1)
        ar = load(matrix, slot) - vr * yr - vi * yi - xr * ur - xi * ui
        ai = load(matrix, slot + 1) - vi * yr + vr * yi - xi * ur + xr * ui
        store(matrix, slot, ar)
        store(matrix, slot + 1, ai)
        store(sums, 2 * j, load(sums, 2 * j) + ar * pr + ai * pi)
        store(sums, 2 * j + 1, load(sums, 2 * j + 1) + ar * pi - ai * pr)


@jit
def _update_two_rows(matrix, v, x, y, u, new, sums, i, first, n):
    """Rows i and i + 1: what belongs to a column is read and written once for both."""
    vr, vi, xr, xi = load(v, 2 * i), load(v, 2 * i + 1), load(x, 2 * i), load(x, 2 * i + 1)
    pr, pi = load(new, 2 * i), load(new, 2 * i + 1)
    vr1, vi1, xr1, xi1 = load(v, 2 * i + 2), load(v, 2 * i + 3), load(x, 2 * i + 2), load(x, 2 * i + 3)
    pr1, pi1 = load(new, 2 * i + 2), load(new, 2 * i + 3)
    row, below = i * n, (i + 1) * n
    for j in range(first, n):
        yr, yi, ur, ui = load(y, 2 * j), load(y, 2 * j + 1), load(u, 2 * j), load(u, 2 * j + 1)
        slot = (row + j) * 2
        ar = load(matrix, slot) - vr * yr - vi * yi - xr * ur - xi * ui
        ai = load(matrix, slot + 1) - vi * yr + vr * yi - xi * ur + xr * ui
        store(matrix, slot, ar)
        store(matrix, slot + 1, ai)
        sr = load(sums, 2 * j) + ar * pr + ai * pi
        si = load(sums, 2 * j + 1) + ar * pi - ai * pr
        slot = (below + j) * 2
        ar = load(matrix, slot) - vr1 * yr - vi1 * yi - xr1 * ur - xi1 * ui
        ai = load(matrix, slot + 1) - vi1 * yr + vr1 * yi - xi1 * ur + xr1 * ui
        store(matrix, slot, ar)
        store(matrix, slot + 1, ai)
        store(sums, 2 * j, sr + ar * pr1 + ai * pi1)
        store(sums, 2 * j + 1, si + ar * pi1 - ai * pr1)


@jit
def update(matrix, v, x, y, u, new, sums, top, m, first, n):
    """A -= v y^H + x u^H on rows top .. m - 1 and slots first .. n - 1, and sums = A^H new, in one pass over A."""
    zero = fill(sums, 0)
    for j in range(2 * first, 2 * n):
        store(sums, j, zero)
    odd = (m - top) % 2
    if odd:
        _update_row(matrix, v, x, y, u, new, sums, top, first, n)
    for i in range(top + odd, m, 2):
        _update_two_rows(matrix, v, x, y, u, new, sums, i, first, n)


@jit
def product(matrix, u, x, top, m, first, n):
    """Fill x with A u on rows top .. m - 1, lane by lane."""
    for i in range(top, m, 2):
        other = min(i + 1, m - 1)  # the last row twice where their number is odd
        row, below = i * n, other * n
        re, im = fill(x, 0), fill(x, 0)
        re1, im1 = re, im
        for j in range(first, n):
            ur, ui = load(u, 2 * j), load(u, 2 * j + 1)
            slot = (row + j) * 2
            ar, ai = load(matrix, slot), load(matrix, slot + 1)
            re = re + ar * ur - ai * ui
            im = im + ar * ui + ai * ur
            slot = (below + j) * 2
            ar, ai = load(matrix, slot), load(matrix, slot + 1)
            re1 = re1 + ar * ur - ai * ui
            im1 = im1 + ar * ui + ai * ur
        store(x, 2 * i, re)
        store(x, 2 * i + 1, im)
        store(x, 2 * other, re1)
        store(x, 2 * other + 1, im1)
