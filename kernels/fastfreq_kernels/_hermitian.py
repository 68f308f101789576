"""Packed Hermitian matrices: c^2 reals instead of 2 c^2, the real part below, the imaginary part above the diagonal.

packed[i, j] = Re G[i, j] for i >= j, and packed[i, j] = Im G[j, i] for i < j.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["check_packed", "dilation", "pack", "unpack"]


def pack(matrices: Tensor) -> Tensor:
    """(..., c, c) complex Hermitian -> (..., c, c) real; only the lower triangle is read."""
    return matrices.real.tril() + matrices.imag.tril(-1).mT


def unpack(packed: Tensor) -> Tensor:
    """(..., c, c) real -> (..., c, c) complex Hermitian."""
    below, above = packed.tril(-1), packed.triu(1)
    real = packed.tril() + below.mT
    return torch.complex(real, above.mT - above)


def dilation(matrices: Tensor) -> Tensor:
    """Packed [[0, A], [A^H, 0]] of A (..., m, n): its eigenvalues are the singular values, minus those, and zeros."""
    *batch, m, n = matrices.shape
    packed = matrices.new_zeros((*batch, m + n, m + n), dtype=matrices.dtype.to_real())
    if matrices.is_complex():
        packed[..., m:, :m] = matrices.real.mT
        packed[..., :m, m:] = -matrices.imag
    else:
        packed[..., m:, :m] = matrices.mT
    return packed


def check_packed(packed: Tensor, count: int | None = None) -> int:
    """(..., c, c), float32 or float64; how many eigenvalues are asked for, all where `count` is None.

    Raises:
        ValueError: another shape or `count`.
        TypeError: another dtype.
    """
    if packed.ndim < 2 or packed.shape[-1] != packed.shape[-2] or packed.shape[-1] == 0:
        raise ValueError(f"expected packed Hermitian matrices of shape (..., c, c), got {tuple(packed.shape)}")
    if packed.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"expected packed Hermitian matrices of float32 or float64, got {packed.dtype}")
    if count is not None and not 1 <= count <= packed.shape[-1]:
        raise ValueError(f"expected `count` from 1 to {packed.shape[-1]}, the side of the matrices, got {count}")
    return packed.shape[-1] if count is None else count
