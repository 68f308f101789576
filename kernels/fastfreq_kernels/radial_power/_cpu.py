"""`radial_power` on a CPU: compiled code where numba is there and has the transform, else torch; images in threads."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fastfreq_kernels import simd
from fastfreq_kernels._threads import own_threads_only, split_over_threads

from ._parts import add_parts, anchors_of, moments
from ._reference import centred_spectrum
from ._rings import Rings, rings_of

_CHUNK = 1 << 18  # cells of half planes between reading the images and having their rings: a share of the L2 cache
_CONVERTED = 16  # images made contiguous, or float32, at a time
_KEPT = 1 << 17  # cells of planes of one channel that wait to be added together, in a share of the L2 cache


class _Layout(NamedTuple):
    """Where compiled code has the frequencies of a plane."""

    shape: Any
    cells: NDArray[np.int32]  # (m,) of (groups, w // 2 + 1, LANES), flat, sorted by ring
    starts: NDArray[np.int64]  # (r + 1,) where each ring starts in `cells`
    plane: Tensor  # (h * (w // 2 + 1),) int64, where in (groups, w, LANES) each cell of a half plane is


@own_threads_only()  # a sum over one large plane would be split over torch's own threads, and these would spin
def radial_power(
    images: Tensor, side: int | None, magnitude: bool, exponents: Sequence[int] | None
) -> tuple[Tensor, Tensor]:
    """The reference's answer."""
    h, w = images.shape[2:]
    layout = None if images.dtype == torch.float64 else _layout(h, w, side)
    if layout is None:
        return _by_torch(images, side, magnitude, exponents)
    return _by_compiled(images, magnitude, exponents, layout)


@own_threads_only()
def ring_moments(profiles: Tensor, exponents: Sequence[int]) -> Tensor:
    """The reference's answer."""
    n, r = profiles.shape
    code = _code()
    if code is None:
        return moments(profiles, exponents)
    width = -(-r // code.DOUBLES) * code.DOUBLES
    padded = np.zeros((n, width))
    padded[:, :r] = profiles.numpy()
    anchors, limits = _constants(exponents)
    found: dict[int, list[tuple[int, Tensor]]] = {}

    def run(start: int, stop: int) -> None:
        sums, used = np.empty((len(exponents), r * width)), np.zeros(len(exponents), dtype=bool)
        code.moments(padded[start:stop], r, sums, anchors, limits, used)
        rows = [(int(k), torch.from_numpy(sums[k]).view(r, width)[:, :r].triu()) for k in np.flatnonzero(used)]
        found[start] = [(k, upper + upper.triu(1).T) for k, upper in rows]

    split_over_threads(run, n)
    total = _zeros(len(exponents), r, r)
    for k, part in itertools.chain(*found.values()):
        total[k] += part
    return total


def _constants(exponents: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Anchors and limits, as compiled code takes them."""
    return np.array(anchors_of(exponents)), 2.0 ** (np.array(exponents, dtype=np.float64) - 1)


def _zeros(*shape: int) -> Tensor:
    """float64; pages of rows that stay 0 are never touched, which `torch.zeros` would do."""
    return torch.from_numpy(np.zeros(shape))


def _by_torch(
    images: Tensor, side: int | None, magnitude: bool, exponents: Sequence[int] | None
) -> tuple[Tensor, Tensor]:
    """A few images at a time go through every step while they are in cache.

    Measured at 3 x 224 x 224 on one core, ms per image: FFT .22, squares .06, roots .03, rings .06, sum over images
    .02. torch's own `abs` of complex numbers takes .22, a product with a matrix of rings .38.
    """
    n, c, h, w = images.shape
    table = rings_of(h, w, side)
    rings = torch.empty(n, c, len(table.cells), dtype=torch.float64 if images.dtype == torch.float64 else torch.float32)
    each = max(1, _CHUNK // (c * h * (w // 2 + 1)))
    parts = 1 if exponents is None else len(exponents)
    # threads write to arrays: a tensor made in inference mode takes no writes from a thread outside of it
    out, planes = rings.numpy(), {}
    images = images.detach()

    def run(start: int, stop: int) -> None:
        plane = _zeros(parts, c * h * (w // 2 + 1))
        for i in range(start, stop, each):
            some = slice(i, min(i + each, stop))
            values = _values(images[some], magnitude)
            if exponents is not None:
                add_parts(plane, values.flatten(1), exponents)
            else:
                for image in values:
                    plane += image.flatten()  # in float64, image by image: batches do not change the sum
            out[some] = _ring_sums(values, table).numpy()
        planes[start] = plane

    split_over_threads(run, n)
    total = _zeros(parts, c, h, w // 2 + 1)
    for start in sorted(planes):
        total += planes[start].view_as(total)
    return rings, total[0] if exponents is None else total


def _values(images: Tensor, magnitude: bool) -> Tensor:
    """|F|^2 or |F| of a few images, each transformed alone: MKL may round by the number of planes."""
    spectrum = torch.cat([centred_spectrum(image) for image in images.split(1)])
    values = spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)
    return values.sqrt_() if magnitude else values


def _ring_sums(values: Tensor, table: Rings) -> Tensor:
    """Sums over rings: cells as the rows of a table, so that all planes of a cell are added in one vector."""
    n, c = values.shape[:2]
    rows = values.view(n * c, -1).T.contiguous()
    weights = table.weights.to(rows.dtype)
    sums = F.embedding_bag(table.order, rows, table.starts[:-1], mode="sum", per_sample_weights=weights)
    return sums.T.view(n, c, -1)


def _code() -> Any:
    return simd.compiled("radial_power", "spectra of images take 2 to 6 times as long")


def _by_compiled(
    images: Tensor, magnitude: bool, exponents: Sequence[int] | None, layout: _Layout
) -> tuple[Tensor, Tensor]:
    code, shape = _code(), layout.shape
    n, c, h, w = images.shape
    anchors, limits = _constants(exponents or ())
    parts = 1 if exponents is None else len(exponents)
    rings = torch.empty(n, c, len(layout.starts) - 1)
    out, found = rings.numpy(), {}
    unit = 255.0 if images.dtype == torch.uint8 else 1.0
    cells = shape.groups * (w // 2 + 1) * code.LANES
    work = shape.spectrum_size + 2 * shape.buffer_size + 4 * code.LANES**2 + cells
    size = shape.groups * w * code.LANES
    together = max(1, min(_CONVERTED, n, _KEPT // size))

    def run(start: int, stop: int) -> None:
        # torch's memory starts where a cache line does
        scratch, kept = torch.empty(work).numpy(), torch.empty(together, size).numpy()
        sums = (np.zeros if exponents is None else np.empty)((c, parts, size))
        used = np.zeros((c, parts), dtype=bool)
        for i in range(start, stop, _CONVERTED):
            some = images.detach()[i : min(i + _CONVERTED, stop)]
            some = (some if some.dtype == torch.uint8 else some.float()).contiguous().view(-1, c, h * w).numpy()
            code.radial_power(
                some, unit, magnitude, shape, layout.cells, layout.starts, scratch, kept,
                out[i : i + len(some)], sums, anchors, limits, used,
            )  # fmt: skip
        found[start] = sums, used | (exponents is None)

    split_over_threads(run, n)
    plane = _zeros(parts, c, h * (w // 2 + 1))
    for start in sorted(found):
        sums, used = found[start]
        for channel, k in np.argwhere(used):
            plane[k, channel] += torch.from_numpy(sums[channel, k])[layout.plane]
    plane = plane.view(parts, c, h, w // 2 + 1)
    return rings, plane[0] if exponents is None else plane


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
