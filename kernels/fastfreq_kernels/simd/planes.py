"""Real planes to half planes of frequencies and back by `fft`, one image's planes in cache at a time.

Columns first: a register holds LANES neighbouring columns as the real parts, the next LANES columns are the imaginary
parts, so a row of 2 LANES pixels is read as it lies and one complex FFT transforms all of them. What is left of the two
after separation are rows 0 .. h / 2 of frequencies; transposed, LANES of these rows are transformed at a time.

A spectrum has the shape (groups, columns, 2, LANES), flat: the real and the imaginary parts of row LANES group + lane.
`columns` is the width rounded up to 2 LANES, past which nothing is read.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .fft import plan, transform
from .moves import LANES, floats, transpose
from .vector import fill, jit, load, store

__all__ = ["LANES", "Shape", "mean_of", "shape_of", "to_columns", "to_rows"]


class Shape(NamedTuple):
    """Of planes, with what their transforms need."""

    h: int
    w: int
    groups: int  # of LANES rows of frequencies
    columns: int
    row_radices: NDArray[np.int64]  # of transforms along a row, of length w
    row_twiddles: NDArray[np.float32]
    column_radices: NDArray[np.int64]  # of transforms along a column, of length h
    column_twiddles: NDArray[np.float32]
    row_weights: NDArray[np.float32]  # (groups * LANES,) rows of the whole plane that each row stands for, or 0
    spectrum_size: int  # floats in the spectrum of a plane
    buffer_size: int  # floats in a buffer of a transform


def shape_of(h: int, w: int) -> Shape | None:
    """None where a side has a prime factor above 7."""
    along_row, along_column = plan(w), plan(h)
    if along_row is None or along_column is None:
        return None
    groups, columns = -(-(h // 2 + 1) // LANES), -(-w // (2 * LANES)) * 2 * LANES
    k = np.arange(groups * LANES)
    weights = np.where(k > h // 2, 0, np.where((k == 0) | (2 * k == h), 1, 2)).astype(np.float32)
    sizes = groups * columns * 2 * LANES, max(h, columns) * 2 * LANES
    return Shape(h, w, groups, columns, *along_row, *along_column, weights, *sizes)


@jit
def mean_of(pixels, x):
    """Of a flat plane, in its own units; to rounding, so what is subtracted has to be what is added again."""
    a = b = c = d = fill(x, 0.0)
    i, count = 0, len(pixels)
    while i + 4 * LANES <= count:
        a = a + floats(pixels, i)
        b = b + floats(pixels, i + LANES)
        c = c + floats(pixels, i + 2 * LANES)
        d = d + floats(pixels, i + 3 * LANES)
        i += 4 * LANES
    store(x, 0, (a + b) + (c + d))
    total = 0.0
    for lane in range(LANES):
        total += x[lane]
    while i < count:
        total += pixels[i]
        i += 1
    return np.float32(total / count)


@jit
def _read(pixels, w, first, shift, x):
    """2 LANES columns of a flat plane of width w from `first` on, less `shift`; zeros past its last."""
    h = len(pixels) // w
    if first + 2 * LANES <= w:
        level = fill(x, shift)
        for i in range(h):
            at = i * w + first
            store(x, 2 * i, floats(pixels, at) - level)
            store(x, 2 * i + 1, floats(pixels, at + LANES) - level)
        return
    x[: h * 2 * LANES] = 0
    for i in range(h):
        for j in range(w - first):
            x[i * 2 * LANES + j] = np.float32(pixels[i * w + first + j]) - shift


@jit
def to_rows(pixels, shift, scale, shape, spectrum, x, y, corner):
    """Transform the columns of a flat plane less `shift`, times `scale`: what is left are transforms along rows.

    corner: 4 LANES registers of scratch; x and y: the buffers of a transform.
    """
    h, rows = shape.h, shape.h // 2 + 1
    half = fill(x, np.float32(0.5) * scale)
    for first in range(0, shape.w, 2 * LANES):
        _read(pixels, shape.w, first, shift, x)
        z = transform(shape.column_radices, shape.column_twiddles, x, y)
        for group in range(shape.groups):
            for i in range(LANES):
                k = min(group * LANES + i, rows - 1)
                twin = h - k if k else 0
                zr, zi, tr, ti = load(z, 2 * k), load(z, 2 * k + 1), load(z, 2 * twin), load(z, 2 * twin + 1)
                store(corner, i, (zr + tr) * half)
                store(corner, LANES + i, (zi - ti) * half)
                store(corner, 2 * LANES + i, (zi + ti) * half)
                store(corner, 3 * LANES + i, (tr - zr) * half)
            at = 2 * (group * shape.columns + first)
            transpose(corner, 0, 1, spectrum, at, 2)
            transpose(corner, LANES, 1, spectrum, at + 1, 2)
            at += 2 * LANES
            transpose(corner, 2 * LANES, 1, spectrum, at, 2)
            transpose(corner, 3 * LANES, 1, spectrum, at + 1, 2)


@jit
def to_columns(spectrum, first, wanted, shape, x, y, corner):
    """2 LANES columns from `first` on of the plane whose rows are transformed back; rows of 2 LANES pixels, flat.

    spectrum: with the parts swapped, imaginary before real, as an inverse transform is a forward one between two swaps.
    wanted: (groups,), false where a group is all zero and need not be read.
    """
    h, rows = shape.h, shape.h // 2 + 1
    zero = fill(x, 0.0)
    for group in range(shape.groups):
        start = group * LANES
        count = min(LANES, rows - start)
        if not wanted[group]:
            for k in range(start, start + count):
                twin = h - k if k else 0
                store(x, 2 * k, zero)
                store(x, 2 * k + 1, zero)
                store(x, 2 * twin, zero)
                store(x, 2 * twin + 1, zero)
            continue
        at = 2 * (group * shape.columns + first)
        transpose(spectrum, at, 2, corner, 0, 1)
        transpose(spectrum, at + 1, 2, corner, LANES, 1)
        at += 2 * LANES
        transpose(spectrum, at, 2, corner, 2 * LANES, 1)
        transpose(spectrum, at + 1, 2, corner, 3 * LANES, 1)
        for i in range(count):
            k = start + i
            twin = h - k if k else 0
            ai, ar = load(corner, i), load(corner, LANES + i)
            bi, br = load(corner, 2 * LANES + i), load(corner, 3 * LANES + i)
            # of b + i a, whose inverse has the first columns as its imaginary part, swapped
            if k == twin:
                store(x, 2 * k, ar)
                store(x, 2 * k + 1, br)
            else:
                store(x, 2 * k, ar + bi)
                store(x, 2 * k + 1, br - ai)
                store(x, 2 * twin, ar - bi)
                store(x, 2 * twin + 1, br + ai)
    return transform(shape.column_radices, shape.column_twiddles, x, y)
