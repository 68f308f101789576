"""The specification of `filter_bands`: plain, differentiable torch."""

from __future__ import annotations

from torch import Tensor

from fastfreq_kernels import _planes
from fastfreq_kernels._output import Output


def filter_bands(images: Tensor, masks: Tensor, normalise_contrast: bool, output: Output) -> Tensor:
    """normalise(clip(Re ifft2(M fft2(image)))) of every image under every mask: (b, n, c, h, w)."""
    pixels = _planes.pixels_of(images)
    planes = _planes.filtered(pixels, masks)
    if normalise_contrast:
        gain, offset = _planes.contrast(planes, pixels, (-3, -2, -1))
        planes = planes * gain + offset
    return output.finish(planes)
