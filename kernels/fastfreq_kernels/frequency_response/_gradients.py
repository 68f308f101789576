"""The gradients of `frequency_response`.

With theta = 2 pi k . x and G the gradient of the result (K, m),

values        Re sum_k conj(G_k) exp(-i theta): the operation itself, with points and frequencies in exchanged roles
phases        W_ik = -sum_m v_im (Re G_km sin(theta) + Im G_km cos(theta)), for a block of points at a time
points        2 pi W k        frequencies    2 pi W^T x
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from . import _reference

_BLOCK = 1 << 20  # phases in memory at a time


def of_values(gradient: Tensor, points: Tensor, frequencies: Tensor, sums: Callable[..., Tensor]) -> Tensor:
    """(n, m) from gradient (K, m) complex; `sums` is the operation, without the mean."""
    real, imaginary = sums(frequencies, torch.cat([gradient.real, gradient.imag], dim=1), -points).chunk(2, dim=1)
    return real.real - imaginary.imag


def of_phases(gradient: Tensor, points: Tensor, values: Tensor, frequencies: Tensor) -> tuple[Tensor, Tensor]:
    """(n, d) for points and (K, d) for frequencies."""
    of_points, of_frequencies = [], torch.zeros_like(frequencies)
    each = max(1, _BLOCK // max(1, len(frequencies)))
    for x, v in zip(points.split(each), values.split(each), strict=True):
        angles = 2 * math.pi * _reference.turns(x, frequencies).to(values.dtype)
        W = -(v @ gradient.real.mT) * angles.sin() - (v @ gradient.imag.mT) * angles.cos()
        of_points.append(2 * math.pi * (W.to(frequencies.dtype) @ frequencies).to(points.dtype))
        of_frequencies = of_frequencies + 2 * math.pi * (W.mT @ x.to(W.dtype)).to(frequencies.dtype)
    return torch.cat(of_points), of_frequencies
