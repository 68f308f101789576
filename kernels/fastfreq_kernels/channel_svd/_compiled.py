"""Singular values of many complex matrices at once, compiled.

Householder bidiagonalisation: the two rank-1 updates of one step are made in one pass over the shrinking matrix, which
also multiplies it by the next step's left vector; a second pass reads it once more for the right one. Then the values
of the bidiagonal matrices (see `_bidiagonal`). Errors are a few roundings of the largest value, as LAPACK's.
"""

from __future__ import annotations

import math

import numpy as np

from fastfreq_kernels.hermitian_eigenvalues._compiled import _largest
from fastfreq_kernels.simd.entry import entry
from fastfreq_kernels.simd.vector import REGISTER, WIDE, jit

from . import _by_rows, _interleaved
from ._bidiagonal import bidiagonal_values

__all__ = ["REGISTER", "WIDE", "conv_singular_values", "singular_values"]

_in_lanes, _interleave, _assemble_lanes = _interleaved.bidiagonalise, _interleaved.interleave, _interleaved.assemble
_along_rows, _blocked, _assemble_rows = _by_rows.bidiagonalise, _by_rows.blocked, _by_rows.assemble


@jit
def _power(values):
    """The power of two, of those that floats hold, that brings the largest number to between one half and one."""
    largest = _largest(values.reshape(-1))
    most = 126 if values.itemsize == 4 else 1022
    exponent = math.frexp(largest)[1] if 0 < largest < np.inf else 0
    return values.dtype.type(2.0 ** -max(-most, min(most, exponent)))


@entry
def singular_values(matrices, out, together, exact):
    """Singular values, ascending, into out (count, n), of matrices (count, m, 2 n), m >= n.

    Columns 2 j and 2 j + 1 are the parts of a complex one. `together` has one lane per matrix; else the lanes are along
    the rows of one. `exact` as in `bidiagonal_values`. False if an iteration did not converge.
    """
    count, m, width = matrices.shape
    n = width // 2
    lanes = REGISTER // matrices.itemsize
    groups, blocks = WIDE // lanes, -(-n // lanes)
    eps = np.finfo(matrices.dtype).eps
    slots = n if together else blocks
    matrix = np.zeros(2 * m * slots * lanes, matrices.dtype)
    work = np.zeros(6 * (m + slots) * lanes, matrices.dtype)
    rows = np.zeros((3, m), np.complex128)
    squares, room = np.zeros(width * WIDE), np.empty(5 * n * WIDE)
    powers = np.ones(WIDE, matrices.dtype)
    for first in range(0, count, WIDE):
        some = min(WIDE, count - first)
        for lane in range(WIDE):
            powers[lane] = _power(matrices[first + min(lane, some - 1)])
        if together:
            for group in range(-(-some // lanes)):
                own = powers[group * lanes : (group + 1) * lanes]
                _interleave(matrices, first + group * lanes, lanes, own, matrix)
                _in_lanes(matrix, work, squares, group, groups, m, n, (eps * 1e-3) ** 2)
        else:
            for lane in range(some):
                matrix[:] = 0
                _blocked(matrices[first + lane], lanes, powers[lane], matrix)
                _along_rows(matrix, work, rows, lanes, squares, lane, WIDE, m, n, (eps * 1e-3) ** 2)
        if not bidiagonal_values(squares, room, some, exact, out[first : first + some]):
            return False
        for lane in range(some):
            for i in range(n):
                out[first + lane, i] /= powers[lane]
    return True


@entry
def conv_singular_values(taps, n, cosines, sines, out, together, exact):
    """As `singular_values`, of the matrices sum_t T_t (cos_t + i sin_t) at frequencies (f, t).

    `taps` hold numbers of about 1: (m, n, t) for `together`, else (t, m, n) with n filled to a multiple of the lanes.
    No matrix is ever in memory but those of one register.
    """
    m = taps.shape[0] if together else taps.shape[1]
    lanes = REGISTER // taps.itemsize
    groups, blocks = WIDE // lanes, -(-n // lanes)
    eps = np.finfo(taps.dtype).eps
    slots = n if together else blocks
    matrix = np.zeros(2 * m * slots * lanes, taps.dtype)
    work = np.zeros(6 * (m + slots) * lanes, taps.dtype)
    tables = np.zeros(2 * cosines.shape[1] * lanes, taps.dtype)
    rows = np.zeros((3, m), np.complex128)
    squares, room = np.zeros(2 * n * WIDE), np.empty(5 * n * WIDE)
    for first in range(0, len(cosines), WIDE):
        some = min(WIDE, len(cosines) - first)
        if together:
            for group in range(-(-some // lanes)):
                _assemble_lanes(taps, cosines, sines, first + group * lanes, lanes, tables, matrix)
                _in_lanes(matrix, work, squares, group, groups, m, n, (eps * 1e-3) ** 2)
        else:
            for lane in range(some):
                _assemble_rows(taps, cosines, sines, first + lane, lanes, matrix)
                _along_rows(matrix, work, rows, lanes, squares, lane, WIDE, m, n, (eps * 1e-3) ** 2)
        if not bidiagonal_values(squares, room, some, exact, out[first : first + some]):
            return False
    return True
