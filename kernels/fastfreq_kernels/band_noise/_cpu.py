"""`band_noise` and `gaussian_noise` arranged for a CPU: see `_planes_cpu`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastfreq_kernels import _planes
from fastfreq_kernels._output import Output
from fastfreq_kernels._planes_cpu import Writer, filtered

from . import _reference

_COUNTERS = 16384  # Philox counters at a time; below the 32,768 elements from which torch shares work among threads
_VECTOR = 64  # a multiple of the floats that any of torch's loops takes at a time


def gaussian(image_ids: Tensor, shape: Sequence[int], seed: int, domain: int) -> Tensor:
    """The reference's values in float32 arithmetic, for a few images at a time, whose 64-bit counters stay in cache."""
    counters = shape[0] * ((shape[1] * shape[2] + 3) // 4)
    # an image's values must not depend, in the last bit, on those beside it: torch has other code for what is left
    # over at the end of a vector or of a thread's share, which images of whole vectors and small groups do not reach
    group = max(1, _COUNTERS // counters) if counters % _VECTOR == 0 else 1
    out = torch.empty(len(image_ids), *shape)
    for i in range(0, len(image_ids), group):
        some = slice(i, i + group)
        out[some] = _reference.box_muller(image_ids[some], shape, seed, domain, torch.float32)
    return out


def band_noise(
    images: Tensor, masks: Tensor, image_ids: Tensor, norm: float, seed: int, domain: int, output: Output
) -> Tensor:
    """The reference's answer in float32 arithmetic."""
    pixels = _planes.pixels_of(images).contiguous()
    out = output.empty(images, len(masks), len(images))
    write = Writer(out, output)

    def noise(part: slice) -> Tensor:
        return gaussian(image_ids[part], images.shape[1:], seed, domain)

    for bands, part, planes in filtered(noise, images.shape, masks):
        gain = _reference.gain_to(torch.linalg.vector_norm(planes, dim=(-2, -1), keepdim=True), norm)
        write(bands, part, planes.mul_(gain).add_(pixels[part]))
    return out
