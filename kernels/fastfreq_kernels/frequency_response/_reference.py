"""The specification of `frequency_response`: plain, differentiable torch, a block of points at a time."""

from __future__ import annotations

import math

import torch
from torch import Tensor

BLOCK = 1024  # points whose waves are in memory together


def response(points: Tensor, values: Tensor, frequencies: Tensor, mean: bool) -> Tensor:
    """(K, m) complex sums, or means, over i of values[i] exp(-2 pi i frequencies x points[i])."""
    sums = torch.zeros((len(frequencies), values.shape[1]), dtype=torch.complex128, device=values.device)
    for some, v in zip(points.split(BLOCK), values.split(BLOCK), strict=True):
        waves = torch.polar(
            torch.ones((), dtype=torch.float64, device=v.device), -2 * math.pi * turns(frequencies, some)
        )
        sums = sums + waves @ v.to(waves.dtype)
    return (sums / len(points) if mean else sums).to(values.dtype.to_complex())


def turns(frequencies: Tensor, points: Tensor) -> Tensor:
    """(K, n) float64 phases k . x in turns, from -1/2 to 1/2: whole turns taken away before anything is rounded."""
    phases = frequencies.double() @ points.double().mT
    return phases - phases.detach().round()
