"""The specification of `fourier_perturb`: plain, differentiable torch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_M0, _M1 = 0xD2511F53, 0xCD9E8D57  # Philox4x32 multipliers
_W0, _W1 = 0x9E3779B9, 0xBB67AE85  # Weyl key increments
_MASK = 0xFFFFFFFF


def philox(seed: int, counter: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    """First output word of Philox4x32-10, as int64 in 0 .. 2^32 - 1.

    Args:
        seed: 64-bit key.
        counter: four broadcastable int64 tensors, each in 0 .. 2^32 - 1.

    Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 4.3.
    """
    k0, k1 = seed & _MASK, (seed >> 32) & _MASK
    c0, c1, c2, c3 = counter
    for _ in range(10):
        # int64 products wrap modulo 2^64, so both 32-bit halves are those of the unsigned product
        p0, p1 = c0 * _M0, c2 * _M1
        c0, c1, c2, c3 = ((p1 >> 32) & _MASK) ^ c1 ^ k0, p1 & _MASK, ((p0 >> 32) & _MASK) ^ c3 ^ k1, p0 & _MASK
        k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
    return c0


def signs(seed: int, image_ids: Tensor, channels: int, frequencies: Tensor, shape: tuple[int, int]) -> Tensor:
    """Random signs (f, n, channels), -1 or +1, int8, each a function of (seed, image, channel, frequency).

    The top bit of Philox with key `seed` and counter (image low word, image high word, channel,
    65536 (ky mod h) + (kx mod w)): set means -1.
    """
    ky, kx = frequencies[:, 0, None, None] % shape[0], frequencies[:, 1, None, None] % shape[1]
    image = image_ids[None, :, None]
    channel = torch.arange(channels, device=image_ids.device)[None, None, :]
    word = philox(seed, (image & _MASK, (image >> 32) & _MASK, channel, ky * 65536 + kx))
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
