"""Frequencies, basis images and rings: the vocabulary of the toolkit.

A frequency is an integer pair (ky, kx) in cycles per image along height and width. Arrays over
frequencies keep NumPy's unshifted FFT order unless a docstring says "centred". The DFT is orthonormal.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


def signed(frequencies: IntArray, shape: tuple[int, int]) -> IntArray:
    """Frequencies (..., 2) reduced to -floor(n/2) .. ceil(n/2) - 1 along both axes of an image of `shape`."""
    n = np.asarray(shape)
    return (frequencies + n // 2) % n - n // 2


def twin(frequencies: IntArray, shape: tuple[int, int]) -> IntArray:
    """The conjugate partner (-ky, -kx) of each frequency (..., 2), signed."""
    return signed(-frequencies, shape)


def is_self_conjugate(frequencies: IntArray, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """True where a frequency is its own twin: zero, and Nyquist along even axes."""
    return np.all((2 * frequencies) % np.asarray(shape) == 0, axis=-1)


def canonical(frequencies: IntArray, shape: tuple[int, int]) -> IntArray:
    """The representative of each {k, -k} pair, signed, for frequencies (..., 2).

    Of k and -k (taken modulo the shape) the one in the half plane that a real FFT keeps: the smaller
    column index, and the smaller row index where the columns are equal.
    """
    n = np.asarray(shape)
    a, b = frequencies % n, -frequencies % n
    keep_a = (a[..., 1] < b[..., 1]) | ((a[..., 1] == b[..., 1]) & (a[..., 0] <= b[..., 0]))
    return signed(np.where(keep_a[..., None], a, b), shape)


def centred_grid(size: tuple[int, int]) -> IntArray:
    """Frequencies (rows, columns, 2) of a centred map: entry (rows // 2, columns // 2) is zero."""
    rows, columns = size
    ky, kx = np.arange(rows) - rows // 2, np.arange(columns) - columns // 2
    return np.stack(np.meshgrid(ky, kx, indexing="ij"), axis=-1).astype(np.int64)


def unique_frequencies(shape: tuple[int, int], size: tuple[int, int] | None = None) -> tuple[IntArray, IntArray]:
    """The distinct frequencies of a centred map, and where each cell finds its own.

    A real image cannot tell k from -k, so a full h x w map has (h w + s) / 2 distinct frequencies with s
    self-conjugate ones: 514 at 32 x 32, 25,090 at 224 x 224; a 63 x 63 centre has 1,985.

    Args:
        shape: (h, w) of the image, which decides which frequencies are twins.
        size: (rows, columns) of the centred map; the whole plane if None.

    Returns:
        frequencies (f, 2), canonical, sorted by row then column, and cells (rows, columns) with
        ``frequencies[cells[a, b]]`` the representative of the map's cell (a, b).
    """
    grid = canonical(centred_grid(size or shape), shape)
    width = 2 * shape[1]  # signed columns fit, so that one integer orders the pairs by row, then column
    keys, cells = np.unique(grid[..., 0] * width + grid[..., 1], return_inverse=True)
    columns = (keys + shape[1]) % width - shape[1]
    frequencies = np.stack([(keys - columns) // width, columns], axis=1)
    return frequencies, cells.reshape(grid.shape[:2]).astype(np.int64)


def basis_image(frequency: tuple[int, int], shape: tuple[int, int], phase: float) -> FloatArray:
    """The real Fourier basis image U of one frequency, (h, w), with unit L2 norm.

    U[y, x] = sqrt(2 / (h w)) cos(2 pi (ky y / h + kx x / w) + phase); at self-conjugate frequencies the
    cosine has no free phase: U[y, x] = cos(2 pi (ky y / h + kx x / w)) / sqrt(h w).

    Source: Yin et al. 2019, section 2; phase pi / 4 reproduces the authors' delta pair 0.5 +- 0.5i.
    """
    h, w = shape
    own_twin = bool(is_self_conjugate(np.asarray(frequency), shape))
    # exact integer phase reduction: a large image loses no digits
    rows = (frequency[0] * np.arange(h)) % h / h
    columns = (frequency[1] * np.arange(w)) % w / w
    angle = 2 * np.pi * (rows[:, None] + columns[None, :]) + (0.0 if own_twin else phase)
    return math.sqrt((1 if own_twin else 2) / (h * w)) * np.cos(angle)


def radius(frequencies: IntArray, shape: tuple[int, int]) -> FloatArray:
    """Radius of frequencies (..., 2) in cycles per shorter side.

    min(h, w) sqrt((ky / h)^2 + (kx / w)^2): isotropic in cycles per pixel, and on square images the plain
    sqrt(ky^2 + kx^2) in cycles per image.
    """
    n = np.asarray(shape)
    return np.sqrt(np.sum((signed(frequencies, shape) * (n.min() / n)) ** 2, axis=-1))


def ring(frequencies: IntArray, shape: tuple[int, int]) -> IntArray:
    """Ring index of frequencies (..., 2): the radius rounded half up.

    Source: Krishnamachari et al. 2022 (TMLR), section 3, who round in the same way and run to the corner.
    """
    return np.floor(radius(frequencies, shape) + 0.5).astype(np.int64)


def multiplicity(frequencies: IntArray, shape: tuple[int, int]) -> IntArray:
    """How many cells of the whole plane a representative stands for: 1 if self-conjugate, else 2."""
    return np.where(is_self_conjugate(frequencies, shape), 1, 2)
