"""The specification: one sum over taps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastfreq_kernels import _taps


def symbols(taps: Tensor, offsets: Tensor, frequencies: Tensor, grid: Sequence[int]) -> Tensor:
    """A_g(k) = sum_j taps[g, j] exp(2 pi i <k, offsets[j] / grid>): (g, f, a, b)."""
    cosines, sines = _taps.phase_tables(offsets, frequencies, grid, taps.dtype)
    return torch.einsum("ft,gtab->gfab", torch.complex(cosines, sines), torch.complex(taps, torch.zeros_like(taps)))
