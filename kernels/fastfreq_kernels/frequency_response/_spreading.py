"""A non-uniform Fourier transform along a line: spreading onto a fine grid, an FFT, and division by the spreading.

With t_i the phase of one step in turns, a kernel phi on [-1, 1] of w cells and a grid of G cells,
    sum_i v_i exp(-2 pi i j t_i)  ~  FFT_j(sum_i v_i phi(2 (g - G t_i) / w)) / ((w / 2) phi^(pi j w / G))
for |j| <= G / 4, where phi(z) = exp(b (sqrt(1 - z^2) - 1)), b = 2.3 w. Aliasing leaves about 10^(1 - w) of sum |v_i|.

Source: Barnett, Magland, af Klinteberg 2019, "A Parallel Nonuniform Fast Fourier Transform Library Based on an
'Exponential of Semicircle' Kernel", eq. 1.8 and section 4.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from numpy.polynomial import chebyshev, legendre
from numpy.typing import NDArray
from torch import Tensor

WIDTH = {torch.float32: 8, torch.float64: 16}  # cells
_SHAPE = 2.3  # b over w, for grids at least twice as fine as the highest frequency needs


def cells_for(highest: int, width: int) -> int:
    """G, a power of two: at least four cells per period of the highest frequency, and twice the kernel's width."""
    return 1 << max(4 * highest + 2, 2 * width).bit_length()


def _kernel(z: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    return np.exp(_SHAPE * width * (np.sqrt(np.maximum(0, 1 - z * z)) - 1))


@functools.cache
def taps(width: int, lanes: int) -> NDArray[np.float64]:
    """(degree + 1, padded width) polynomials in x = 2 d - 1, for d from 0 to 1 the distance from the first cell.

    As accurate as the aliasing: the kernel's ends, where it has no derivative, are exp(-b).
    """
    degree = width + 4
    x = np.cos(np.pi * (np.arange(2 * degree) + 0.5) / (2 * degree))
    cells = np.arange(width)
    wanted = _kernel(2 * (cells + (x[:, None] + 1) / 2) / width - 1, width)
    found = np.zeros((degree + 1, -(-width // lanes) * lanes))
    for cell in cells:
        series = chebyshev.chebfit(x, wanted[:, cell], degree)
        powers = chebyshev.cheb2poly(series)
        found[degree - len(powers) + 1 :, cell] = powers[::-1]
    return found


@functools.cache
def gains(modes: int, cells: int, width: int) -> Tensor:
    """(modes,) float64: (w / 2) phi^(pi j w / G) for j = 0 .. modes - 1."""
    z, weights = legendre.leggauss(4 * width + 64)
    j = np.arange(modes)
    waves = np.cos(math.pi * width / cells * j[:, None] * z)
    return torch.from_numpy(width / 2 * waves @ (weights * _kernel(z, width)))


def modes_of(grid: Tensor, width: int, modes: int) -> Tensor:
    """(modes, columns) complex128 sums for j = 0 .. modes - 1 of a spread grid (cells + width, columns)."""
    half, cells = width // 2, len(grid) - width
    folded = grid[half : half + cells].clone()
    folded[cells - half :] += grid[:half]
    folded[:half] += grid[half + cells :]
    return torch.fft.rfft(folded, dim=0)[:modes] / gains(modes, cells, width)[:, None]
