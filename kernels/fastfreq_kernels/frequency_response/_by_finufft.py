"""`frequency_response` for grids by finufft (Barnett, Magland, af Klinteberg 2019), loaded only when it is called."""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastfreq_kernels._threads import each_in_threads

from ._lines import Lines

_TOLERANCE = {torch.float32: 1e-7, torch.float64: 1e-14}
_POINTS = 1 << 14  # at most in a block of a transform of its own, and three for each frequency: its FFT costs little
_TOGETHER = 8  # transforms at most of one call, which sorts its points once


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

    In float64 throughout: finufft's transform of float32 takes half the time, but a position rounded to float32, and
    again to its place on the fine grid, moves the phase of mode (h_1, h_2) by up to about 4 eps (|h_1| + |h_2|). Of a
    single value that was 58 eps on a grid of 16 x 16 and 207 on one of 64 x 64, where this is within 3. Blocks of
    points are in our threads and each in one of finufft's, whose own ones add in any order.
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

    def modulated(some: slice, points: slice) -> Tensor:
        return values[points, some].mT.contiguous() * wave[points]

    found = _transformed(angles, values.shape[1], sizes, values.dtype, modulated)
    return found.view(len(found), -1).mT


def _in_pairs(
    angles: list[NDArray[np.float64]], values: Tensor, grid: list[Lines], first: list[int], halves: list[int]
) -> Tensor:
    """(K, m) complex128, two real outputs a and b as one complex one.

    Of H, the transform of a + i b: A(k) = (H(k) + conj H(-k)) / 2 and B(k) = (H(k) - conj H(-k)) / 2i.

    Outputs are scaled to each other first, by powers of two, or the larger one's rounding would be in the smaller one.
    """
    rows = values.mT.contiguous()
    largest = rows.abs().amax(dim=1).double()
    finite = torch.isfinite(largest)
    if not finite.all():
        rows, largest = torch.where(finite[:, None], rows, 0), torch.where(finite, largest, 0)
    scale = torch.exp2(largest.clamp(min=1e-300).log2().ceil().clamp(max=1023))
    sizes = tuple(2 * h + 1 for h in halves)

    def strengths(pairs: slice, points: slice) -> Tensor:
        both = torch.zeros(pairs.stop - pairs.start, points.stop - points.start, 2, dtype=torch.float64)
        for part in range(2):  # the last pair may lack its second
            some = rows[part::2][pairs, points]
            torch.mul(some, scale[part::2][pairs, None].reciprocal(), out=both[: len(some), :, part])
        return torch.view_as_complex(both)

    found = _transformed(angles, -(-len(rows) // 2), sizes, values.dtype, strengths)
    asked = tuple(slice(h + i, h + i + axis.count) for h, i, axis in zip(halves, first, grid, strict=True))
    mirrored = found.flip(*range(1, found.ndim)).conj()[:, *asked]
    found = found[:, *asked]
    both = torch.stack([found + mirrored, -1j * (found - mirrored)], dim=1).flatten(0, 1)
    sums = both[: len(rows)].flatten(1).mT * torch.where(largest > 0, scale / 2, 0)
    return torch.where(finite, sums, complex(math.nan, math.nan))


def _transformed(
    angles: list[NDArray[np.float64]],
    count: int,
    sizes: tuple[int, ...],
    precision: torch.dtype,
    strengths: Callable[[slice, slice], Tensor],
) -> Tensor:
    """(count, *sizes) complex128 of (some, points) complex strengths of a slice of transforms at a slice of points.

    Points in blocks, and transforms in groups, that are the same ones whatever the threads.
    """
    finufft = importlib.import_module("finufft")
    transform, n = getattr(finufft, f"nufft{len(sizes)}d1"), len(angles[0])
    blocks, groups = -(-n // max(_POINTS, 3 * math.prod(sizes))), -(-count // _TOGETHER)
    out = np.empty((blocks, count, *sizes), np.complex128)

    def run(block: int, group: int) -> None:
        points = slice(n * block // blocks, n * (block + 1) // blocks)
        some = slice(count * group // groups, count * (group + 1) // groups)
        given = strengths(some, points).numpy()
        found = transform(*(a[points] for a in angles), given, sizes, eps=_TOLERANCE[precision], isign=-1, nthreads=1)
        out[block, some] = found.reshape(len(given), *sizes)

    each_in_threads([functools.partial(run, block, group) for group in range(groups) for block in range(blocks)])
    return torch.from_numpy(sum(out[1:], start=out[0]))
