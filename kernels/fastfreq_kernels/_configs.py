"""Launch settings of every kernel, with the GPU each was measured on.

`benchmarks/gpu/tune.py` measures them on a card and writes this file anew, for a person to look at and commit.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch

__all__ = [
    "BANDS_BLOCK",
    "BANDS_EACH",
    "BANDS_WARPS",
    "BISECTION_BLOCK",
    "DILATION_BYTES",
    "EIGENVALUES_LARGEST_SIDE",
    "EIGENVALUES_SMALLEST_TILE",
    "FINISH_WARPS",
    "GRAM_ITERATION_DEPTH",
    "GRAM_ITERATION_LARGEST_SIDE",
    "INVERSE_BLOCK",
    "INVERSE_BYTES",
    "JacobiTile",
    "NOISE_BLOCK",
    "NOISE_WARPS",
    "LAGS_DEPTH",
    "LAGS_SIDE",
    "PerturbTile",
    "RINGS_BLOCK",
    "RINGS_GROUP_BYTES",
    "RINGS_WARPS",
    "REDUCTION_HELD",
    "REDUCTION_LARGEST_SIDE",
    "ReductionTile",
    "RESPONSE_POINTS",
    "ResponseTile",
    "SIGNS_BLOCK",
    "SPREAD_TILE",
    "SumsTile",
    "TABLES_BLOCK",
    "WAVELET_COLUMNS",
    "WAVELET_ROWS",
    "WAVELET_WARPS",
    "back_columns",
    "eigenvalues_route",
    "eigenvalues_warps",
    "gram_iteration_warps",
    "gram_tile",
    "jacobi_tile",
    "lags_warps",
    "matrix_tile",
    "perturb_tile",
    "singular_values_route",
    "svd_route",
    "reduction_tile",
    "response_tile",
    "symbols_tile",
]

TABLES_BLOCK = 256  # table entries of one program; not yet measured on any GPU
SIGNS_BLOCK = 256  # signs of one program; not yet measured on any GPU
BISECTION_BLOCK = 32  # eigenvalues of one program; measured on NVIDIA H200

# Which kernel reduces a Hermitian matrix to tridiagonal form, by the largest side that each takes: in registers, whose
# larger tiles spill on sm_80, sm_90 or gfx942, or under triton 3.6; in memory, as long as a tile of it does not spill.
# What is larger is copied to the host's compiled code: the vendor's solver loops over such matrices, on NVIDIA H200 at
# 60 to 1,000 times the time of these kernels.
EIGENVALUES_LARGEST_SIDE = {torch.float32: 64, torch.float64: 64}
REDUCTION_LARGEST_SIDE = 1024
SPREAD_TILE = 32  # side of the tiles that unpack a matrix; not yet measured on any GPU
EIGENVALUES_SMALLEST_TILE = 32  # it is reduced in one launch, smaller matrices in a tile of 16
# By side of the tile: the fewest warps that do not spill, since fewer wait less; not yet measured on any GPU.
_EIGENVALUES_WARPS = {
    torch.float32: {16: 1, 32: 1, 64: 4},
    torch.float64: {16: 1, 32: 4, 64: 8},
}

# By side of the matrix: rows and columns of a tile, warps, and programs that share a multiprocessor, of which none
# spills under triton 3.6 or 3.9; tiles from 128 measured on NVIDIA H200, at 1,024 for single matrices.
_REDUCTION = {
    torch.float32: {
        16: (16, 16, 1, 8), 32: (16, 32, 1, 8), 64: (16, 32, 2, 8), 128: (32, 64, 4, 2), 256: (32, 64, 8, 2),
        512: (64, 64, 16, 1), 1024: (64, 32, 8, 1),
    },
    torch.float64: {
        16: (16, 16, 1, 8), 32: (16, 32, 2, 4), 64: (16, 32, 4, 2), 128: (32, 32, 4, 2), 256: (32, 32, 8, 2),
        512: (32, 32, 8, 2), 1024: (64, 16, 8, 1),
    },
}  # fmt: skip
# The same with the updates of some steps held back, their number last: a third of the traffic, for more shuffles and
# latency. Predicted to be faster from side 256 on, not yet measured on any GPU: `tune.py` tries these, none of which
# spills under triton 3.6 or 3.9, and puts the best among the tiles above.
REDUCTION_HELD = {
    torch.float32: {
        128: ((16, 64, 4, 2, 4),), 256: ((16, 64, 8, 2, 4), (32, 64, 8, 1, 4)), 512: ((16, 64, 8, 1, 4),),
        1024: ((32, 64, 8, 1, 2),),
    },
    torch.float64: {
        128: ((16, 64, 4, 3, 4), (16, 64, 8, 2, 4)), 256: ((16, 64, 4, 3, 4), (16, 64, 8, 2, 4), (32, 64, 16, 1, 4)),
        512: ((32, 64, 16, 1, 4), (16, 64, 8, 1, 4)), 1024: ((16, 64, 8, 1, 2),),
    },
}  # fmt: skip
DILATION_BYTES = 512 << 20  # of the Hermitian matrices that have singular values, at a time; predicted, not measured
INVERSE_BLOCK = 64  # vectors of one program of inverse iteration; predicted, not measured
INVERSE_BYTES = 256 << 20  # of what it keeps, at a time
_BACK_ELEMENTS = 4096  # of a tile of vectors that reflectors are applied to; predicted, not measured

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
LAGS_SIDE = 32  # rows and columns of a tile of two products of `conv_gram`; not yet measured on any GPU
LAGS_DEPTH = 16  # columns of the taps that such a tile reads at a time; not yet measured on any GPU
# Warps of its program by the side of the tile; float64 measured on NVIDIA H200.
_LAGS_WARPS = {torch.float32: {16: 1, 32: 4, 64: 8}, torch.float64: {16: 1, 32: 2, 64: 4}}
RESPONSE_POINTS = 4096  # of one program of `frequency_response`; not yet measured on any GPU
_SYMBOLS_BYTES = 4096  # of a tile of `conv_symbols`; NVIDIA H200: 4,096 take .038 ms, 8,192 .042, 16,384 .050
_GRAM_BYTES = 8192  # of a tile of `conv_gram`; NVIDIA H200: 4,096 take .079 ms, 8,192 .070, 16,384 .086

_SIDE = 64  # most rows and columns of a tile of `fourier_perturb`; not yet measured on any GPU
_FREQUENCIES = 8  # for which a program keeps its tile of the image; not yet measured on any GPU


NOISE_BLOCK = 256  # counters of one program of `gaussian_noise`, of four values each; not yet measured on any GPU
NOISE_WARPS = 4  # of its program; not yet measured on any GPU
BANDS_BLOCK = 1024  # elements of one program of either kernel of `filter_bands`; not yet measured on any GPU
BANDS_EACH = 8  # bands for which a program keeps its piece of the spectrum; not yet measured on any GPU
BANDS_WARPS = 4  # of the program that masks spectra; not yet measured on any GPU
FINISH_WARPS = 2  # of the program that finishes images; NVIDIA H200: 2 take .211 ms, 4 .233, 8 .264
WAVELET_ROWS = 8  # of a tile of `dwt2` and `idwt2`; not yet measured on any GPU
WAVELET_COLUMNS = 128  # of such a tile; not yet measured on any GPU
WAVELET_WARPS = 4  # of its program; not yet measured on any GPU
RINGS_BLOCK = 128  # cells that a program of `radial_power` adds at a time; not yet measured on any GPU
RINGS_WARPS = 2  # of its programs; not yet measured on any GPU
RINGS_GROUP_BYTES = 24 << 20  # of spectrum made and read before the next, half of an L2; not yet measured on any GPU


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


class ReductionTile(NamedTuple):
    """Of programs that reduce a matrix in memory: its side filled up, their tiles, programs on a multiprocessor.

    `held`: steps whose updates are held back, a power of two, by another kernel; 0 for none.
    """

    side: int
    rows: int
    columns: int
    warps: int
    together: int
    held: int = 0


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


def symbols_tile(elements: int, dtype: torch.dtype) -> SumsTile:
    """Tile of `conv_symbols` for matrices of this many elements."""
    return _sums_tile(elements, dtype, _SYMBOLS_BYTES)


def gram_tile(elements: int, dtype: torch.dtype) -> SumsTile:
    """Tile of `conv_gram` for matrices of this many elements."""
    return _sums_tile(elements, dtype, _GRAM_BYTES)


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


def eigenvalues_route(side: int, dtype: torch.dtype) -> Literal["registers", "memory", "host"]:
    """Where `hermitian_eigenvalues` reduces matrices of this side that are on a GPU; batches make no difference."""
    if side <= EIGENVALUES_LARGEST_SIDE[dtype]:
        return "registers"
    return "memory" if side <= REDUCTION_LARGEST_SIDE else "host"


def svd_route(rows: int, columns: int, dtype: torch.dtype) -> Literal["registers", "host"]:
    """Where `channel_svd` decomposes matrices that are on a GPU."""
    tile = jacobi_tile(max(rows, columns), min(rows, columns), dtype.to_real())
    return "host" if tile is None else "registers"


def singular_values_route(rows: int, columns: int, dtype: torch.dtype) -> Literal["registers", "memory", "host"]:
    """Where `channel_singular_values` takes matrices that are on a GPU: their dilations are Hermitian."""
    return eigenvalues_route(rows + columns, dtype.to_real())


def reduction_tile(side: int, dtype: torch.dtype) -> ReductionTile:
    """Tile of programs that reduce a matrix of this side in memory."""
    tile = matrix_tile(side)
    return ReductionTile(tile, *_REDUCTION[dtype][tile])


def back_columns(side: int) -> int:
    """Vectors of this length that a program applies reflectors to."""
    return max(1, min(16, _BACK_ELEMENTS // matrix_tile(side)))


def lags_warps(dtype: torch.dtype) -> int:
    """Warps of a program that multiplies the taps of `conv_gram`."""
    return _LAGS_WARPS[dtype][LAGS_SIDE]


def gram_iteration_warps(tile: int, dtype: torch.dtype) -> int:
    """Warps of a program of `gram_iteration`."""
    return _GRAM_ITERATION_WARPS[dtype][tile]


def jacobi_tile(rows: int, columns: int, dtype: torch.dtype) -> JacobiTile | None:
    """Tile of a program of `channel_svd` for a tall matrix; None where it would spill."""
    high = max(8, _power(rows))
    wide = max(8 if high < 64 else 16, _power(columns))
    warps = _JACOBI_WARPS[dtype].get((high, wide))
    return None if warps is None else JacobiTile(high, wide, warps)


def _sums_tile(elements: int, dtype: torch.dtype, size: int) -> SumsTile:
    """As many frequencies as leave a tile this many bytes."""
    wide = min(128, _power(elements))
    return SumsTile(size // dtype.itemsize // wide, wide, 4)


def _power(value: int) -> int:
    return 1 << (value - 1).bit_length()
