"""`dwt2` and `idwt2` compiled: one level of a plane in one pass, all four bands of a row of coefficients at a time.

Columns first, a register of neighbouring columns at a time: two filtered rows, split as they are stored into their even
and odd samples, so that the filters along the row, which step by two, read registers as they lie. The rows stay in the
first-level cache; a plane is read once and its bands are written once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastfreq_kernels.simd.entry import entry
from fastfreq_kernels.simd.moves import LANES, evens, floats, odds, put, zip_high, zip_low
from fastfreq_kernels.simd.vector import fill, jit, store, where_less

__all__ = ["LANES", "Across", "Along", "Back", "Shrink", "analyse", "synthesise"]


class Across(NamedTuple):
    """Filters across rows: row o of coefficients is the sum over j < counts[o] of weight times row start."""

    counts: NDArray[np.int64]  # (h',)
    starts: NDArray[np.int64]  # (h', taps + 2), of rows in a plane
    low: NDArray[np.float32]  # (h', taps + 2)
    high: NDArray[np.float32]  # (h', taps + 2)


class Along(NamedTuple):
    """Filters along rows of w samples to `size` coefficients.

    Extended sample t of a row lies at t / 2 where t is even, at half + (t - 1) / 2 where it is odd. The samples beyond
    the row's own, at `target`, are scale row[source] + first row[ends[0]] + last row[ends[1]].
    """

    w: int
    size: int
    before: int  # extended samples before the row's own
    half: int
    target: NDArray[np.int64]
    source: NDArray[np.int64]
    scale: NDArray[np.float32]
    first: NDArray[np.float32]
    last: NDArray[np.float32]
    ends: NDArray[np.int64]  # (2,) where the first and the last sample lie
    low: NDArray[np.float32]  # (taps,), last first: low[t] is the weight of extended sample 2 o + t
    high: NDArray[np.float32]


class Shrink(NamedTuple):
    """What is done to details."""

    kind: int  # 0 nothing, 1 hard, 2 soft
    rectified: bool
    threshold: np.float32
    above: np.float32  # the next number


class Back(NamedTuple):
    """One axis of a synthesis: see `_geometry.Synthesis`."""

    size: int  # of samples
    shift: int
    before: int
    source: NDArray[np.int64]  # of a coefficient, as many as are read
    low: NDArray[np.float32]  # (taps,)
    high: NDArray[np.float32]


@entry
def analyse(flat, start, across, along, shrink, out, place, work):
    """The four bands (4, h', w') of a plane (h, w).

    flat holds the plane from `start` on, and 2 LANES numbers more; out gets the bands from `place` on; work (2, size)
    is scratch, a row of each filter across rows.
    """
    rows = len(across.counts)
    low, high = work[0], work[1]
    for o in range(rows):
        _filter_columns(flat, start, across, o, along, low, high)
        _extend(low, high, along)
        _filter_row(along, shrink, out, place + o * along.size, rows * along.size, low, high)


@jit
def _filter_columns(flat, start, across, o, along, low, high):
    """Row o of both filters, even and odd extended samples apart."""
    begin, half = along.before // 2, along.half
    evens_at, odds_at = begin, half + begin
    if along.before % 2:  # the row starts with an odd one
        evens_at, odds_at = half + begin, begin + 1
    zero = fill(low, 0.0)
    for x in range(0, along.w, 2 * LANES):
        a, b, c, d = zero, zero, zero, zero
        for j in range(across.counts[o]):
            at = start + across.starts[o, j] + x
            p, q = floats(flat, at), floats(flat, at + LANES)
            f, g = fill(low, across.low[o, j]), fill(low, across.high[o, j])
            a, b, c, d = a + p * f, b + q * f, c + p * g, d + q * g
        k = x // 2
        put(low, evens_at + k, evens(a, b))
        put(low, odds_at + k, odds(a, b))
        put(high, evens_at + k, evens(c, d))
        put(high, odds_at + k, odds(c, d))


@jit
def _extend(low, high, along):
    """The samples beyond the two rows' own."""
    target, source, scale, first, last = along.target, along.source, along.scale, along.first, along.last
    low_begin, low_end = low[along.ends[0]], low[along.ends[1]]
    high_begin, high_end = high[along.ends[0]], high[along.ends[1]]
    for i in range(len(target)):
        at, to, factor, begin, end = source[i], target[i], scale[i], first[i], last[i]
        low[to] = factor * low[at] + begin * low_begin + end * low_end
        high[to] = factor * high[at] + begin * high_begin + end * high_end


