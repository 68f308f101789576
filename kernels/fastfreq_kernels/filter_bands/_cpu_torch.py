"""`filter_bands` by torch on a CPU: see `_planes_cpu`."""

from __future__ import annotations

import torch
from torch import Tensor

from fastfreq_kernels import _planes
from fastfreq_kernels._planes_cpu import Writer, filtered


def filter_bands(
    images: Tensor,
    masks: Tensor,
    normalise_contrast: bool,
    clip: bool,
    mean: Tensor | None,
    std: Tensor | None,
    dtype: torch.dtype,
    channels_last: bool,
) -> Tensor:
    """The reference's answer in float32 arithmetic, laid out channels_last or contiguous."""
    pixels = _planes.pixels_of(images).contiguous()
    mean_of = pixels.mean(dim=(-2, -1), keepdim=True)  # most of a photograph: without it rounding errors are halved
    passed = masks[:, 0, 0].to(pixels.dtype)[:, None, None, None, None]
    out = _planes.empty(images, len(masks), dtype, channels_last=channels_last)
    write = Writer(out, clip=clip, mean=mean, std=std)

    def centred(part: slice) -> Tensor:
        return pixels[part] - mean_of[part]

    for bands, part, planes in filtered(centred, images.shape, masks):
        planes.add_(passed[bands] * mean_of[part])
        if normalise_contrast:
            gain, offset = _planes.contrast(planes, pixels[part], (-3, -2, -1))
            planes.mul_(gain).add_(offset)
        write(bands, part, planes)
    return out
