"""Frequencies, basis images and rings: the vocabulary of the toolkit.

A frequency is an integer pair (ky, kx) in cycles per image along height and width. Arrays over
frequencies keep NumPy's unshifted FFT order unless a docstring says "centred". The DFT is orthonormal.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
PhaseOf = Literal["first", "canonical"]


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


def oriented(frequencies: IntArray, shape: tuple[int, int], rule: PhaseOf) -> IntArray:
    """The member of each {k, -k} pair that carries the phase, signed, for frequencies (..., 2).

    U of `basis_image` with phase p at -k is U with phase -p at k: a quarter wave apart at p = pi / 4. So a phase that
    is no multiple of pi means nothing without the member it belongs to. Random signs do not follow the phase: they
    belong to the canonical member, whatever the rule.

    Args:
        frequencies: either member of each pair.
        shape: (h, w) of the image.
        rule: "first" for the member met first in row-major order of the centred plane, rows from -floor(h / 2) up:
            ky < 0, or ky = 0 and kx < 0; in Nyquist rows and columns of even sides, which are their own mirror image,
            the one with the other component negative. "canonical" for the member that `canonical` gives.

    Raises:
        ValueError: an unknown rule.

    Source: "first": Yin et al. 2019, whose code puts 0.5 + 0.5i at the cell it visits and 0.5 - 0.5i at its twin;
        rai-toolbox visits cells in this order and skips twins of those it has seen.
    """
    check_phase_of(rule)
    if rule == "canonical":
        return canonical(frequencies, shape)
    k, mirrored = signed(frequencies, shape), twin(frequencies, shape)
    earlier = (k[..., 0] < mirrored[..., 0]) | ((k[..., 0] == mirrored[..., 0]) & (k[..., 1] <= mirrored[..., 1]))
    return np.where(earlier[..., None], k, mirrored)


def orientation(frequencies: IntArray, shape: tuple[int, int], rule: PhaseOf) -> IntArray:
    """+1 where `oriented` gives the canonical member itself, -1 where it gives its twin, for frequencies (..., 2).

    A phase p of the oriented member is the phase orientation * p of the canonical one.
    """
    same = (oriented(frequencies, shape, rule) == canonical(frequencies, shape)).all(axis=-1)
    return np.where(same, 1, -1).astype(np.int64)


def check_phase_of(rule: str) -> None:
    """Refuse what is no rule of `oriented`."""
    if rule not in get_args(PhaseOf):
        raise ValueError(f"expected the phase of the 'first' or the 'canonical' member of each pair, got {rule!r}")


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


def to_map(
    values: ArrayLike, frequencies: IntArray, shape: tuple[int, int], size: tuple[int, int] | None = None
) -> FloatArray:
    """Values (f,) of distinct frequencies (f, 2) as a centred map; twins share a value, cells of no value are NaN.

    Args:
        values: one of each frequency.
        frequencies: canonical ones, each once and on the map.
        shape: as for `unique_frequencies`.
        size: as for `unique_frequencies`.
    """
    every, cells = unique_frequencies(shape, size)
    key = np.array([2 * shape[1], 1])  # orders the pairs as they are sorted
    full = np.full(len(every), np.nan)
    full[np.searchsorted(every @ key, frequencies @ key)] = values
    return full[cells]


def basis_image(frequency: tuple[int, int], shape: tuple[int, int], phase: float) -> FloatArray:
    """The real Fourier basis image U of one frequency, (h, w), with unit L2 norm.

    U[y, x] = sqrt(2 / (h w)) cos(2 pi (ky y / h + kx x / w) + phase); at self-conjugate frequencies the
    cosine has no free phase: U[y, x] = cos(2 pi (ky y / h + kx x / w)) / sqrt(h w). The phase belongs to the member
    that is given: that of the twin is -phase (see `oriented`).

    Source: Yin et al. 2019, section 2; phase pi / 4 is the authors' delta pair, 0.5 + 0.5i at `frequency`, its
        conjugate at the twin.
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
