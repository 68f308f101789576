"""Complex FFTs of float32, one per SIMD lane: no element ever changes its lane.

Slot 2 i of a work array is a register with the real parts of element i of all lanes' vectors, slot 2 i + 1 with the
imaginary parts. Stockham's form: every pass over a factor r of the length reads one array and writes the other in an
order that leaves the result sorted, without bit reversal. Butterflies stay in registers.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from .vector import fill, jit, load, store

__all__ = ["plan", "transform"]


@functools.lru_cache(maxsize=64)
def plan(n: int) -> tuple[NDArray[np.int64], NDArray[np.float32]] | None:
    """(radices, twiddles) of a transform of length n, or None where a factor is above 7.

    Twiddles e^(-2 pi i j p / length) of a pass of radix r: for p = 0 .. length / r - 1, in it j = 1 .. r - 1,
    in it cos and sin.
    """
    radices, rest = [], n
    for radix in (7, 5, 3):
        while rest % radix == 0:
            radices.append(radix)
            rest //= radix
    twos = rest.bit_length() - 1
    if rest != 1 << twos:
        return None
    eights = (twos - 2 * (-twos % 3)) // 3 if twos > 1 else 0
    fours = (twos - 3 * eights) // 2
    radices += [8] * eights + [4] * fours + [2] * (twos - 3 * eights - 2 * fours)
    radices.sort(reverse=True)
    twiddles, length = [np.zeros(0)], n
    for radix in radices:
        p, j = np.arange(length // radix)[:, None], np.arange(1, radix)
        angle = -2 * np.pi * (p * j) / length
        twiddles.append(np.stack([np.cos(angle), np.sin(angle)], axis=-1).reshape(-1))
        length //= radix
    return np.array(radices, dtype=np.int64), np.concatenate(twiddles).astype(np.float32)


@jit
def transform(radices, twiddles, x, y):
    """DFT of every lane of x, which is overwritten; the result is in the one of x and y that is returned."""
    m, s, first = np.int64(1), np.int64(1), np.int64(0)  # literals would be types of their own, compiled again
    for radix in radices:
        m *= radix
    for radix in radices:
        m //= radix
        if radix == 8:
            _pass8(x, y, m, s, twiddles, first)
        elif radix == 7:
            _pass7(x, y, m, s, twiddles, first)
        elif radix == 5:
            _pass5(x, y, m, s, twiddles, first)
        elif radix == 4:
            _pass4(x, y, m, s, twiddles, first)
        elif radix == 3:
            _pass3(x, y, m, s, twiddles, first)
        else:
            _pass2(x, y, m, s, twiddles, first)
        first += 2 * m * (radix - 1)
        s *= radix
        x, y = y, x
    return x


@jit
def _put(y, slot, re, im, twiddles, at):
    """Store re + i im times a twiddle."""
    c, s = fill(y, twiddles[at]), fill(y, twiddles[at + 1])
    store(y, slot, re * c - im * s)
    store(y, slot + 1, re * s + im * c)


@jit
def _pass2(x, y, m, s, twiddles, first):
    for p in range(m):
        at = first + 2 * p
        for q in range(s):
            i, o = 2 * (q + s * p), 2 * (q + 2 * s * p)
            ar, ai = load(x, i), load(x, i + 1)
            i += 2 * s * m
            br, bi = load(x, i), load(x, i + 1)
            store(y, o, ar + br)
            store(y, o + 1, ai + bi)
            _put(y, o + 2 * s, ar - br, ai - bi, twiddles, at)


@jit
def _pass3(x, y, m, s, twiddles, first):
    half, sine = fill(x, 0.5), fill(x, 0.8660254037844386)
    step, jump = 2 * s * m, 2 * s
    for p in range(m):
        at = first + 4 * p
        for q in range(s):
            i, o = 2 * (q + s * p), 2 * (q + 3 * s * p)
            ar, ai = load(x, i), load(x, i + 1)
            br, bi = load(x, i + step), load(x, i + step + 1)
            cr, ci = load(x, i + 2 * step), load(x, i + 2 * step + 1)
            tr, ti, ur, ui = br + cr, bi + ci, (br - cr) * sine, (bi - ci) * sine
            store(y, o, ar + tr)
            store(y, o + 1, ai + ti)
            vr, vi = ar - half * tr, ai - half * ti
            _put(y, o + jump, vr + ui, vi - ur, twiddles, at)
            _put(y, o + 2 * jump, vr - ui, vi + ur, twiddles, at + 2)


@jit
def _pass4(x, y, m, s, twiddles, first):
    step, jump = 2 * s * m, 2 * s
    for p in range(m):
        at = first + 6 * p
        for q in range(s):
            i, o = 2 * (q + s * p), 2 * (q + 4 * s * p)
            ar, ai = load(x, i), load(x, i + 1)
            br, bi = load(x, i + step), load(x, i + step + 1)
            cr, ci = load(x, i + 2 * step), load(x, i + 2 * step + 1)
            dr, di = load(x, i + 3 * step), load(x, i + 3 * step + 1)
            er, ei, fr, fi = ar + cr, ai + ci, ar - cr, ai - ci
            gr, gi, hr, hi = br + dr, bi + di, br - dr, bi - di
            store(y, o, er + gr)
            store(y, o + 1, ei + gi)
            _put(y, o + jump, fr + hi, fi - hr, twiddles, at)
            _put(y, o + 2 * jump, er - gr, ei - gi, twiddles, at + 2)
            _put(y, o + 3 * jump, fr - hi, fi + hr, twiddles, at + 4)


@jit
def _pass5(x, y, m, s, twiddles, first):
    c1, c2 = fill(x, 0.30901699437494745), fill(x, -0.8090169943749475)
    s1, s2 = fill(x, 0.9510565162951535), fill(x, 0.5877852522924731)
    step, jump = 2 * s * m, 2 * s
    for p in range(m):
        at = first + 8 * p
        for q in range(s):
            i, o = 2 * (q + s * p), 2 * (q + 5 * s * p)
            ar, ai = load(x, i), load(x, i + 1)
            br, bi = load(x, i + step), load(x, i + step + 1)
            cr, ci = load(x, i + 2 * step), load(x, i + 2 * step + 1)
            dr, di = load(x, i + 3 * step), load(x, i + 3 * step + 1)
            er, ei = load(x, i + 4 * step), load(x, i + 4 * step + 1)
            tr1, ti1, ur1, ui1 = br + er, bi + ei, br - er, bi - ei
            tr2, ti2, ur2, ui2 = cr + dr, ci + di, cr - dr, ci - di
            store(y, o, ar + tr1 + tr2)
            store(y, o + 1, ai + ti1 + ti2)
            vr, vi = ar + c1 * tr1 + c2 * tr2, ai + c1 * ti1 + c2 * ti2
            wr, wi = s1 * ur1 + s2 * ur2, s1 * ui1 + s2 * ui2
            _put(y, o + jump, vr + wi, vi - wr, twiddles, at)
            _put(y, o + 4 * jump, vr - wi, vi + wr, twiddles, at + 6)
            vr, vi = ar + c2 * tr1 + c1 * tr2, ai + c2 * ti1 + c1 * ti2
            wr, wi = s2 * ur1 - s1 * ur2, s2 * ui1 - s1 * ui2
            _put(y, o + 2 * jump, vr + wi, vi - wr, twiddles, at + 2)
            _put(y, o + 3 * jump, vr - wi, vi + wr, twiddles, at + 4)


@jit
def _pass7(x, y, m, s, twiddles, first):
    c1, c2, c3 = fill(x, 0.6234898018587336), fill(x, -0.22252093395631434), fill(x, -0.9009688679024191)
    s1, s2, s3 = fill(x, 0.7818314824680298), fill(x, 0.9749279121818236), fill(x, 0.4338837391175582)
    step, jump = 2 * s * m, 2 * s
    for p in range(m):
        at = first + 12 * p
        for q in range(s):
            i, o = 2 * (q + s * p), 2 * (q + 7 * s * p)
            ar, ai = load(x, i), load(x, i + 1)
            br, bi, er, ei = load(x, i + step), load(x, i + step + 1), load(x, i + 6 * step), load(x, i + 6 * step + 1)
            tr1, ti1, ur1, ui1 = br + er, bi + ei, br - er, bi - ei
            i += 2 * step
            br, bi, er, ei = load(x, i), load(x, i + 1), load(x, i + 3 * step), load(x, i + 3 * step + 1)
            tr2, ti2, ur2, ui2 = br + er, bi + ei, br - er, bi - ei
            i += step
            br, bi, er, ei = load(x, i), load(x, i + 1), load(x, i + step), load(x, i + step + 1)
            tr3, ti3, ur3, ui3 = br + er, bi + ei, br - er, bi - ei
            store(y, o, ar + tr1 + (tr2 + tr3))
            store(y, o + 1, ai + ti1 + (ti2 + ti3))
            vr, vi = ar + c1 * tr1 + c2 * tr2 + c3 * tr3, ai + c1 * ti1 + c2 * ti2 + c3 * ti3
            wr, wi = s1 * ur1 + s2 * ur2 + s3 * ur3, s1 * ui1 + s2 * ui2 + s3 * ui3
            _put(y, o + jump, vr + wi, vi - wr, twiddles, at)
            _put(y, o + 6 * jump, vr - wi, vi + wr, twiddles, at + 10)
            vr, vi = ar + c2 * tr1 + c3 * tr2 + c1 * tr3, ai + c2 * ti1 + c3 * ti2 + c1 * ti3
            wr, wi = s2 * ur1 - s3 * ur2 - s1 * ur3, s2 * ui1 - s3 * ui2 - s1 * ui3
            _put(y, o + 2 * jump, vr + wi, vi - wr, twiddles, at + 2)
            _put(y, o + 5 * jump, vr - wi, vi + wr, twiddles, at + 8)
            vr, vi = ar + c3 * tr1 + c1 * tr2 + c2 * tr3, ai + c3 * ti1 + c1 * ti2 + c2 * ti3
            wr, wi = s3 * ur1 - s1 * ur2 + s2 * ur3, s3 * ui1 - s1 * ui2 + s2 * ui3
            _put(y, o + 3 * jump, vr + wi, vi - wr, twiddles, at + 4)
            _put(y, o + 4 * jump, vr - wi, vi + wr, twiddles, at + 6)


@jit
def _pass8(x, y, m, s, twiddles, first):
    diagonal = fill(x, 0.7071067811865476)
    step, jump = 2 * s * m, 2 * s
    for p in range(m):
        at = first + 14 * p
        for q in range(s):
            i, o = 2 * (q + s * p), 2 * (q + 8 * s * p)
            ar, ai, br, bi = load(x, i), load(x, i + 1), load(x, i + 4 * step), load(x, i + 4 * step + 1)
            er, ei, fr, fi = ar + br, ai + bi, ar - br, ai - bi
            i += 2 * step
            ar, ai, br, bi = load(x, i), load(x, i + 1), load(x, i + 4 * step), load(x, i + 4 * step + 1)
            gr, gi, hr, hi = ar + br, ai + bi, ar - br, ai - bi
            # even inputs: b_0 .. b_3 of their DFT of length 4
            e0r, e0i, e2r, e2i = er + gr, ei + gi, er - gr, ei - gi
            e1r, e1i, e3r, e3i = fr + hi, fi - hr, fr - hi, fi + hr
            i -= step
            ar, ai, br, bi = load(x, i), load(x, i + 1), load(x, i + 4 * step), load(x, i + 4 * step + 1)
            er, ei, fr, fi = ar + br, ai + bi, ar - br, ai - bi
            i += 2 * step
            ar, ai, br, bi = load(x, i), load(x, i + 1), load(x, i + 4 * step), load(x, i + 4 * step + 1)
            gr, gi, hr, hi = ar + br, ai + bi, ar - br, ai - bi
            o0r, o0i, o2r, o2i = er + gr, ei + gi, er - gr, ei - gi
            o1r, o1i, o3r, o3i = fr + hi, fi - hr, fr - hi, fi + hr
            store(y, o, e0r + o0r)
            store(y, o + 1, e0i + o0i)
            _put(y, o + 4 * jump, e0r - o0r, e0i - o0i, twiddles, at + 6)
            _put(y, o + 2 * jump, e2r + o2i, e2i - o2r, twiddles, at + 2)
            _put(y, o + 6 * jump, e2r - o2i, e2i + o2r, twiddles, at + 10)
            dr, di = (o1r + o1i) * diagonal, (o1i - o1r) * diagonal  # times e^(-i pi / 4)
            _put(y, o + jump, e1r + dr, e1i + di, twiddles, at)
            _put(y, o + 5 * jump, e1r - dr, e1i - di, twiddles, at + 8)
            dr, di = (o3i - o3r) * diagonal, (o3r + o3i) * diagonal  # times e^(-3 i pi / 4), without its signs
            _put(y, o + 3 * jump, e3r + dr, e3i - di, twiddles, at + 4)
            _put(y, o + 7 * jump, e3r - dr, e3i + di, twiddles, at + 12)
