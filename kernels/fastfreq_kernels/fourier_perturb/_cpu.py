"""`fourier_perturb` arranged for a CPU: four streaming passes, channels innermost.

A chunk of images fits in cache, so what costs is not the number of passes but passes whose inner loop is three
channels long. Everything here runs over rows of w * c contiguous values instead: measured on two
cores at 224 x 224, .022 ms per image against .14 ms for the same passes with per-channel broadcasting.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastfreq_kernels import _planes
from fastfreq_kernels._output import Output

from ._reference import phase_tables

# float32 elements between two writes in 16 bits: a larger scratch is fresh memory on every call, whose page faults
# cost up to seven times the arithmetic
_CHUNK = 1 << 20


def perturb(images: Tensor, frequencies: Tensor, signs: Tensor, eps: float, phase: float, output: Output) -> Tensor:
    """The reference's answer in float32 arithmetic."""
    n, c, h, w = images.shape
    f, channels_last = len(frequencies), output.channels_last
    inner = (h, w * c) if channels_last else (c, h * w)
    # contiguous before the arithmetic: every result has the layout of its operands
    pixels = (images.permute(0, 2, 3, 1) if channels_last else images).reshape(n, *inner).contiguous()
    pixels = _planes.pixels_of(pixels)
    waves = _waves(frequencies, (h, w), eps, phase, c if channels_last else 1)
    scale = signs.float()
    if channels_last:
        waves, scale = waves.view(f, 1, h, w * c), scale.repeat(1, 1, w).view(f, n, 1, w * c)
    else:
        waves, scale = waves.view(f, 1, 1, h * w), scale.reshape(f, n, c, 1)

    normalise = [term.repeat(w) if channels_last else term[:, None] for term in output.terms() or ()]

    out = torch.empty((f, n, *inner), dtype=output.dtype)
    images_each = max(1, min(n, _CHUNK // (c * h * w)))
    frequencies_each = max(1, min(f, _CHUNK // (images_each * c * h * w)))
    scratch = None if output.dtype == torch.float32 else torch.empty((frequencies_each, images_each, *inner))
    for i in range(0, f if n else 0, frequencies_each):
        for j in range(0, n, images_each):
            fs, ns = slice(i, i + frequencies_each), slice(j, j + images_each)
            target = out[fs, ns]
            part = target if scratch is None else scratch[: target.shape[0], : target.shape[1]]
            torch.addcmul(pixels[None, ns], waves[fs], scale[fs, ns], out=part)
            if output.clip:
                part.clamp_(0, 1)
            if normalise:
                torch.addcmul(normalise[1], part, normalise[0], out=part)
            if scratch is not None:
                target.copy_(part)
    if channels_last:
        return out.view(f * n, h, w, c).permute(0, 3, 1, 2)
    return out.view(f * n, c, h, w)


def _waves(frequencies: Tensor, shape: tuple[int, int], eps: float, phase: float, repeats: int) -> Tensor:
    """Waves eps U of every frequency, (f, h, w * repeats), by cos(a + b) = cos a cos b - sin a sin b."""
    rows, columns, amplitude = phase_tables(frequencies, shape, phase)
    amplitude = (eps * amplitude)[:, None]
    row_cos, row_sin = (amplitude * rows.cos()).float(), (amplitude * rows.sin()).float()
    column_cos, column_sin = columns.cos().float(), columns.sin().float()
    if repeats > 1:
        column_cos, column_sin = (t.repeat_interleave(repeats, dim=1) for t in (column_cos, column_sin))
    waves = row_cos[:, :, None] * column_cos[:, None, :]
    return waves.addcmul_(row_sin[:, :, None], column_sin[:, None, :], value=-1)
