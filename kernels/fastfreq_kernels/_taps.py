"""Taps, offsets and grid: the normal form in which operations receive a convolution; its checks and phase tables.

At the integer frequency k a convolution is the matrix A_g(k) = sum_j taps[g, j] exp(2 pi i <k, offsets[j] / grid>).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["check_convolution", "phase_tables"]

MAX_TABLE = 2**31  # periods whose integer phases, times a frequency below the period, stay within 63 bits


def check_convolution(taps: Tensor, offsets: Tensor, frequencies: Tensor, grid: Sequence[int]) -> None:
    """Shapes, dtypes and devices of a convolution in its normal form.

    Raises:
        ValueError: a shape, grid or device that does not fit.
        TypeError: a dtype that does not fit.
    """
    if taps.ndim != 4:
        raise ValueError(f"expected `taps` of shape (g, t, a, b), got {tuple(taps.shape)}")
    if taps.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"expected `taps` of float32 or float64, got {taps.dtype}; convert them with .float()")
    d = len(grid)
    if d < 1 or any(n < 1 for n in grid):
        raise ValueError(f"expected a `grid` of positive sides, got {tuple(grid)}")
    if math.lcm(*grid) >= MAX_TABLE:
        raise ValueError(f"expected the sides of `grid` to have a least common multiple below 2**31, got {tuple(grid)}")
    for name, table, rows in (("offsets", offsets, taps.shape[1]), ("frequencies", frequencies, None)):
        if table.ndim != 2 or table.shape[1] != d or (rows is not None and table.shape[0] != rows):
            first = "f" if rows is None else str(rows)
            raise ValueError(f"expected `{name}` of shape ({first}, {d}), got {tuple(table.shape)}")
        if table.dtype != torch.int64:
            raise TypeError(f"expected `{name}` of torch.int64, got {table.dtype}; use .long()")
        if table.device != taps.device and not (name == "offsets" and table.is_cpu):
            where = ", or on the CPU" if name == "offsets" else ""
            raise ValueError(f"expected `{name}` on {taps.device} as `taps`{where}, got {table.device}")


def phase_tables(
    offsets: Tensor, frequencies: Tensor, grid: Sequence[int], dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """(f, t) cosines and sines of 2 pi <k, offset / grid>.

    The phase is reduced as an integer modulo the period, so that no frequency or offset costs accuracy. Nothing waits
    for a GPU: that the offsets come from the host does not, either.
    """
    period = math.lcm(*grid)
    offsets = offsets.to(frequencies.device, non_blocking=True)
    turns = torch.zeros(len(frequencies), len(offsets), dtype=torch.int64, device=frequencies.device)
    for axis, side in enumerate(grid):  # GPUs have no integer matrix product
        k, o = (frequencies[:, axis] % side) * (period // side), offsets[:, axis] % side
        turns += k[:, None] * o[None, :]
    angle = (turns % period).to(torch.float64) * (2 * math.pi / period)
    return angle.cos().to(dtype), angle.sin().to(dtype)
