"""The specification of `filter_bands`: plain, differentiable torch."""

from __future__ import annotations

import torch
from torch import Tensor

from fastfreq_kernels import _planes


def filter_bands(
    images: Tensor,
    masks: Tensor,
    *,
    normalise_contrast: bool,
    clip: bool,
    mean: Tensor | None,
    std: Tensor | None,
    dtype: torch.dtype,
) -> Tensor:
    """normalise(clip(Re ifft2(M fft2(image)))) of every image under every mask: (b, n, c, h, w)."""
    pixels = _planes.pixels_of(images)
    planes = _planes.filtered(pixels, masks)
    gain, offset = _planes.contrast(planes, pixels, (-3, -2, -1)) if normalise_contrast else (None, None)
    return _planes.finish(planes, None, gain, offset, clip=clip, mean=mean, std=std, dtype=dtype)
