"""Singular values of many bidiagonal matrices at once, one lane of a wide slot per matrix.

Root-free QL gives the eigenvalues of B^T B to a few roundings of the largest: enough for singular values of a tenth of
the largest and more. Smaller ones are found again from q_i = b_ii^2 and e_i = b_i,i+1^2, which hold them to nearly full
relative accuracy, by the differential qd algorithm with shifts (Fernando, Parlett 1994), whose shifts the first
answer gives. Where values come in another order than that (a matrix in blocks), QL runs on the Golub-Kahan matrix,
of twice the side and with +-sigma_i for eigenvalues, which rounds no square of a value.
"""

from __future__ import annotations

import math

import numpy as np

from fastfreq_kernels.hermitian_eigenvalues._compiled import _ql
from fastfreq_kernels.simd.vector import WIDE, any_less, fill_wide, jit, load_wide, root, store, where_less

__all__ = ["bidiagonal_values"]

_SWEEPS = 60  # for one value; three are usual
_ROUNDING = 2.2e-16  # elements are at most 1: an off-diagonal below this moves no value by more
_SMALL = 0.02  # squares of singular values, of the largest element's, below which rounding of B^T B counts


@jit
def _sweep(q, e, bottom, shift, new_q, new_e):
    """One step of dqds, to new_q and new_e; returns the smallest d, negative where the shift was too large."""
    zero, one, tiny = fill_wide(q, 0), fill_wide(q, 1), fill_wide(q, 1e-290)
    d = load_wide(q, 0) - shift
    least = d
    for i in range(bottom):
        off, following = load_wide(e, i), load_wide(q, i + 1)
        grown = d + off
        ratio = following / where_less(tiny, grown, grown, one)
        store(new_q, i, grown)
        store(new_e, i, where_less(tiny, grown, off * ratio, zero))
        d = where_less(tiny, grown, d * ratio, following) - shift
        least = where_less(d, least, d, least)
    store(new_q, bottom, d)
    return least


@jit
def _keep_where_negative(least, bottom, old, new):
    zero = fill_wide(old, 0)
    for i in range(bottom + 1):
        store(new, i, where_less(least, zero, load_wide(old, i), load_wide(new, i)))


@jit
def _refine(q, e, spare_q, spare_e, values, n, error, failed):
    """The small ones of ascending `values`, which are right to `error`; 1 in `failed` for lanes where others come out.

    What happens in one lane depends on no other.
    """
    zero, one, tolerance, margin = fill_wide(q, 0), fill_wide(q, 1), fill_wide(q, _ROUNDING**2), fill_wide(q, error)
    most = fill_wide(q, _SMALL)
    total, bad = zero, zero
    for i in range(n):
        bottom = n - 1 - i
        near = load_wide(values, i)
        if not any_less(near, most):
            break
        shift = near - margin - total
        sweep = 0
        while bottom > 0:
            off = where_less(near, most, load_wide(e, bottom - 1), zero)
            if sweep == _SWEEPS:
                bad = where_less(tolerance, off, one, bad)
                break
            if not any_less(tolerance, off):
                break
            sweep += 1
            shift = where_less(zero, shift, shift, zero)
            least = _sweep(q, e, bottom, shift, spare_q, spare_e)
            least = where_less(tolerance, off, least, zero - one)
            if any_less(least, zero):
                _keep_where_negative(least, bottom, q, spare_q)
                _keep_where_negative(least, bottom - 1, e, spare_e)
            total = total + where_less(least, zero, zero, shift)
            q, spare_q = spare_q, q
            e, spare_e = spare_e, e
            last = load_wide(q, bottom)
            shift = where_less(least, zero, zero, last - root(last * load_wide(e, bottom - 1)))
        value = total + load_wide(q, bottom)
        difference = where_less(value, near, near - value, value - near)
        bad = where_less(near, most, where_less(margin, difference, one, bad), bad)
        store(values, i, where_less(near, most, value, near))
    store(failed, 0, bad)


@jit
def _sort(values, lane, n):
    """One lane of n wide slots, ascending. Shell's: NumPy's sort takes a second to compile."""
    gap = np.int64(1)
    while gap < n // 3:
        gap = 3 * gap + 1
    while gap:
        for i in range(gap, n):
            value, j = values[i * WIDE + lane], i - gap
            while j >= 0 and values[j * WIDE + lane] > value:
                values[(j + gap) * WIDE + lane] = values[j * WIDE + lane]
                j -= gap
            values[(j + gap) * WIDE + lane] = value
        gap //= 3


@jit
def _roots(squares, lane, scale, out):
    """Square roots of a lane of slots, times `scale`; of what is negative 0."""
    for i in range(len(out)):
        square = squares[i * WIDE + lane]
        out[i] = math.sqrt(square if square > 0 or square != square else 0.0) * scale


@jit
def _by_squares(squares, work, n, exact, failed):
    """Squares of the values, in no order, into the first n slots of `work`; False if QL did not converge."""
    size = n * WIDE
    values, q, e = work[:size], work[size : 2 * size], work[2 * size : 3 * size]
    spare_q, spare_e = work[3 * size : 4 * size], work[4 * size :]
    for i in range(n):
        for lane in range(WIDE):
            q[i * WIDE + lane] = squares[2 * i * WIDE + lane]
            e[i * WIDE + lane] = squares[(2 * i + 1) * WIDE + lane]
    for i in range(size):
        values[i] = q[i] + e[i - WIDE] if i >= WIDE else q[i]
        spare_e[i] = q[i] * e[i]
    if not _ql(values, spare_e, n, _ROUNDING**2):
        return False
    if exact:
        for lane in range(WIDE):
            _sort(values, lane, n)
        _refine(q, e, spare_q, spare_e, values, n, 8 * n * _ROUNDING, failed)
    return True


@jit
def bidiagonal_values(squares, work, count, exact, out):
    """Singular values into out (count, n), ascending; False if an iteration did not converge.

    Args:
        squares: 2 n wide slots: q_0, e_0, q_1, .. , q_(n-1) and one unused, overwritten.
        work: 5 n wide slots.
        count: lanes that are used.
        exact: errors are a few roundings of the largest value; else up to 5e-8 of it.
        out: takes the values.
    """
    n = out.shape[1]
    scales, failed = np.zeros(WIDE), np.zeros(WIDE)
    for lane in range(WIDE):
        squares[(2 * n - 1) * WIDE + lane] = 0
        largest = 0.0
        for i in range(2 * n if lane < count else 0):
            largest = max(largest, squares[i * WIDE + lane])
        scales[lane] = math.sqrt(largest)
        factor = 1 / largest if largest > 0 else 0.0
        for i in range(2 * n):
            squares[i * WIDE + lane] *= factor
    if not _by_squares(squares, work, n, exact, failed):
        return False
    again = 0
    for lane in range(count):
        _sort(work, lane, n)
        _roots(work, lane, scales[lane], out[lane])
        again += failed[lane] > 0
    if not again:
        return True
    both = work[: 2 * n * WIDE]
    both[:] = 0
    if not _ql(both, squares, 2 * n, _ROUNDING**2):
        return False
    for lane in range(count):
        if failed[lane] > 0:
            _sort(both, lane, 2 * n)
            for i in range(n):
                value = both[(n + i) * WIDE + lane]
                out[lane, i] = (value if value > 0 or value != value else 0.0) * scales[lane]
    return True
