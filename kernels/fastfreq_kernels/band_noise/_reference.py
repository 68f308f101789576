"""The specification of `gaussian_noise` and `band_noise`: plain, differentiable torch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fastfreq_kernels import _philox, _planes

_NOISE = 1 << 31  # set in the channel's counter word: noise never shares a counter with `fourier_signs`


def gaussian(seed: int, image_ids: Tensor, shape: tuple[int, int, int], dtype: torch.dtype) -> Tensor:
    """Independent standard normal values (n, c, h, w), each a function of (seed, image, channel, pixel).

    Philox with key `seed` and counter (image low word, image high word, 2^31 + channel, q) gives four words; with
    u = (word >> 8) / 2^24 they are the pixels 4 q .. 4 q + 3 in row-major order:
    sqrt(-2 log(u_0 + 2^-24)) (cos, sin)(2 pi u_1), then the same of u_2 and u_3.

    Source: Box, Muller 1958.
    """
    c, h, w = shape
    device = image_ids.device
    image = image_ids[:, None, None]
    channel = torch.arange(c, device=device)[None, :, None] + _NOISE
    quad = torch.arange((h * w + 3) // 4, device=device)[None, None, :]
    words = _philox.philox(seed, (image & _philox.MASK, (image >> 32) & _philox.MASK, channel, quad))
    u = [(word >> 8).to(dtype) / 2**24 for word in words]
    normal = []
    for radius, turn in ((u[0], u[1]), (u[2], u[3])):
        length, angle = (-2 * (radius + 2**-24).log()).sqrt(), 2 * math.pi * turn
        normal += [length * angle.cos(), length * angle.sin()]
    return torch.stack(normal, dim=-1).flatten(2)[..., : h * w].reshape(-1, c, h, w)


def band_noise(
    images: Tensor,
    masks: Tensor,
    image_ids: Tensor,
    *,
    norm: float,
    seed: int,
    clip: bool,
    mean: Tensor | None,
    std: Tensor | None,
    dtype: torch.dtype,
) -> Tensor:
    """normalise(clip(image + norm N / ||N||)), N = Re ifft2(M fft2(noise)): (b, n, c, h, w)."""
    pixels = _planes.pixels_of(images)
    noise = gaussian(seed, image_ids, (images.shape[1], images.shape[2], images.shape[3]), torch.float64)
    planes = _planes.filtered(noise.to(pixels.dtype), masks)
    gain = gain_to(torch.linalg.vector_norm(planes, dim=(-2, -1), keepdim=True), norm)
    return _planes.finish(planes, pixels, gain, None, clip=clip, mean=mean, std=std, dtype=dtype)


def gain_to(length: Tensor, norm: float) -> Tensor:
    """What brings planes of this L2 norm to `norm`; 0 where a mask left nothing."""
    return torch.where(length > 0, norm / torch.where(length > 0, length, 1.0), 0.0)
