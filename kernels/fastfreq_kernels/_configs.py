"""Launch settings of every kernel, with the GPU each was measured on."""

from __future__ import annotations

from typing import NamedTuple

import torch

__all__ = [
    "BISECTION_BLOCK",
    "EIGENVALUES_LARGEST_SIDE",
    "EIGENVALUES_SMALLEST_TILE",
    "GRAM_ITERATION_DEPTH",
    "GRAM_ITERATION_LARGEST_SIDE",
    "JacobiTile",
    "LAGS_DEPTH",
    "LAGS_SIDE",
    "LAGS_WARPS",
    "PerturbTile",
    "RESPONSE_POINTS",
    "ResponseTile",
    "SIGNS_BLOCK",
    "SumsTile",
    "TABLES_BLOCK",
    "eigenvalues_warps",
    "gram_iteration_warps",
    "jacobi_tile",
    "matrix_tile",
    "perturb_tile",
    "response_tile",
    "sums_tile",
]

TABLES_BLOCK = 256  # table entries of one program; not yet measured on any GPU
SIGNS_BLOCK = 256  # signs of one program; not yet measured on any GPU
BISECTION_BLOCK = 128  # eigenvalues of one program; not yet measured on any GPU

# Matrices above these sides go to the vendor's solver: their tiles spill on sm_80, sm_90 or gfx942.
EIGENVALUES_LARGEST_SIDE = {torch.float32: 128, torch.float64: 64}
EIGENVALUES_SMALLEST_TILE = 32  # it is reduced in one launch, smaller matrices in a tile of 16
# By side of the tile: the fewest warps that do not spill, since fewer wait less; not yet measured on any GPU.
_EIGENVALUES_WARPS = {
    torch.float32: {16: 1, 32: 1, 64: 4, 128: 16},
    torch.float64: {16: 1, 32: 4, 64: 8},
}

GRAM_ITERATION_LARGEST_SIDE = 64  # larger matrices go to the vendor's matrix product; not yet measured on any GPU
GRAM_ITERATION_DEPTH = 16  # columns of a matrix that its program reads at a time; not yet measured on any GPU
_GRAM_ITERATION_WARPS = {torch.float32: {16: 1, 32: 2, 64: 4}, torch.float64: {16: 1, 32: 2, 64: 8}}  # nor are these
# Warps by tile, rows x columns, of which none spills on sm_80, sm_90 or gfx942: that there are no larger tiles is why.
# Not yet measured on any GPU.
_JACOBI_WARPS = {
    torch.float32: {
        (8, 8): 1, (16, 8): 1, (32, 8): 1, (16, 16): 1, (32, 16): 2, (64, 16): 4, (32, 32): 2, (64, 32): 8,
        (64, 64): 16,
    },
    torch.float64: {
        (8, 8): 1, (16, 8): 1, (32, 8): 2, (16, 16): 2, (32, 16): 4, (64, 16): 8, (32, 32): 4, (64, 32): 16,
    },
}  # fmt: skip
LAGS_SIDE, LAGS_DEPTH, LAGS_WARPS = 32, 16, 4  # tile of two products of `conv_gram`; not yet measured on any GPU
RESPONSE_POINTS = 4096  # of one program of `frequency_response`; not yet measured on any GPU
_SUMS_BYTES = 8192  # of a tile of `conv_symbols` and `conv_gram`; not yet measured on any GPU

_SIDE = 64  # most rows and columns of a tile of `fourier_perturb`; not yet measured on any GPU
_FREQUENCIES = 8  # for which a program keeps its tile of the image; not yet measured on any GPU


class PerturbTile(NamedTuple):
    """Tile of one program of `fourier_perturb`."""

    rows: int
    columns: int
    frequencies: int
    warps: int


class JacobiTile(NamedTuple):
    """Tile of one program of `channel_svd`."""

    rows: int
    columns: int
    warps: int


class ResponseTile(NamedTuple):
    """Tile of one program of `frequency_response`: waves of frequencies x points, sums of frequencies x outputs."""

    frequencies: int
    points: int
    outputs: int
    warps: int


class SumsTile(NamedTuple):
    """Tile of one program that adds taps or lags: frequencies x elements of their matrices."""

    frequencies: int
    elements: int
    warps: int


def perturb_tile(height: int, row: int) -> PerturbTile:
    """Tile for planes of `height` rows of `row` contiguous elements.

    64 columns, or 32 where that leaves over a seventh of the lanes idle. Threads outnumber rows and columns, so that
    Triton keeps the tables in the layout of the tile: at 128 columns it passes them through shared memory, with two
    barriers for every frequency.
    """
    columns = min(_SIDE, _power(row))
    if columns == _SIDE and 7 * (-(-row // columns) * columns - row) > row:
        columns //= 2
    rows = min(_SIDE, _power(height))
    return PerturbTile(rows, columns, _FREQUENCIES, max(1, 2 * max(rows, columns) // 32))


def sums_tile(elements: int, dtype: torch.dtype) -> SumsTile:
    """Tile for matrices of this many elements: as many frequencies as leave it 8 KB."""
    wide = min(128, _power(elements))
    return SumsTile(_SUMS_BYTES // dtype.itemsize // wide, wide, 4)


def response_tile(outputs: int, dtype: torch.dtype, *, wide: bool) -> ResponseTile:
    """Tile for so many outputs; smaller where phases or values are float64. Not yet measured on any GPU."""
    small = wide or dtype == torch.float64
    return ResponseTile(32 if small else 64, 16 if small else 32, min(16 if small else 32, matrix_tile(outputs)), 4)


def matrix_tile(side: int) -> int:
    """Side of the tile of a program that keeps a matrix of this side in its registers."""
    return max(16, _power(side))


def eigenvalues_warps(tile: int, dtype: torch.dtype) -> int:
    """Warps of a program of `hermitian_eigenvalues`."""
    return _EIGENVALUES_WARPS[dtype][tile]


def gram_iteration_warps(tile: int, dtype: torch.dtype) -> int:
    """Warps of a program of `gram_iteration`."""
    return _GRAM_ITERATION_WARPS[dtype][tile]


def jacobi_tile(rows: int, columns: int, dtype: torch.dtype) -> JacobiTile | None:
    """Tile of a program of `channel_svd` for a tall matrix; None where it would spill."""
    high = max(8, _power(rows))
    wide = max(8 if high < 64 else 16, _power(columns))
    warps = _JACOBI_WARPS[dtype].get((high, wide))
    return None if warps is None else JacobiTile(high, wide, warps)


def _power(value: int) -> int:
    return 1 << (value - 1).bit_length()
