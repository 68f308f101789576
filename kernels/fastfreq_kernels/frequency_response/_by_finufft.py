"""`frequency_response` for grids by finufft (Barnett, Magland, af Klinteberg 2019), loaded only when it is called."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastfreq_kernels._threads import split_over_threads

from ._lines import Lines

_TOLERANCE = {torch.float32: 1e-7, torch.float64: 1e-14}


def symmetric(grid: list[Lines] | None, first: list[int] | None) -> list[int] | None:
    """Per axis the h of the modes -h .. h that hold a grid whose first frequency is `first` steps from zero.

    None where there are no such steps, or more than twice as many modes.
    """
    if grid is None or first is None:
        return None
    halves = [max(abs(i), abs(i + axis.count - 1)) for axis, i in zip(grid, first, strict=True)]
    held = math.prod(2 * h + 1 for h in halves)
    return halves if held <= 2 * math.prod(axis.count for axis in grid) else None


def sums(points: Tensor, values: Tensor, grid: list[Lines], first: list[int] | None) -> Tensor:
    """(K, m) complex128 for a grid of up to three axes, outermost first; `first` as `_lines.from_zero` has it.

    In float64 throughout, since float32 positions lose the digits of high frequencies; outputs in our threads and each
    in one of finufft's, whose own ones add in any order.
    """
    x = points.double()
    turns = [x @ axis.step for axis in grid]
    angles = [(2 * math.pi * (t - t.round())).numpy() for t in turns]
    halves = symmetric(grid, first)
    if halves is not None and first is not None:
        return _in_pairs(angles, values, grid, first, halves)
    centre = grid[0].starts[0] + sum((axis.count // 2) * axis.step for axis in grid)
    phases = x @ centre
    wave = torch.polar(torch.ones_like(phases), -2 * math.pi * (phases - phases.round()))
    sizes = tuple(axis.count for axis in grid)
    found = _transformed(angles, values.shape[1], sizes, values.dtype, lambda some: values[:, some] * wave[:, None])
    return found.view(len(found), -1).mT


def _in_pairs(
    angles: list[NDArray[np.float64]], values: Tensor, grid: list[Lines], first: list[int], halves: list[int]
) -> Tensor:
    """(K, m) complex128, two real outputs a and b as one complex one.

    Of H, the transform of a + i b: A(k) = (H(k) + conj H(-k)) / 2 and B(k) = (H(k) - conj H(-k)) / 2i.

    Outputs are scaled to each other first, by powers of two, or the larger one's rounding would be in the smaller one.
    """
    finite = torch.isfinite(values).all(dim=0)
    given = torch.where(finite, values, 0).double()
    largest = given.abs().amax(dim=0)
    scale = torch.exp2(largest.clamp(min=1e-300).log2().ceil())
    given = torch.nn.functional.pad(given / scale, (0, values.shape[1] % 2))
    sizes = tuple(2 * h + 1 for h in halves)

    def strengths(pairs: slice) -> Tensor:
        return torch.complex(given[:, ::2][:, pairs], given[:, 1::2][:, pairs])

    found = _transformed(angles, given.shape[1] // 2, sizes, values.dtype, strengths)
    asked = tuple(slice(h + i, h + i + axis.count) for h, i, axis in zip(halves, first, grid, strict=True))
    mirrored = found.flip(*range(1, found.ndim)).conj()[:, *asked]
    found = found[:, *asked]
    both = torch.stack([found + mirrored, -1j * (found - mirrored)], dim=1).flatten(0, 1)
    sums = both[: values.shape[1]].flatten(1).mT * torch.where(largest > 0, scale / 2, 0)
    return torch.where(finite, sums, complex(math.nan, math.nan))


def _transformed(
    angles: list[NDArray[np.float64]],
    count: int,
    sizes: tuple[int, ...],
    precision: torch.dtype,
    strengths: Callable[[slice], Tensor],
) -> Tensor:
    """(count, *sizes) complex128 of (n, some) complex strengths of the transforms in a slice."""
    finufft = importlib.import_module("finufft")
    transform = getattr(finufft, f"nufft{len(sizes)}d1")
    out = np.empty((count, *sizes), np.complex128)

    def run(start: int, stop: int) -> None:
        some = strengths(slice(start, stop)).mT.contiguous().numpy()
        found = transform(*angles, some, sizes, eps=_TOLERANCE[precision], isign=-1, nthreads=1)
        out[start:stop] = found.reshape(stop - start, *sizes)

    split_over_threads(run, count)
    return torch.from_numpy(out)