@jit
def _filter_row(along, shrink, out, place, band, low_row, high_row):
    """Both filters along both rows, shrunk, to the four bands, `band` numbers apart."""
    count, half, taps = along.size, along.half, len(along.low)
    zero, limit, above = fill(low_row, 0.0), fill(low_row, shrink.threshold), fill(low_row, shrink.above)
    for block in range(-(-count // LANES)):
        o = block * LANES
        if o + LANES > count >= LANES:
            o = count - LANES
        aa, da, ad, dd = zero, zero, zero, zero
        for q in range(taps // 2):
            f, g = fill(low_row, along.low[2 * q]), fill(low_row, along.high[2 * q])
            a, d = floats(low_row, o + q), floats(high_row, o + q)
            aa, da, ad, dd = aa + a * f, da + d * f, ad + a * g, dd + d * g
            f, g = fill(low_row, along.low[2 * q + 1]), fill(low_row, along.high[2 * q + 1])
            a, d = floats(low_row, half + o + q), floats(high_row, half + o + q)
            aa, da, ad, dd = aa + a * f, da + d * f, ad + a * g, dd + d * g
        if shrink.kind:
            da = _shrunk(da, shrink, zero, limit, above)
            ad = _shrunk(ad, shrink, zero, limit, above)
            dd = _shrunk(dd, shrink, zero, limit, above)
        at = place + o
        if count >= LANES:
            put(out, at, aa)
            put(out, at + band, da)
            put(out, at + 2 * band, ad)
            put(out, at + 3 * band, dd)
        else:
            _put_few(out, at, band, count, (aa, da, ad, dd), low_row)


@jit
def _put_few(out, at, band, count, values, spare):
    """The first numbers of registers, by way of a row that is not needed any more."""
    for k in range(4):
        store(spare, k, values[k])
    for k in range(4):
        for i in range(count):
            out[at + k * band + i] = spare[k * LANES + i]


@jit
def _shrunk(value, shrink, zero, limit, above):
    """As `_reference.shrunk`; an ordered comparison with NaN is false, so that NaN stays."""
    magnitude = where_less(value, zero, zero - value, value)
    left = magnitude - limit if shrink.kind == 2 else magnitude
    if not shrink.rectified:
        left = where_less(value, zero, zero - left, left)
    return where_less(magnitude, above, zero, left)


@entry
def synthesise(smooth, start, stride, details, first, wide, band, across, along, out, place, work):
    """A plane (h, w) of an approximation, its rows `stride` apart, and three bands of details, `band` numbers apart.

    smooth holds the approximation from `start` on, details the details from `first` on, in rows of `wide` coefficients,
    and both LANES numbers more; out gets the plane from `place` on; work (3, size) is scratch.
    """
    half = len(across.low) // 2
    for i in range(across.size):
        u = across.shift + i
        k = across.before + u // 2
        _combine_rows(smooth, start, stride, details, first, wide, band, across, along, u % 2, k, half, work)
        for row in work[:2]:
            if along.before:
                _wrap(row, wide, along)
        _merge(along, out, place + i * along.size, work)


@jit
def _combine_rows(smooth, start, stride, details, first, wide, band, across, along, odd, k, half, work):
    """Rows of coefficients to the two rows, low and high along them, of samples of one row."""
    zero = fill(work[0], 0.0)
    for x in range(0, wide, LANES):
        a, d = zero, zero
        for q in range(half):
            row = across.source[k - q]
            at = first + row * wide + x
            low, high = fill(work[0], across.low[2 * q + odd]), fill(work[0], across.high[2 * q + odd])
            a = a + floats(smooth, start + row * stride + x) * low + floats(details, at) * high
            d = d + floats(details, at + band) * low + floats(details, at + 2 * band) * high
        put(work[0], along.before + x, a)
        put(work[1], along.before + x, d)


@jit
def _wrap(row, wide, along):
    """Coefficients before and behind a row's own."""
    for i in range(len(along.source) - wide):
        t = i if i < along.before else i + wide
        row[t] = row[along.before + along.source[t]]


@jit
def _merge(along, out, place, work):
    """Two rows of coefficients to a row of samples: even and odd ones, then side by side."""
    low_row, high_row, samples = work[0], work[1], work[2]
    zero = fill(low_row, 0.0)
    first = along.shift // 2
    skipped = along.shift % 2  # the first even sample lies before the row
    half = len(along.low) // 2
    for block in range(-(-(along.size + skipped) // (2 * LANES))):
        at = along.before + first + block * LANES
        even, odd = zero, zero
        for q in range(half):
            a, d = floats(low_row, at - q), floats(high_row, at - q)
            even = even + a * fill(low_row, along.low[2 * q]) + d * fill(low_row, along.high[2 * q])
            odd = odd + a * fill(low_row, along.low[2 * q + 1]) + d * fill(low_row, along.high[2 * q + 1])
        store(samples, 2 * block, zip_low(even, odd))
        store(samples, 2 * block + 1, zip_high(even, odd))
    x = 0
    while x + LANES <= along.size:
        put(out, place + x, floats(samples, x + skipped))
        x += LANES
    while x < along.size:
        out[place + x] = samples[x + skipped]
        x += 1
