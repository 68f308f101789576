"""Frequencies, basis images, rings and masks: the vocabulary of the toolkit.

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


def _check_bandwidth(shape: tuple[int, int], bandwidth: int) -> None:
    if not 0 <= bandwidth <= min(shape):
        raise ValueError(f"expected a bandwidth from 0 to {min(shape)} for images of {shape}, got {bandwidth}")
    if bandwidth % 2 == 0 and bandwidth not in (0, shape[0], shape[1]):
        raise ValueError(
            f"expected an odd bandwidth, got {bandwidth}: a centred square of even width is not symmetric under "
            f"k -> -k, so filtered images would not be real; take {bandwidth - 1} or {bandwidth + 1}"
        )


def _square(shape: tuple[int, int], bandwidth: int, centre: tuple[int, int]) -> NDArray[np.bool_]:
    """Bins within (bandwidth - 1) / 2 of `centre` along both axes, cyclically; all of an axis it covers."""
    _check_bandwidth(shape, bandwidth)
    keep = []
    for n, c in zip(shape, centre, strict=True):
        distance = np.abs((np.arange(n) - c + n // 2) % n - n // 2)
        keep.append(np.full(n, True) if bandwidth == n else distance < (bandwidth + 1) // 2)
        if bandwidth == 0:
            keep[-1][:] = False
    return keep[0][:, None] & keep[1][None, :]


def yin_low(shape: tuple[int, int], bandwidth: int) -> NDArray[np.bool_]:
    """Low-pass mask (h, w), unshifted: a square of width `bandwidth` centred on zero frequency.

    Keeps |ky| <= (B - 1) / 2 and |kx| <= (B - 1) / 2. B must be odd (or 0: nothing, or the side: everything).

    Raises:
        ValueError: an even bandwidth, or one outside 0 .. min(h, w).

    Source: Yin et al. 2019, section 2, "low pass filtering with bandwidth B".
    """
    return _square(shape, bandwidth, (0, 0))


def yin_high(shape: tuple[int, int], bandwidth: int) -> NDArray[np.bool_]:
    """High-pass mask (h, w), unshifted: a square of width `bandwidth` centred on the highest frequency.

    This is *not* the complement of `yin_low`: both |ky| and |kx| must be high, so pure horizontal and
    vertical frequencies are dropped. At 32 x 32, B = 27 keeps 3 <= |ky|, |kx|: 729 of 1024 bins, a fraction
    (27 / 32)^2 = 0.712 of white noise. On an odd side the two highest frequencies +-(n - 1) / 2 share the
    centre, and the square of odd width would be lopsided: refused.

    Raises:
        ValueError: an even bandwidth, one outside 0 .. min(h, w), or an odd side.

    Source: Yin et al. 2019, section 2, "high pass filtering with bandwidth B".
    """
    if (shape[0] % 2 or shape[1] % 2) and bandwidth not in (0, min(shape)):
        raise ValueError(
            f"expected images with even sides for `yin_high`, got {shape}: on an odd side the highest frequency "
            f"is a pair, and no square of odd width is centred on it; use the complement of `yin_low`"
        )
    return _square(shape, bandwidth, (shape[0] // 2, shape[1] // 2))
