"""The specification of `fourier_waves`: plain, differentiable torch."""

from __future__ import annotations

import torch
from torch import Tensor

from fastfreq_kernels import _planes
from fastfreq_kernels._output import Output
from fastfreq_kernels.fourier_perturb._reference import phase_tables


def output(clip: bool, dtype: torch.dtype) -> Output:
    """What is made of image and wave: pixels still, laid out contiguously."""
    return Output(clip, None, None, dtype, False)


def waves(
    images: Tensor, frequencies: Tensor, signs: Tensor, strengths: Tensor, phase: float, clip: bool, dtype: torch.dtype
) -> Tensor:
    """clip(image + sign strength U), U the image's own."""
    pixels = _planes.pixels_of(images)
    rows, columns, amplitude = phase_tables(frequencies, (images.shape[2], images.shape[3]), phase)
    basis = amplitude[:, None, None] * torch.cos(rows[:, :, None] + columns[:, None, :])
    own = (strengths[:, None, None] * basis).to(pixels.dtype)[:, None] * signs[..., None, None]
    return output(clip, dtype).finish(pixels + own)
