"""Which ring each cell of a real FFT's half plane belongs to, and how many cells of the whole plane it stands for."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import torch
from torch import Tensor

from fastfreq_kernels._threads import own_threads_only

__all__ = ["Rings", "ring_count", "rings_of", "statistics_of"]


class Rings(NamedTuple):
    """The cells of a half plane (h, w // 2 + 1), flat, sorted by ring."""

    order: Tensor  # (m,) int64, cells of ring 0, then of ring 1 ...; cells beyond the last ring are left out
    starts: Tensor  # (r + 1,) int64, where each ring starts in `order`
    weights: Tensor  # (m,) float64, 1 or 2: cells of the whole plane that each stands for
    cells: Tensor  # (r,) float64, cells of the whole plane in each ring
    radii: Tensor  # (m,) float64, radius of each cell in cycles per pixel


def ring_count(height: int, width: int, side: int | None) -> int:
    """Rings of a plane, without their table: what tracing asks for, where no tensor has values."""
    if side is not None:
        return side // 2 + 1
    reference = min(height, width)
    ky, kx = height // 2 * (reference / height), width // 2 * (reference / width)  # of the corner
    return math.floor(math.sqrt(ky * ky + kx * kx) + 0.5) + 1


@functools.lru_cache(maxsize=16)
@torch.inference_mode(False)  # a gradient may pass through later
@own_threads_only()
def rings_of(height: int, width: int, side: int | None) -> Rings:
    """Rings one cycle per `side` pixels wide, the radius rounded half up; on the CPU, shared: not to be written to.

    Without `side` they are one cycle per shorter side wide and run to the corner of the plane; with it they end at
    side // 2, half a cycle per pixel.
    """
    reference = min(height, width) if side is None else side
    ky = torch.arange(height, dtype=torch.float64)[:, None]
    ky = torch.where(ky < (height + 1) // 2, ky, ky - height)
    kx = torch.arange(width // 2 + 1, dtype=torch.float64)[None, :]
    radius = ((ky * (reference / height)).square() + (kx * (reference / width)).square()).sqrt().reshape(-1)
    ring = (radius + 0.5).floor().long()
    count = ring_count(height, width, side)
    weight = torch.where((kx == 0) | (2 * kx == width), 1.0, 2.0).double().expand(height, -1).reshape(-1)
    order = torch.argsort(ring, stable=True)
    order = order[ring[order] < count]
    starts = torch.searchsorted(ring[order], torch.arange(count + 1))
    cells = torch.zeros(count, dtype=torch.float64).index_add_(0, ring[order], weight[order])
    return Rings(order, starts, weight[order], cells, radius[order] / reference)


@functools.lru_cache(maxsize=16)
@torch.inference_mode(False)
@own_threads_only()
def statistics_of(height: int, width: int, side: int | None) -> tuple[Tensor, Tensor]:
    """(frequency, spread) of `radial_cells`; shared, as `rings_of`."""
    table = rings_of(height, width, side)
    ring = torch.repeat_interleave(torch.arange(len(table.cells)), table.starts.diff())
    logs = torch.where(table.radii > 0, table.radii, 1.0).log()

    def mean(values: Tensor) -> Tensor:
        return torch.zeros_like(table.cells).index_add_(0, ring, table.weights * values) / table.cells

    middle = mean(logs)
    frequency = middle.exp()
    frequency[0] = 0
    return frequency, mean((logs - middle[ring]).square())
