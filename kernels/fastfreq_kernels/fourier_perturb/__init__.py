"""Images x frequencies -> perturbed, clipped, normalised, cast batch, in one pass."""

from __future__ import annotations

import torch
from torch import Tensor

from . import _cpu, _reference

__all__ = ["fourier_perturb", "fourier_signs"]


def fourier_signs(
    image_ids: Tensor, frequencies: Tensor, shape: tuple[int, int, int], *, seed: int, signs: str = "channel"
) -> Tensor:
    """Random signs (f, n, c), -1 or +1, int8, of images x frequencies.

    Args:
        image_ids: (n,) int64, what identifies each image whatever its batch, shard or order.
        frequencies: (f, 2) int64, cycles per image (ky, kx).
        shape: (c, h, w) of the images.
        seed: 64-bit key.
        signs: drawn for each "channel" of each image, for each "image", or "none" (all +1).
    """
    c, h, w = shape
    if signs == "none":
        return torch.ones(len(frequencies), len(image_ids), c, dtype=torch.int8, device=image_ids.device)
    drawn = _reference.signs(seed, image_ids, c if signs == "channel" else 1, frequencies, (h, w))
    return drawn if signs == "channel" else drawn.expand(-1, -1, c)


def fourier_perturb(
    images: Tensor,
    frequencies: Tensor,
    signs: Tensor,
    *,
    eps: float,
    phase: float,
    clip: bool,
    mean: Tensor | None = None,
    std: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
) -> Tensor:
    """normalise(clip(image + sign eps U)) of every image at every frequency: (f n, c, h, w), frequency-major."""
    return _cpu.perturb(
        images, frequencies, signs, eps=eps, phase=phase, clip=clip, mean=mean, std=std, dtype=dtype,
        channels_last=channels_last,
    )
