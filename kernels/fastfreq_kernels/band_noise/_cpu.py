"""`band_noise` and `gaussian_noise` arranged for a CPU: see `_planes_cpu`."""

from __future__ import annotations

import torch
from torch import Tensor

from fastfreq_kernels import _planes
from fastfreq_kernels._planes_cpu import Writer, filtered

from . import _reference


def gaussian(image_ids: Tensor, channels: int, height: int, width: int, seed: int) -> Tensor:
    """The reference's values in float32 arithmetic, one image at a time, whose 64-bit counters then stay in cache."""
    shape = (channels, height, width)
    out = torch.empty((len(image_ids), *shape))
    for i in range(len(image_ids)):
        out[i] = _reference.gaussian(seed, image_ids[i : i + 1], shape, torch.float32)[0]
    return out


def band_noise(
    images: Tensor,
    masks: Tensor,
    image_ids: Tensor,
    norm: float,
    seed: int,
    clip: bool,
    mean: Tensor | None,
    std: Tensor | None,
    dtype: torch.dtype,
    channels_last: bool,
) -> Tensor:
    """The reference's answer in float32 arithmetic, laid out channels_last or contiguous."""
    pixels = _planes.pixels_of(images).contiguous()
    c, h, w = images.shape[1:]
    out = _planes.empty(images, len(masks), dtype, channels_last=channels_last)
    write = Writer(out, clip=clip, mean=mean, std=std)

    def noise(part: slice) -> Tensor:
        return gaussian(image_ids[part], c, h, w, seed)

    for bands, part, planes in filtered(noise, images.shape, masks):
        gain = _reference.gain_to(torch.linalg.vector_norm(planes, dim=(-2, -1), keepdim=True), norm)
        torch.addcmul(pixels[part], planes, gain, out=planes)
        write(bands, part, planes)
    return out
