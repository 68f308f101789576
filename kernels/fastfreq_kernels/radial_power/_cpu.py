"""`radial_power` on a CPU: compiled code where numba is there and has the transform, else torch; images in threads."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastfreq_kernels import _numba
from fastfreq_kernels._threads import split_over_threads

from . import _cpu_torch
from ._rings import rings_of

_CONVERTED = 16  # images made contiguous, or float32, at a time


class _Layout(NamedTuple):
    """Where compiled code has the frequencies of a plane."""

    shape: Any
    cells: NDArray[np.int32]  # (m,) of (groups, w // 2 + 1, LANES), flat, sorted by ring
    starts: NDArray[np.int64]  # (r + 1,) where each ring starts in `cells`
    plane: Tensor  # (h * (w // 2 + 1),) int64, where in (groups, w, LANES) each cell of a half plane is


def radial_power(images: Tensor, side: int | None, magnitude: bool) -> tuple[Tensor, Tensor]:
    """The reference's answer."""
    h, w = images.shape[2:]
    layout = None if images.dtype == torch.float64 else _layout(h, w, side)
    if layout is None:
        return _cpu_torch.radial_power(images, side, magnitude)
    return _by_compiled(images, magnitude, layout)


def _code() -> Any:
    return _numba.compiled("radial_power._compiled", "spectra of images take 2 to 6 times as long")


def _by_compiled(images: Tensor, magnitude: bool, layout: _Layout) -> tuple[Tensor, Tensor]:
    code, shape = _code(), layout.shape
    n, c, h, w = images.shape
    rings = torch.empty(n, c, len(layout.starts) - 1)
    out, sums_of = rings.numpy(), {}
    unit = 255.0 if images.dtype == torch.uint8 else 1.0
    cells = shape.groups * (w // 2 + 1) * code.LANES
    work = shape.spectrum_size + 2 * shape.buffer_size + 4 * code.LANES**2 + cells

    def run(start: int, stop: int) -> None:
        scratch = torch.empty(work).numpy()  # torch's memory starts where a cache line does
        sums = sums_of[start] = np.zeros((c, shape.groups * w * code.LANES))
        for i in range(start, stop, _CONVERTED):
            some = images.detach()[i : min(i + _CONVERTED, stop)]
            some = (some if some.dtype == torch.uint8 else some.float()).contiguous().view(-1, c, h * w).numpy()
            code.radial_power(
                some, unit, magnitude, shape, layout.cells, layout.starts, scratch,
                out[i : i + len(some)], sums,
            )  # fmt: skip

    split_over_threads(run, n)
    total = torch.zeros(c, shape.groups * w * code.LANES, dtype=torch.float64)
    for start in sorted(sums_of):
        total += torch.from_numpy(sums_of[start])
    return rings, total[:, layout.plane].view(c, h, w // 2 + 1)


@functools.lru_cache(maxsize=16)
def _layout(h: int, w: int, side: int | None) -> _Layout | None:
    """None where there is no compiled code, or no transform of this size in it."""
    code = _code()
    shape = code and code.shape_of(h, w)
    if shape is None or h * w >= 2**31:
        return None
    lanes, half, table = code.LANES, w // 2 + 1, rings_of(h, w, side)

    def slot(k: Tensor, x: Tensor, columns: int) -> Tensor:
        return (k // lanes * columns + x) * lanes + k % lanes

    ring = torch.repeat_interleave(torch.arange(len(table.cells)), table.starts.diff())
    upper = table.order // half <= h // 2  # rows of frequencies that are there; the others mirror them
    cell = table.order[upper]
    cells = slot(cell // half, cell % half, half).to(torch.int32)
    starts = torch.searchsorted(ring[upper], torch.arange(len(table.cells) + 1))
    y, x = torch.arange(h)[:, None], torch.arange(half)[None, :]
    plane = torch.where(y <= h // 2, slot(y, x, w), slot(h - y, -x % w, w))
    return _Layout(shape, cells.numpy(), starts.numpy(), plane.reshape(-1))
