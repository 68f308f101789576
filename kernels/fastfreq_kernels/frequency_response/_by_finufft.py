"""`frequency_response` for grids by finufft (Barnett, Magland, af Klinteberg 2019), loaded only when it is called."""

from __future__ import annotations

import importlib
import math

import numpy as np
import torch
from torch import Tensor

from fastfreq_kernels._threads import split_over_threads

from ._lines import Lines

_TOLERANCE = {torch.float32: 1e-7, torch.float64: 1e-14}


def sums(points: Tensor, values: Tensor, grid: list[Lines]) -> Tensor:
    """(K, m) complex128 for a grid of up to three axes, outermost first.

    In float64 throughout, since float32 positions lose the digits of high frequencies; outputs in our threads and each
    in one of finufft's, whose own ones add in any order.
    """
    finufft = importlib.import_module("finufft")
    transform = getattr(finufft, f"nufft{len(grid)}d1")
    n, m = values.shape
    x = points.double()
    centre = grid[0].starts[0] + sum((axis.count // 2) * axis.step for axis in grid)
    turns = [x @ axis.step for axis in grid]
    angles = [(2 * math.pi * (t - t.round())).numpy() for t in turns]
    phases = x @ centre
    wave = torch.polar(torch.ones_like(phases), -2 * math.pi * (phases - phases.round()))
    sizes = tuple(axis.count for axis in grid)
    out = np.empty((m, *sizes), np.complex128)

    def run(start: int, stop: int) -> None:
        strengths = (values[:, start:stop].double() * wave[:, None]).mT.contiguous().numpy()
        found = transform(*angles, strengths, sizes, eps=_TOLERANCE[values.dtype], isign=-1, nthreads=1)
        out[start:stop] = found.reshape(stop - start, *sizes)

    split_over_threads(run, m)
    return torch.from_numpy(out).view(m, -1).mT
