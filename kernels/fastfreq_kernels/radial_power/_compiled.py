"""`radial_power` compiled: a plane goes through every step while it is in cache, and nothing else is in memory.

Frequencies stay in the order of `_lane_planes`: for each register of LANES rows of frequencies and each column,
|F|^2 or |F| is added to float64 sums, and to that of the column's mirror image, which is in the same ring; a table
in that order leads to the cells of each ring.

Measured at 3 x 224 x 224 on one core, ms per image: mean .003, columns .04, rows with roots and sums over images .04,
rings .02; in all .10, where MKL's FFT alone takes .20.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from fastfreq_kernels._lane_fft import transform
from fastfreq_kernels._lane_moves import add_doubles
from fastfreq_kernels._lane_planes import LANES, mean_of, shape_of, to_rows
from fastfreq_kernels._lanes import load, root, store

__all__ = ["LANES", "radial_power", "shape_of"]

_compiled = njit(nogil=True, cache=True, error_model="numpy")


@_compiled
def radial_power(images, unit, magnitude, shape, cells, starts, work, rings, sums):
    """Fill rings (n, c, r) and add to sums (c, groups * w * LANES) for images (n, c, h * w), uint8 or float32.

    Args:
        images: contiguous.
        unit: what a pixel is divided by.
        magnitude: |F| for |F|^2.
        shape: of the planes.
        cells: (m,) where in (groups, w // 2 + 1, LANES) the cells of each ring are.
        starts: (r + 1,) where each ring starts in `cells`.
        work: scratch, `spectrum_size` + 2 `buffer_size` + (groups (w // 2 + 1) + 4 LANES) LANES floats.
        rings: written.
        sums: of |F|^2 or |F| over images.
    """
    size = shape.buffer_size
    x, y, rest = work[:size], work[size : 2 * size], work[2 * size :]
    corner, rest = rest[: 4 * LANES * LANES], rest[4 * LANES * LANES :]
    spectrum, folded = rest[: shape.spectrum_size], rest[shape.spectrum_size :]
    root_area = np.sqrt(shape.h * shape.w)
    scale = np.float32(1 / (root_area * unit))
    for channel in range(images.shape[1]):
        for image in range(images.shape[0]):
            pixels = images[image, channel]
            mean = mean_of(pixels, x)
            to_rows(pixels, mean, scale, shape, spectrum, x, y, corner)
            level = np.float32(mean * root_area / unit)
            _values(spectrum, level, magnitude, shape, y, folded, sums[channel])
            _add_rings(folded, cells, starts, rings[image, channel])


@_compiled
def _values(spectrum, level, magnitude, shape, y, folded, sums):
    """Transform rows and take |F|^2 or |F|; `level` is the part of the plane's mean in F at zero."""
    w, half = shape.w, shape.w // 2 + 1
    for group in range(shape.groups):
        at = group * shape.columns * 2 * LANES
        row = spectrum[at : at + shape.columns * 2 * LANES]
        z = transform(shape.row_radices, shape.row_twiddles, row, y)
        if group == 0:
            z[0] += level
        weight = load(shape.row_weights, group)
        for x in range(half):
            re, im = load(z, 2 * x), load(z, 2 * x + 1)
            value = re * re + im * im
            if magnitude:
                value = root(value)
            add_doubles(sums, group * w + x, value)
            twin = w - x
            if x and twin != x:
                re, im = load(z, 2 * twin), load(z, 2 * twin + 1)
                other = re * re + im * im
                if magnitude:
                    other = root(other)
                add_doubles(sums, group * w + twin, other)
                value = value + other
            store(folded, group * half + x, value * weight)


@_compiled
def _add_rings(folded, cells, starts, rings):
    for r in range(len(rings)):
        i, stop = starts[r], starts[r + 1]
        a, b, c, d = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
        while i + 4 <= stop:  # four sums hide each other's latency
            a += folded[cells[i]]
            b += folded[cells[i + 1]]
            c += folded[cells[i + 2]]
            d += folded[cells[i + 3]]
            i += 4
        while i < stop:
            a += folded[cells[i]]
            i += 1
        rings[r] = (a + b) + (c + d)
