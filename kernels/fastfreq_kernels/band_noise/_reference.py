"""The specification of `gaussian_noise` and `band_noise`: plain, differentiable torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fastfreq_kernels import _philox, _planes
from fastfreq_kernels._output import Output


def gaussian(image_ids: Tensor, shape: Sequence[int], seed: int, domain: int) -> Tensor:
    """Independent standard normal values (n, c, h, w), each a function of (seed, domain, image, channel, pixel)."""
    return box_muller(image_ids, shape, seed, domain, torch.float64).float()


def box_muller(image_ids: Tensor, shape: Sequence[int], seed: int, domain: int, dtype: torch.dtype) -> Tensor:
    """`gaussian` in the arithmetic of a dtype.

    Philox gives four words at each counter (see `_philox`), whose index is q; with u = (word >> 8) / 2^24 they are the
    pixels 4 q .. 4 q + 3 in row-major order: sqrt(-2 log(u_0 + 2^-24)) (cos, sin)(2 pi u_1), then the same of u_2, u_3.

    Source: Box, Muller 1958.
    """
    (c, h, w), device = shape, image_ids.device
    channel = torch.arange(c, device=device)[None, :, None]
    quad = torch.arange((h * w + 3) // 4, device=device)[None, None, :]
    stream = _philox.stream(_philox.GAUSSIAN, domain)
    words = _philox.philox(seed, _philox.counter(stream, image_ids[:, None, None], channel, quad))
    u = [(word >> 8).to(dtype) / 2**24 for word in words]
    normal = []
    for radius, turn in ((u[0], u[1]), (u[2], u[3])):
        length, angle = (-2 * (radius + 2**-24).log()).sqrt(), 2 * math.pi * turn
        normal += [length * angle.cos(), length * angle.sin()]
    return torch.stack(normal, dim=-1).flatten(2)[..., : h * w].reshape(-1, c, h, w)


def band_noise(
    images: Tensor, masks: Tensor, image_ids: Tensor, norm: float, seed: int, domain: int, output: Output
) -> Tensor:
    """normalise(clip(image + norm N / ||N||)), N = Re ifft2(M fft2(noise)): (b, n, c, h, w)."""
    pixels = _planes.pixels_of(images)
    noise = box_muller(image_ids, images.shape[1:], seed, domain, torch.float64)
    planes = _planes.filtered(noise.to(pixels.dtype), masks)
    gain = gain_to(torch.linalg.vector_norm(planes, dim=(-2, -1), keepdim=True), norm)
    return output.finish(pixels + planes * gain)


def gain_to(length: Tensor, norm: float) -> Tensor:
    """What brings planes of this L2 norm to `norm`; 0 where a mask left nothing."""
    return torch.where(length > 0, norm / torch.where(length > 0, length, 1.0), 0.0)
