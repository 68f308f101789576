"""Launch settings of every kernel, with the GPU each was measured on."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["PerturbTile", "SIGNS_BLOCK", "TABLES_BLOCK", "perturb_tile"]

TABLES_BLOCK = 256  # table entries of one program; not yet measured on any GPU
SIGNS_BLOCK = 256  # signs of one program; not yet measured on any GPU

_SIDE = 64  # most rows and columns of a tile of `fourier_perturb`; not yet measured on any GPU
_FREQUENCIES = 8  # for which a program keeps its tile of the image; not yet measured on any GPU


class PerturbTile(NamedTuple):
    """Tile of one program of `fourier_perturb`."""

    rows: int
    columns: int
    frequencies: int
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


def _power(value: int) -> int:
    return 1 << (value - 1).bit_length()
