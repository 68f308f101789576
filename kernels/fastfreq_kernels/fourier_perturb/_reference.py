"""The specification of `fourier_perturb`: plain, differentiable torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fastfreq_kernels import _philox, _planes
from fastfreq_kernels._output import Output


def signs(image_ids: Tensor, frequencies: Tensor, shape: Sequence[int], seed: int, domain: int) -> Tensor:
    """Random signs (f, n, channels), -1 or +1, int8: the top bit of Philox at the counter of `_philox`; set is -1."""
    ky, kx = frequencies[:, 0, None, None] % shape[1], frequencies[:, 1, None, None] % shape[2]
    channel = torch.arange(shape[0], device=image_ids.device)[None, None, :]
    stream = _philox.stream(_philox.SIGNS, domain)
    counter = _philox.counter(stream, image_ids[None, :, None], channel, ky * 65536 + kx)
    return (1 - 2 * (_philox.philox(seed, counter)[0] >> 31)).to(torch.int8)


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


def perturb(images: Tensor, frequencies: Tensor, signs: Tensor, eps: float, phase: float, output: Output) -> Tensor:
    """normalise(clip(image + sign eps U)) for every frequency and image: (f n, c, h, w), frequency-major."""
    c, h, w = images.shape[1:]
    pixels = _planes.pixels_of(images)
    rows, columns, amplitude = phase_tables(frequencies, (h, w), phase)
    basis = amplitude[:, None, None] * torch.cos(rows[:, :, None] + columns[:, None, :])
    waves = (eps * basis).to(pixels.dtype)[:, None, None] * signs[..., None, None]
    return output.finish((pixels + waves).reshape(-1, c, h, w))
