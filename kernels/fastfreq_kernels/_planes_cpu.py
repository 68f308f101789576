"""Filtered planes on a CPU: a few images and bands at a time, so that spectrum, product and planes stay in cache.

Measured on two cores at 224 x 224 with three channels, ms per image and band: product and inverse transform .13, of a
quarter of the columns .08; normalise .01 (by addcmul .04); to bfloat16 with the channels innermost .03 (one copy .08).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ._output import Output
from ._planes import half_masks

__all__ = ["Writer", "filtered"]

_CHUNK = 1 << 20  # float32 elements of planes at a time: larger ones leave the cache, and are fresh memory every time


def filtered(
    source: Callable[[slice], Tensor], shape: tuple[int, ...], masks: Tensor
) -> Iterator[tuple[slice, slice, Tensor]]:
    """(bands, images, planes (b, m, c, h, w)) of filtered images, chunk by chunk.

    Args:
        source: images -> the float32 planes (m, c, h, w) that are filtered.
        shape: (n, c, h, w) of the images.
        masks: (b, h, w).
    """
    (n, c, h, w) = shape
    each = c * h * w
    half = half_masks(masks)[:, None, None]
    reach = (half != 0).any(dim=-2).long().mul(torch.arange(1, w // 2 + 2)).amax(dim=(1, 2, 3)).tolist()
    images_each = max(1, min(n, _CHUNK // each))
    bands_each = max(1, _CHUNK // (images_each * each))
    for i in range(0, n if len(masks) else 0, images_each):
        part = slice(i, min(i + images_each, n))
        spectrum = torch.fft.rfft2(source(part))
        for j in range(0, len(masks), bands_each):
            bands = slice(j, j + bands_each)
            columns = slice(0, max(1, *reach[bands]))  # beyond which all of these masks are empty
            kept = torch.fft.ifft(half[bands][..., columns] * spectrum[..., columns], dim=-2, norm="forward")
            # the 1 / (h w) of the inverse transform stands in the masks
            yield bands, part, torch.fft.irfft(kept, n=w, dim=-1, norm="forward")


class Writer:
    """Clips, normalises and casts planes, which it overwrites, into a result.

    Args:
        out: (b, n, c, h, w), of `output.empty`.
        output: what is made of the planes.
    """

    def __init__(self, out: Tensor, output: Output) -> None:
        self._out, self._clip = out, output.clip
        self._terms = [term[:, None, None] for term in output.terms() or ()]

    def __call__(self, bands: slice, images: slice, planes: Tensor) -> None:
        if self._clip:
            planes.clamp_(0, 1)
        if self._terms:
            planes.mul_(self._terms[0]).add_(self._terms[1])  # two passes in cache: addcmul is slower with a row
        target = self._out[bands, images]
        if target.is_contiguous():
            target.copy_(planes)
        else:  # casting and interleaving in one copy is three times slower
            torch.stack(planes.to(target.dtype).unbind(2), dim=-1, out=target.permute(0, 1, 3, 4, 2))
