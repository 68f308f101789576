"""The specification of `fourier_perturb`: plain, differentiable torch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fastfreq_kernels import _philox


def philox(seed: int, counter: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    """First output word of Philox4x32-10, as int64 in 0 .. 2^32 - 1."""
    return _philox.philox(seed, counter)[0]


def signs(seed: int, image_ids: Tensor, channels: int, frequencies: Tensor, shape: tuple[int, int]) -> Tensor:
    """Random signs (f, n, channels), -1 or +1, int8, each a function of (seed, image, channel, frequency).

    The top bit of Philox with key `seed` and counter (image low word, image high word, channel,
    65536 (ky mod h) + (kx mod w)): set means -1.
    """
    ky, kx = frequencies[:, 0, None, None] % shape[0], frequencies[:, 1, None, None] % shape[1]
    image = image_ids[None, :, None]
    channel = torch.arange(channels, device=image_ids.device)[None, None, :]
    word = philox(seed, (image & _philox.MASK, (image >> 32) & _philox.MASK, channel, ky * 65536 + kx))
    return (1 - 2 * (word >> 31)).to(torch.int8)


def phase_tables(frequencies: Tensor, shape: tuple[int, int], phase: float) -> tuple[Tensor, Tensor, Tensor]:
    """Row angles (f, h), column angles (f, w) in radians and amplitudes (f,) of unit basis images, in float64.

    U[y, x] = amplitude cos(row[y] + column[x]); the phase belongs to the rows and is 0 at self-conjugate
    frequencies. Integer products are reduced modulo the side before the float, so large images lose nothing.
    """
    h, w = shape
    ky, kx = frequencies[:, :1] % h, frequencies[:, 1:] % w
    y, x = torch.arange(h, device=ky.device), torch.arange(w, device=ky.device)
    own_twin = ((2 * ky) % h == 0) & ((2 * kx) % w == 0)
    turn = 2 * math.pi
    rows = (ky * y % h).double() * (turn / h) + phase * (~own_twin).double()
    columns = (kx * x % w).double() * (turn / w)
    return rows, columns, torch.where(own_twin[:, 0], 1.0, 2.0).double().div(h * w).sqrt()


def perturb(
    images: Tensor,
    frequencies: Tensor,
    signs: Tensor,
    *,
    eps: float,
    phase: float,
    clip: bool,
    mean: Tensor | None,
    std: Tensor | None,
    dtype: torch.dtype,
) -> Tensor:
    """normalise(clip(image + sign eps U)) for every frequency and image: (f n, c, h, w), frequency-major."""
    n, c, h, w = images.shape
    pixels = images if images.dtype == torch.float64 else images.float()
    if images.dtype == torch.uint8:
        pixels = pixels / 255
    rows, columns, amplitude = phase_tables(frequencies, (h, w), phase)
    basis = amplitude[:, None, None] * torch.cos(rows[:, :, None] + columns[:, None, :])
    waves = (eps * basis).to(pixels.dtype)[:, None, None] * signs[..., None, None]
    out = pixels + waves
    if clip:
        out = out.clamp(0, 1)
    if mean is not None and std is not None:
        out = (out - mean.to(out.dtype)[:, None, None]) / std.to(out.dtype)[:, None, None]
    return out.reshape(-1, c, h, w).to(dtype)
