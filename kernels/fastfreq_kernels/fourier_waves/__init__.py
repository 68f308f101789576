"""Images plus one Fourier wave each, of a strength of its own: augmentation of a batch in one launch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fastfreq_kernels import _checks, _dispatch

from . import _cpu, _reference

__all__ = ["fourier_waves"]


def fourier_waves(
    images: Tensor,
    frequencies: Tensor,
    signs: Tensor,
    *,
    strengths: Tensor,
    phase: float,
    clip: bool,
    dtype: torch.dtype = torch.float32,
    backend: str | None = None,
) -> Tensor:
    """clip(image + sign strength U) with the image's own frequency, signs and strength: (n, c, h, w), contiguous.

    U is the unit basis image of `fourier_perturb`. Arithmetic is float32 (float64 in the reference if `images` is).

    Args:
        images: (n, c, h, w), float32, bfloat16 or float16 in [0, 1], or uint8, which is divided by 255; any strides.
        frequencies: (n, 2) int64, cycles per image (ky, kx), of any sign.
        signs: (n, c) int8, -1 or +1; 0 leaves a channel as it is.
        strengths: (n,) float64, L2 norm of the wave in each channel, in pixels of [0, 1], before clipping.
        phase: radians; 0 at self-conjugate frequencies.
        clip: to [0, 1]; NaN stays NaN.
        dtype: of the result: float32, bfloat16 or float16.
        backend: None chooses: the reference if a gradient is needed, else "triton" on a GPU and "cpu" on a CPU. One
            that is named is used or refused.

    Raises:
        ValueError: a shape, device or value other than these.
        TypeError: a dtype other than these.
        RuntimeError: a backend that cannot run here, or that cannot give the gradient that an input requires.
    """
    double = backend == "reference"
    _checks.check_images(images, double=double)
    _checks.check_frequencies(frequencies, images.device)
    for name, value, shape, kind in (
        ("frequencies", frequencies, (len(images), 2), torch.int64),
        ("signs", signs, tuple(images.shape[:2]), torch.int8),
        ("strengths", strengths, (len(images),), torch.float64),
    ):
        if value.shape != shape:
            raise ValueError(f"expected `{name}` of shape {shape}, one row per image, got {tuple(value.shape)}")
        if value.dtype != kind:
            raise TypeError(f"expected `{name}` of {kind}, got {value.dtype}; use {name}.to({kind})")
        _checks.check_device(name, value, images.device)
    if not math.isfinite(phase):
        raise ValueError(f"expected a finite `phase`, got {phase!r}")
    _checks.check_output(_reference.output(clip, dtype), images, double=double)
    return _WAVES(images, frequencies, signs, strengths, phase, clip, dtype, backend=backend)


def _fake(
    images: Tensor, frequencies: Tensor, signs: Tensor, strengths: Tensor, phase: float, clip: bool, dtype: torch.dtype
) -> Tensor:
    return images.new_empty(images.shape, dtype=dtype)


_WAVES = _dispatch.register(
    "fourier_waves",
    "(Tensor images, Tensor frequencies, Tensor signs, Tensor strengths, float phase, bool clip, ScalarType dtype)"
    " -> Tensor",
    reference=_reference.waves,
    cpu=_cpu.waves,
    fake=_fake,
)
