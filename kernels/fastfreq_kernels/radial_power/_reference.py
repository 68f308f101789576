"""The specification of `radial_power`: plain, differentiable torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fastfreq_kernels import _planes

from ._parts import sums_of_parts
from ._rings import rings_of


def radial_power(
    images: Tensor, side: int | None, magnitude: bool, exponents: Sequence[int] | None
) -> tuple[Tensor, Tensor]:
    """(rings (n, c, r), plane (c, h, w // 2 + 1)): |F|^2 or |F| summed over rings, and summed over images.

    With p exponents, the plane is (p, c, h, w // 2 + 1): exact sums of the parts of each value.
    """
    n, c, h, w = images.shape
    pixels = _planes.pixels_of(images)
    # MKL refuses to transform nothing
    spectrum = torch.fft.rfft2(pixels, norm="ortho") if n else pixels.new_zeros(n, c, h, w // 2 + 1).to(torch.complex64)
    values = spectrum.abs() if magnitude else spectrum.real.square() + spectrum.imag.square()
    table = rings_of(h, w, side)
    member = torch.repeat_interleave(torch.arange(len(table.cells)), table.starts.diff()).to(images.device)
    weighted = values.flatten(2)[..., table.order.to(images.device)] * table.weights.to(values)
    rings = values.new_zeros(n, c, len(table.cells)).index_add(2, member, weighted)
    if exponents is not None:
        return rings, sums_of_parts(values, exponents)
    return rings, values.sum(dim=0, dtype=torch.float64)


def ring_moments(profiles: Tensor, exponents: Sequence[int]) -> Tensor:
    """(p, r, r): exact sums of the parts of p_i p_j over profiles p (n, r)."""
    return sums_of_parts(profiles[:, :, None] * profiles[:, None, :], exponents)


def centred_spectrum(images: Tensor) -> Tensor:
    """The half plane (n, c, h, w // 2 + 1), transformed without the mean and given it back.

    The mean is most of a photograph's norm, to which the FFT's rounding errors are relative: without it the error of
    the worst ring fell from 191 to 55 eps in the median of 100 photographs at 224 x 224.
    """
    pixels = _planes.pixels_of(images)
    mean = pixels.mean(dim=(2, 3), keepdim=True)
    spectrum = torch.fft.rfft2(pixels - mean, norm="ortho")
    spectrum[:, :, 0, 0] += mean[:, :, 0, 0] * math.sqrt(pixels.shape[2] * pixels.shape[3])
    return spectrum
