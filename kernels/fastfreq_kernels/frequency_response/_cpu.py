"""`frequency_response` on a CPU: by the structure of the frequencies, whichever way costs least.

    any frequencies                                 sums, one SIMD lane per frequency
    evenly spaced on one line or on parallel ones   values spread onto a fine grid, then an FFT (`_by_lines.py`)
    large grids of two or three axes                finufft, where it is installed

Without numba finufft has all grids, where it is installed, and the reference all else. What is computed in which order
depends on shapes alone: no number of threads changes a bit.

Measured on one core, ms for 60,000 points and 10 outputs: 256 frequencies, sums 10.5 in float32 and 18.5 in float64; on
one line 6.0 and 8.0, where finufft takes 30 and 39; a 64 x 64 grid without finufft 143 and 224, with it 41 and 47: its
transforms are complex and values are real, so that two outputs share one (`_by_finufft.py`).
"""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastfreq_kernels import simd
from fastfreq_kernels._threads import own_threads_only, split_over_threads

from . import _by_finufft, _lines, _reference
from ._by_lines import by_lines
from ._lines import Lines

_FINUFFT = importlib.util.find_spec("finufft") is not None  # found, not imported
_PHASES = 1 << 16  # float64 phases in memory at a time and thread: half of the L2 cache
_FREQUENCIES = 512  # whose phases are computed together


def response(points: Tensor, values: Tensor, frequencies: Tensor, mean: bool) -> Tensor:
    """The reference's answer."""
    with torch.no_grad(), own_threads_only():
        reach = points.abs().amax(dim=0).double() if len(points) else points.new_zeros(points.shape[1]).double()
        for name, given in (("points", reach), ("frequencies", frequencies)):
            if not torch.isfinite(given).all():
                raise ValueError(f"expected finite `{name}`, got NaN or infinite ones; leave those rows out")
        if not (len(points) and len(frequencies) and values.shape[1]):
            return _reference.response(points, values, frequencies, mean)
        sums = _sums(points, values, frequencies, reach)
    return (sums / len(points) if mean else sums).to(values.dtype.to_complex())


def _sums(points: Tensor, values: Tensor, frequencies: Tensor, reach: Tensor) -> Tensor:
    """(K, m) complex128."""
    code = simd.compiled("frequency_response", "sums over waves run up to a hundred times slower")
    k, allowed = frequencies.double(), _lines.TURNS[values.dtype]
    lines = _lines.lines_of(k, reach, allowed)
    grid = _lines.grid_of(lines, reach, allowed) if lines is not None and _FINUFFT else None
    whole = None if grid is None else _lines.from_zero(grid, reach, allowed)
    costs = _costs(values, len(k), lines, grid, _by_finufft.symmetric(grid, whole) is not None)
    if code is None:
        costs = {name: cost for name, cost in costs.items() if name == "finufft"}
    route = min(costs, key=lambda name: costs[name]) if costs else None
    if route == "finufft" and grid is not None:
        return _by_finufft.sums(points, values, grid, whole)
    if route == "lines" and lines is not None:
        steps = _lines.from_zero([lines], reach, allowed)
        return by_lines(code, points, values, lines, None if steps is None else steps[0])
    if route == "sums":
        return by_sums(code, points, values, k)
    return _reference.response(points.double(), values.double(), k, mean=False)


def _costs(values: Tensor, K: int, lines: Lines | None, grid: list[Lines] | None, in_pairs: bool) -> dict[str, float]:
    """Nanoseconds of each way that there is, as measured on one core with registers of 512 bits."""
    (n, m), slower = values.shape, 1.7 if values.dtype == torch.float64 else 1.0
    costs = {"sums": slower * n * K * (0.6 + 0.01 * m)}
    if lines is not None:
        costs["lines"] = slower * (1e5 + n * (60 + len(lines.starts) * (4 + 3 * m)))
    if grid is not None and len(grid) <= 3:
        transforms = -(-m // 2) if in_pairs else m
        costs["finufft"] = slower * (3e5 + n * (40 + transforms * (60, 90, 330)[len(grid) - 1]))
    return costs


def by_sums(code: Any, points: Tensor, values: Tensor, k: Tensor) -> Tensor:
    """(K, m) complex128 for any frequencies, (K, d) float64: waves of a block of points and frequencies at a time."""
    n, m = values.shape
    lanes = code.REGISTER // values.element_size()
    padded = -(-len(k) // lanes) * lanes
    wide = torch.cat([k, k.new_zeros(padded - len(k), k.shape[1])])
    flat = values.contiguous().view(-1).numpy()
    out = torch.empty((padded, m), dtype=torch.complex128)

    def run(start: int, stop: int) -> None:
        waves = np.empty(2 * code.BLOCK * lanes, flat.dtype)
        for first in range(start, stop, _FREQUENCIES):
            some = wide[first : min(stop, first + _FREQUENCIES)].mT.contiguous()
            width = some.shape[1]
            totals = np.zeros(width * m * 2)
            rows = max(1, _PHASES // (width * code.BLOCK)) * code.BLOCK
            for i in range(0, n, rows):
                phases = points[i : i + rows].double() @ some
                code.accumulate(phases.view(-1).numpy(), flat[i * m : (i + rows) * m], m, waves, totals)
            parts = torch.from_numpy(totals).view(-1, m, 2, lanes).permute(0, 3, 1, 2).reshape(-1, m, 2)
            out[first : first + width] = torch.complex(parts[..., 0], -parts[..., 1])

    split_over_threads(run, padded, multiple=lanes)
    return out[: len(k)]
