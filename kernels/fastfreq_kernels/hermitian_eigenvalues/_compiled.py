"""Many small Hermitian matrices at once: one SIMD lane per matrix, from packed matrices to eigenvalues.

Householder tridiagonalisation reads and writes each element of the shrinking matrix once per step: the rank-2 update
of one step is fused with the matrix-vector product of the next. Then root-free QL iterations (Pal, Walker, Kahan; as in
EISPACK's tqlrat) on all lanes together, in float64 whatever came in: in float32 they need not converge where
eigenvalues are close. A lane that has converged is left alone. LAPACK does the same arithmetic
matrix by matrix, where small vectors leave most of a SIMD register empty.

Matrices of one register are interleaved: slot (i (i + 1) / 2 + j) 2 holds Re, the next Im of element (i, j), j <= i,
of all its matrices. Complex vectors have Re in slot 2 i and Im in slot 2 i + 1.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from fastfreq_kernels.simd.entry import entry
from fastfreq_kernels.simd.vector import (
    REGISTER,
    WIDE,
    any_less,
    fill,
    fill_wide,
    jit,
    load,
    load_wide,
    root,
    store,
    to_double,
    where_less,
)

__all__ = ["REGISTER", "eigenvalues", "gram_eigenvalues"]

_SWEEPS = 60  # QL iterations for one eigenvalue; three are usual, LAPACK allows 30 on average


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"nnan", "nsz"})
def _largest(values):
    largest = values.dtype.type(0)
    for value in values:
        size = abs(value)
        if size > largest:
            largest = size
    return largest


@jit
def _interleave(packed, first, lanes, matrix, scales):
    """`lanes` matrices from `first` on, the last repeated past the end, each scaled by a power of two to about 1."""
    count, c = packed.shape[0], packed.shape[1]
    for lane in range(lanes):
        source = packed[min(first + lane, count - 1)]
        largest = _largest(source.reshape(-1))
        scale = matrix.dtype.type(1)
        if 0 < largest < np.inf:
            scale = matrix.dtype.type(2.0 ** -math.frexp(largest)[1])
        scales[lane] = 1 / scale
        for i in range(c):
            below = i * (i + 1) * lanes + lane
            for j in range(i + 1):
                matrix[below + 2 * lanes * j] = source[i, j] * scale
            for j in range(i + 1, c):
                matrix[(j * (j + 1) + 2 * i + 1) * lanes + lane] = source[i, j] * scale
        for i in range(c):
            matrix[(i * (i + 3) + 1) * lanes + lane] = 0  # a diagonal is real


@jit
def _reflector(u, k, c, thinnest):
    """Turn the column u[k + 1 ..] into v of I - t v v^H, which leaves only the first element; returns (|.|^2, t)."""
    square = fill(u, 0)
    for i in range(2 * k + 2, 2 * c):
        x = load(u, i)
        square = square + x * x
    re, im = load(u, 2 * k + 2), load(u, 2 * k + 3)
    size = root(re * re + im * im)
    length = root(square)
    zero, one = fill(u, 0), fill(u, 1)
    # v = x + e^{i arg x_1} ||x|| e_1; where x_1 = 0 any phase will do
    safe = where_less(zero, size, size, one)
    grown = one + length / safe
    store(u, 2 * k + 2, where_less(zero, size, re * grown, length))
    store(u, 2 * k + 3, where_less(zero, size, im * grown, zero))
    # a column below rounding is dropped rather than divided by
    return square, where_less(thinnest, square, one / (square + length * size), zero)


@jit
def _diagonal_element(matrix, v, w, u, p, i):
    slot = i * (i + 3)
    twice = load(v, 2 * i) * load(w, 2 * i) + load(v, 2 * i + 1) * load(w, 2 * i + 1)
    a = load(matrix, slot) - twice - twice
    store(matrix, slot, a)
    store(p, 2 * i, load(p, 2 * i) + a * load(u, 2 * i))
    store(p, 2 * i + 1, load(p, 2 * i + 1) + a * load(u, 2 * i + 1))


@jit
def _row(matrix, v, w, u, p, i, first, stop):
    """Elements (i, first .. stop - 1) below the diagonal."""
    row = i * (i + 1)
    vr, vi, wr, wi = load(v, 2 * i), load(v, 2 * i + 1), load(w, 2 * i), load(w, 2 * i + 1)
    ur, ui, pr, pi = load(u, 2 * i), load(u, 2 * i + 1), load(p, 2 * i), load(p, 2 * i + 1)
    for j in range(first, stop):
        slot = row + 2 * j
        yr, yi, zr, zi = load(v, 2 * j), load(v, 2 * j + 1), load(w, 2 * j), load(w, 2 * j + 1)
        ar = load(matrix, slot) - vr * zr - vi * zi - wr * yr - wi * yi
        ai = load(matrix, slot + 1) - vi * zr + vr * zi - wi * yr + wr * yi
        store(matrix, slot, ar)
        store(matrix, slot + 1, ai)
        xr, xi = load(u, 2 * j), load(u, 2 * j + 1)
        pr = pr + ar * xr - ai * xi
        pi = pi + ar * xi + ai * xr
        store(p, 2 * j, load(p, 2 * j) + ar * ur + ai * ui)
        store(p, 2 * j + 1, load(p, 2 * j + 1) + ar * ui - ai * ur)
    store(p, 2 * i, pr)
    store(p, 2 * i + 1, pi)


@jit
def _two_rows(matrix, v, w, u, p, i, first):
    """As `_row` for rows i and i + 1 up to column i - 1: what belongs to a column is read and written once for both."""
    row, below = i * (i + 1), (i + 1) * (i + 2)
    vr, vi, wr, wi = load(v, 2 * i), load(v, 2 * i + 1), load(w, 2 * i), load(w, 2 * i + 1)
    ur, ui, pr, pi = load(u, 2 * i), load(u, 2 * i + 1), load(p, 2 * i), load(p, 2 * i + 1)
    vr1, vi1, wr1, wi1 = load(v, 2 * i + 2), load(v, 2 * i + 3), load(w, 2 * i + 2), load(w, 2 * i + 3)
    ur1, ui1, pr1, pi1 = load(u, 2 * i + 2), load(u, 2 * i + 3), load(p, 2 * i + 2), load(p, 2 * i + 3)
    for j in range(first, i):
        yr, yi, zr, zi = load(v, 2 * j), load(v, 2 * j + 1), load(w, 2 * j), load(w, 2 * j + 1)
        xr, xi, qr, qi = load(u, 2 * j), load(u, 2 * j + 1), load(p, 2 * j), load(p, 2 * j + 1)
        slot = row + 2 * j
        ar = load(matrix, slot) - vr * zr - vi * zi - wr * yr - wi * yi
        ai = load(matrix, slot + 1) - vi * zr + vr * zi - wi * yr + wr * yi
        store(matrix, slot, ar)
        store(matrix, slot + 1, ai)
        pr = pr + ar * xr - ai * xi
        pi = pi + ar * xi + ai * xr
        qr = qr + ar * ur + ai * ui
        qi = qi + ar * ui - ai * ur
        slot = below + 2 * j
        ar = load(matrix, slot) - vr1 * zr - vi1 * zi - wr1 * yr - wi1 * yi
        ai = load(matrix, slot + 1) - vi1 * zr + vr1 * zi - wi1 * yr + wr1 * yi
        store(matrix, slot, ar)
        store(matrix, slot + 1, ai)
        pr1 = pr1 + ar * xr - ai * xi
        pi1 = pi1 + ar * xi + ai * xr
        store(p, 2 * j, qr + ar * ur1 + ai * ui1)
        store(p, 2 * j + 1, qi + ar * ui1 - ai * ur1)
    store(p, 2 * i, pr)
    store(p, 2 * i + 1, pi)
    store(p, 2 * i + 2, pr1)
    store(p, 2 * i + 3, pi1)


@jit
def _update_and_multiply(matrix, v, w, u, p, k, c):
    """A -= v w^H + w v^H on rows and columns from k + 1 on, and p = A u, in one pass over A."""
    first = k + 1
    for i in range(2 * first, 2 * c):
        store(p, i, fill(p, 0))
    odd = (c - first) % 2
    if odd:
        _diagonal_element(matrix, v, w, u, p, first)
    for i in range(first + odd, c, 2):
        _two_rows(matrix, v, w, u, p, i, first)
        _diagonal_element(matrix, v, w, u, p, i)
        _row(matrix, v, w, u, p, i + 1, i, i + 1)
        _diagonal_element(matrix, v, w, u, p, i + 1)


@jit
def _tridiagonalise(matrix, work, diagonal, squares, group, groups, c, thinnest):
    """Diagonal and squared off-diagonal of a matrix that is unitarily similar; in register `group` of wide slots."""
    lanes = len(work) // (8 * c)
    v, w = work[: 2 * c * lanes], work[2 * c * lanes : 4 * c * lanes]
    u, p = work[4 * c * lanes : 6 * c * lanes], work[6 * c * lanes :]
    v[:] = 0
    w[:] = 0
    thin = fill(work, thinnest)
    for k in range(c):
        vr, vi, wr, wi = load(v, 2 * k), load(v, 2 * k + 1), load(w, 2 * k), load(w, 2 * k + 1)
        twice = vr * wr + vi * wi
        store(diagonal, k * groups + group, to_double(load(matrix, k * (k + 3)) - twice - twice))
        for i in range(k + 1, c):  # the column, updated ahead of the rest: the next reflector needs it
            slot = i * (i + 1) + 2 * k
            yr, yi, zr, zi = load(v, 2 * i), load(v, 2 * i + 1), load(w, 2 * i), load(w, 2 * i + 1)
            store(u, 2 * i, load(matrix, slot) - yr * wr - yi * wi - zr * vr - zi * vi)
            store(u, 2 * i + 1, load(matrix, slot + 1) - yi * wr + yr * wi - zi * vr + zr * vi)
        if k == c - 1:
            break
        if k == c - 2:
            re, im = load(u, 2 * k + 2), load(u, 2 * k + 3)
            store(squares, k * groups + group, to_double(re * re + im * im))
            continue  # one element is left below the diagonal: nothing to reflect
        square, factor = _reflector(u, k, c, thin)
        store(squares, k * groups + group, to_double(square))
        _update_and_multiply(matrix, v, w, u, p, k, c)
        dot = fill(work, 0)
        for i in range(2 * k + 2, 2 * c):
            dot = dot + load(u, i) * load(p, i)
        half = fill(work, 0.5) * factor * (factor * dot)  # factor * factor may overflow
        for i in range(2 * k + 2, 2 * c):
            x = load(u, i)
            store(v, i, x)
            store(w, i, factor * load(p, i) - half * x)


@jit
def _ql(diagonal, squares, c, tolerance):
    """Eigenvalues in place of `diagonal`, of wide slots; False if a lane did not converge."""
    zero, one, two = fill_wide(diagonal, 0), fill_wide(diagonal, 1), fill_wide(diagonal, 2)
    close, tiny = fill_wide(diagonal, tolerance), fill_wide(diagonal, 1e-150)
    for top in range(c - 1):
        sweep = 0
        while True:
            off = load_wide(squares, top)
            if not any_less(close, off):
                break
            if sweep == _SWEEPS:
                return False
            sweep += 1
            safe = where_less(close, off, off, one)
            first = load_wide(diagonal, top)
            e = root(safe)
            ratio = (load_wide(diagonal, top + 1) - first) / (two * e)
            hypotenuse = root(ratio * ratio + one)
            shift = first - e / (ratio + where_less(ratio, zero, zero - hypotenuse, hypotenuse))
            cosine, sine = one, zero
            last = load_wide(diagonal, c - 1)
            gamma = last - shift
            p = gamma * gamma
            for i in range(c - 2, top - 1, -1):
                square = load_wide(squares, i)
                sum_ = p + square
                if i < c - 2:
                    old = load_wide(squares, i + 1)
                    store(squares, i + 1, where_less(close, off, sine * sum_, old))
                earlier = cosine
                # one division for 1 / sum and 1 / p; what is below 1e-150 of the norm's square is zero
                safe_sum, safe_p = where_less(sum_, tiny, one, sum_), where_less(p, tiny, one, p)
                joint = one / (safe_sum * safe_p)
                inverse = safe_p * joint
                cosine = where_less(sum_, tiny, one, p * inverse)
                sine = where_less(sum_, tiny, zero, square * inverse)
                previous = gamma
                alpha = load_wide(diagonal, i)
                gamma = cosine * (alpha - shift) - sine * previous
                old = load_wide(diagonal, i + 1)
                store(diagonal, i + 1, where_less(close, off, previous + (alpha - gamma), old))
                grown = gamma * gamma
                p = where_less(p, tiny, earlier * square, grown * (safe_sum * (safe_sum * joint)))
                p = where_less(sum_, tiny, grown, p)
            store(squares, top, where_less(close, off, sine * p, off))
            store(diagonal, top, where_less(close, off, shift + gamma, first))
    return True


@jit
def _assemble(lags, cosines, sines, first, lanes, matrix, tables, scales):
    """Gram matrices sum_d lags[..., d] (cos below, sin above the diagonal) of `lanes` frequencies from `first` on.

    Each is scaled by a power of two to about 1: its largest element is on its diagonal.
    """
    count, h, c = len(cosines), lags.shape[2], lags.shape[0]
    flat = lags.reshape(-1)
    for lane in range(lanes):
        row = min(first + lane, count - 1)
        largest = lags.dtype.type(0)
        for i in range(c):
            element = lags.dtype.type(0)
            for d in range(h):
                element += lags[i, i, d] * cosines[row, d]
            largest = max(largest, abs(element))
        scale = matrix.dtype.type(1)
        if 0 < largest < np.inf:
            scale = matrix.dtype.type(2.0 ** -math.frexp(largest)[1])
        scales[lane] = 1 / scale
        for d in range(h):
            tables[d * lanes + lane] = cosines[row, d] * scale
            tables[(h + d) * lanes + lane] = sines[row, d] * scale
    for i in range(c):
        row = i * (i + 1)
        for j in range(i + 1):
            below, above = (i * c + j) * h, (j * c + i) * h
            re, im = fill(matrix, 0), fill(matrix, 0)
            for d in range(h):
                re = re + fill(matrix, flat[below + d]) * load(tables, d)
                im = im + fill(matrix, flat[above + d]) * load(tables, h + d)
            store(matrix, row + 2 * j, re)
            store(matrix, row + 2 * j + 1, im)
        store(matrix, row + 2 * i + 1, fill(matrix, 0))


@jit
def _finish(diagonal, squares, scales, eps, c, first, out):
    """QL on the matrices of a wide slot and their eigenvalues into `out`; False if an iteration did not converge."""
    # elements are at most 1: an off-diagonal below this moves no eigenvalue by more
    if not _ql(diagonal, squares, c, max(eps / 32, 2.2e-16) ** 2):
        return False
    for lane in range(min(WIDE, len(out) - first)):
        for i in range(c):
            out[first + lane, i] = diagonal[i * WIDE + lane] * scales[lane]
    return True


@entry
def eigenvalues(packed, out):
    """Eigenvalues (n, c), in no order, of packed matrices (n, c, c); False if an iteration did not converge."""
    count, c = packed.shape[0], packed.shape[1]
    lanes = REGISTER // packed.itemsize
    groups = WIDE // lanes
    eps = np.finfo(packed.dtype).eps
    matrix = np.empty(c * (c + 1) * lanes, packed.dtype)
    work = np.zeros(8 * c * lanes, packed.dtype)
    diagonal, squares = np.zeros(c * WIDE), np.zeros(c * WIDE)
    scales = np.ones(WIDE, packed.dtype)
    for first in range(0, count, WIDE):
        for group in range(min(groups, -(-(count - first) // lanes))):
            own = scales[group * lanes : (group + 1) * lanes]
            _interleave(packed, first + group * lanes, lanes, matrix, own)
            _tridiagonalise(matrix, work, diagonal, squares, group, groups, c, (eps * 1e-3) ** 2)
        if not _finish(diagonal, squares, scales, eps, c, first, out):
            return False
    return True


@entry
def gram_eigenvalues(lags, cosines, sines, out):
    """As `eigenvalues`, of the Gram matrices sum_d lags[..., d] (cos_d below, sin_d above the diagonal), (f, c).

    No Gram matrix is ever in memory but those of one register.
    """
    count, c, h = len(cosines), lags.shape[0], lags.shape[2]
    lanes = REGISTER // lags.itemsize
    groups = WIDE // lanes
    eps = np.finfo(lags.dtype).eps
    matrix = np.empty(c * (c + 1) * lanes, lags.dtype)
    work, tables = np.zeros(8 * c * lanes, lags.dtype), np.empty(2 * h * lanes, lags.dtype)
    diagonal, squares = np.zeros(c * WIDE), np.zeros(c * WIDE)
    scales = np.ones(WIDE, lags.dtype)
    for first in range(0, count, WIDE):
        for group in range(min(groups, -(-(count - first) // lanes))):
            own = scales[group * lanes : (group + 1) * lanes]
            _assemble(lags, cosines, sines, first + group * lanes, lanes, matrix, tables, own)
            _tridiagonalise(matrix, work, diagonal, squares, group, groups, c, (eps * 1e-3) ** 2)
        if not _finish(diagonal, squares, scales, eps, c, first, out):
            return False
    return True
