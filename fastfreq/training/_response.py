"""The Fourier transform of values at scattered points: the one place that asks for it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_BLOCK = 1 << 20  # phases held at a time


def mean_response(points: Tensor, values: Tensor, frequencies: Tensor) -> Tensor:
    """(K, m) complex128 coefficients (1/n) sum_i v_i e^(-2 pi i k . x_i) of values v (n, m) at points x (n, d).

    Args:
        points: (n, d) float64.
        values: (n, m) float64.
        frequencies: (K, d) float64, in cycles per unit of the points.
    """
    found = torch.zeros(len(frequencies), values.shape[1], dtype=torch.complex128)
    step = max(1, _BLOCK // max(1, len(frequencies)))
    for some, part in zip(points.split(step), values.split(step), strict=True):
        turns = frequencies @ some.T
        phase = (turns - turns.round()).mul_(2 * math.pi)
        found += torch.complex(phase.cos() @ part, -(phase.sin() @ part))
    return found / max(1, len(points))
