"""On a CPU: `fourier_perturb`'s passes, image by image."""

from __future__ import annotations

import torch
from torch import Tensor

from fastfreq_kernels.fourier_perturb import _cpu as fourier_perturb

from ._reference import output


def waves(
    images: Tensor, frequencies: Tensor, signs: Tensor, strengths: Tensor, phase: float, clip: bool, dtype: torch.dtype
) -> Tensor:
    """As the reference, in float32 arithmetic."""
    out = images.new_empty(images.shape, dtype=dtype)
    for i, strength in enumerate(strengths.tolist()):
        own = slice(i, i + 1)
        made = fourier_perturb.perturb(
            images[own], frequencies[own], signs[None, own], strength, phase, output(clip, dtype)
        )
        out[own] = made
    return out
