"""Bidiagonalisation of one matrix with the lanes along its rows, for sides whose interleaved matrices leave the cache.

A row is blocks of as many columns as a register has lanes, Re and Im of each in turn; its end is filled with zeros. A
step works from the block of its first column on: vectors over columns are zero before that column.
"""

from __future__ import annotations

import math

from fastfreq_kernels.simd.vector import fill, jit, load, store

from ._passes import product, update

__all__ = ["assemble", "bidiagonalise", "blocked"]


@jit
def blocked(source, lanes, power, out):
    """A matrix (m, 2 n) times `power`, in blocks."""
    m, width = source.shape
    blocks = -(-width // (2 * lanes))
    for i in range(m):
        row = 2 * i * blocks * lanes
        for j in range(width // 2):
            at = row + 2 * (j // lanes) * lanes + j % lanes
            out[at] = source[i, 2 * j] * power
            out[at + lanes] = source[i, 2 * j + 1] * power


@jit
def assemble(taps, cosines, sines, frequency, lanes, out):
    """The matrix sum_t taps[t] (cos_t + i sin_t) in blocks, from taps (t, m, n) with rows filled to whole blocks."""
    t = len(taps)
    flat = taps.reshape(-1)
    slots = len(flat) // (t * lanes)
    for slot in range(slots):
        re, im = fill(out, 0), fill(out, 0)
        for tap in range(t):
            weight = load(flat, tap * slots + slot)
            re = re + fill(out, cosines[frequency, tap]) * weight
            im = im + fill(out, sines[frequency, tap]) * weight
        store(out, 2 * slot, re)
        store(out, 2 * slot + 1, im)


@jit
def _reflector(values, first, count, thinnest):
    """As `hermitian_eigenvalues._compiled._reflector`, of complex numbers values[first : count]."""
    square = 0.0
    for i in range(first, count):
        square += values[i].real * values[i].real + values[i].imag * values[i].imag
    if square <= thinnest:
        return square, 0.0
    size, length = abs(values[first]), math.sqrt(square)
    values[first] = values[first] * (1 + length / size) if size > 0 else complex(length)
    return square, 1 / (square + length * size)


@jit
def _spread(values, first, count, lanes, out):
    """Numbers of rows into all lanes of their slots."""
    for i in range(first, count):
        at = 2 * i * lanes
        out[at : at + lanes] = values[i].real
        out[at + lanes : at + 2 * lanes] = values[i].imag


@jit
def _sums(slots, i, lanes):
    """The sum over the lanes of pair i."""
    at = 2 * i * lanes
    re, im = 0.0, 0.0
    for lane in range(lanes):
        re += slots[at + lane]
        im += slots[at + lanes + lane]
    return complex(re, im)


@jit
def _row(matrix, vk, y, sums, factor, u, scratch, k, n, lanes, thinnest):
    """Fill y with factor sums and u with the reflector of row k of A - v y^H; returns (|row|^2, its factor, y^H u)."""
    start = 2 * k * (-(-n // lanes)) * lanes
    for j in range(k + 1, n):
        at = 2 * (j // lanes) * lanes + j % lanes
        y[at], y[at + lanes] = factor * sums[at], factor * sums[at + lanes]
        element = complex(matrix[start + at], matrix[start + at + lanes]) - vk * complex(y[at], -y[at + lanes])
        scratch[j] = element.conjugate()
    square, factor = _reflector(scratch, k + 1, n, thinnest)
    dot = 0j
    for j in range(k + 1, n):
        at = 2 * (j // lanes) * lanes + j % lanes
        u[at], u[at + lanes] = scratch[j].real, scratch[j].imag
        dot += complex(y[at], -y[at + lanes]) * scratch[j]
    return square, factor, dot


@jit
def bidiagonalise(matrix, work, rows, lanes, squares, lane, wide, m, n, thinnest):
    """As `_interleaved.bidiagonalise` of one matrix, into lane `lane` of slots of `wide`.

    `work` holds 6 (m + b) slots for b blocks, `rows` (3, max(m, n)) complex numbers.
    """
    blocks = -(-n // lanes)
    work[:] = 0
    rows[:] = 0
    a, b = 2 * m * lanes, 2 * blocks * lanes
    v, x, new = work[:a], work[a : 2 * a], work[2 * a : 3 * a]
    rest = work[3 * a :]
    y, u, sums = rest[:b], rest[b : 2 * b], rest[2 * b :]
    left, right, column = rows[0], rows[1], rows[2]
    for k in range(n):
        place = 2 * (k // lanes) * lanes + k % lanes
        cy, cu = complex(y[place], -y[place + lanes]), complex(u[place], -u[place + lanes])
        y[place] = y[place + lanes] = u[place] = u[place + lanes] = 0
        for i in range(k, m):
            at = 2 * i * blocks * lanes + place
            column[i] = complex(matrix[at], matrix[at + lanes]) - left[i] * cy - right[i] * cu
        square, factor = _reflector(column, k, m, thinnest)
        squares[2 * k * wide + lane] = square
        if k == n - 1:
            break
        _spread(column, k, m, lanes, new)
        first = (k + 1) // lanes
        update(matrix, v, x, y, u, new, sums, k, m, first, blocks)
        v, new = new, v
        left, column = column, left
        square, factor, dot = _row(matrix, left[k], y, sums, factor, u, column, k, n, lanes, thinnest)
        squares[(2 * k + 1) * wide + lane] = square
        product(matrix, u, x, k + 1, m, first, blocks)
        for i in range(k + 1, m):
            right[i] = factor * (_sums(x, i, lanes) - dot * left[i])
        _spread(right, k + 1, m, lanes, x)
