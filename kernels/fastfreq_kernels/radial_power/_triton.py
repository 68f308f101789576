"""`radial_power` on a GPU: after cuFFT's real FFT, |F|^2 and the sum over a ring are one read of the spectrum.

`rings_kernel` has one program for each ring of each plane: it gathers the ring's cells through a table sorted by ring
and adds them in the order of that table. `plane_kernel` has one program for a block of cells of one channel and adds
the images in their order, in float64. No sum is left to atomics, so equal calls give equal bits.

Per plane of e = h (w // 2 + 1) complex cells of 8 bytes:
    FFT          4 h w + 8 e      read and written
    rings        8 e + 4 e        the spectrum and the table, which all planes share in L2
    plane        8 e              the same spectrum again
    arithmetic   8 e              flops, next to 5/2 h w log2(h w) of the FFT
|F|^2 is never written. Images are transformed in groups whose spectrum stays in L2 between the three, so that what
reaches memory is the images once. Exact parts of the plane are cut by torch from the |F|^2 of a group.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastfreq_kernels import _configs
from fastfreq_kernels._launch import Launch, check_image, run_on

from ._parts import add_parts, moments
from ._reference import centred_spectrum
from ._rings import rings_of


@triton.jit
def _value(cell, inside, MAGNITUDE: tl.constexpr):
    """|F|^2 or |F| of the cells at these addresses; both parts are in one sector, so the second load is from L1."""
    real = tl.load(cell, mask=inside, other=0.0)
    imaginary = tl.load(cell + 1, mask=inside, other=0.0)
    value = real * real + imaginary * imaginary
    return tl.sqrt(value) if MAGNITUDE else value


@triton.jit
def rings_kernel(
    rings, spectrum, table, starts, count, cells, MAGNITUDE: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """One ring of one plane: rings (planes, count), spectrum (planes, cells, 2), table: 2 cell + (stands for two)."""
    pid = tl.program_id(0)
    plane, ring = (pid // count).to(tl.int64), pid % count
    first, last = tl.load(starts + ring), tl.load(starts + ring + 1)
    here = spectrum + plane * cells * 2
    total = tl.zeros((BLOCK,), dtype=rings.dtype.element_ty)
    for start in range(first, last, BLOCK):
        at = start + tl.arange(0, BLOCK)
        entry = tl.load(table + at, mask=at < last, other=0)
        value = _value(here + (entry >> 1) * 2, at < last, MAGNITUDE)
        total += value * (1 + (entry & 1)).to(value.dtype)
    tl.store(rings + pid, tl.sum(total, axis=0))


@triton.jit
def plane_kernel(
    plane, spectrum, images, channels, cells, MAGNITUDE: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """Adds the images of spectrum (images, channels, cells, 2) to plane (channels, cells), a block of cells each."""
    blocks = tl.cdiv(cells, BLOCK)
    channel, block = tl.program_id(0) // blocks, tl.program_id(0) % blocks
    at = block * BLOCK + tl.arange(0, BLOCK)
    inside = at < cells
    target = plane + channel.to(tl.int64) * cells + at
    total = tl.load(target, mask=inside, other=0.0)
    cell = spectrum + channel.to(tl.int64) * cells * 2 + at * 2
    for _ in range(images):
        total += _value(cell, inside, MAGNITUDE).to(tl.float64)
        cell += channels * cells * 2
    tl.store(target, total, mask=inside)


def radial_power(
    images: Tensor, side: int | None, magnitude: bool, exponents: Sequence[int] | None
) -> tuple[Tensor, Tensor]:
    """Transform and reduce group by group; nothing waits for the GPU once the table is there."""
    n, c, h, w = images.shape
    cells = h * (w // 2 + 1)
    check_image(2 * cells)
    table, starts = _table(h, w, side, images.device)
    dtype = torch.float64 if images.dtype == torch.float64 else torch.float32
    rings = torch.empty(n, c, len(starts) - 1, dtype=dtype, device=images.device)
    parts = () if exponents is None else (len(exponents),)
    plane = torch.zeros(*parts, c, h, w // 2 + 1, dtype=torch.float64, device=images.device)
    group = max(1, _configs.RINGS_GROUP_BYTES // (c * cells * 2 * rings.element_size()))

    def by_group() -> Iterator[Launch]:
        for start in range(0, n, group):
            some = slice(start, start + group)
            spectrum = torch.view_as_real(centred_spectrum(images[some]).contiguous())
            by_ring, by_cell = launches(rings[some], plane, spectrum, table, starts, magnitude)
            yield by_ring
            if exponents is None:
                yield by_cell
                continue
            values = spectrum.square().sum(dim=-1)
            add_parts(plane.flatten(1), (values.sqrt_() if magnitude else values).flatten(1), exponents)

    run_on(images, by_group)
    return rings, plane


def ring_moments(profiles: Tensor, exponents: Sequence[int]) -> Tensor:
    """In torch: profiles are small next to the images they are of."""
    return moments(profiles, exponents)


def launches(
    rings: Tensor, plane: Tensor, spectrum: Tensor, table: Tensor, starts: Tensor, magnitude: bool
) -> list[Launch]:
    """The launches for one group: rings (n, c, r) filled, plane (c, h, w // 2 + 1) added to."""
    n, c, h, half, _ = spectrum.shape
    cells, count = h * half, rings.shape[2]
    shared = {"spectrum": spectrum, "cells": cells, "MAGNITUDE": magnitude, "BLOCK": _configs.RINGS_BLOCK}
    by_ring = {"rings": rings, "table": table, "starts": starts, "count": count}
    by_cell = {"plane": plane, "images": n, "channels": c}
    return [
        Launch(rings_kernel, (n * c * count,), {**shared, **by_ring}, _configs.RINGS_WARPS),
        Launch(
            plane_kernel, (c * triton.cdiv(cells, _configs.RINGS_BLOCK),), {**shared, **by_cell}, _configs.RINGS_WARPS
        ),
    ]


@functools.lru_cache(maxsize=16)
def _table(height: int, width: int, side: int | None, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cells sorted by ring with the bit that says whether each stands for two, and where rings start, on the GPU."""
    rings = rings_of(height, width, side)
    table = 2 * rings.order + (rings.weights == 2)
    return table.to(device, torch.int32), rings.starts.to(device, torch.int32)
