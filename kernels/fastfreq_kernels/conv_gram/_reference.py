"""The specification: the Gram matrix of each symbol, packed."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from fastfreq_kernels import _hermitian
from fastfreq_kernels.conv_symbols import _reference as conv_symbols


def gram(taps: Tensor, offsets: Tensor, frequencies: Tensor, grid: Sequence[int]) -> Tensor:
    """A A^H if a <= b, else A^H A, of every symbol A (a x b): (g, f, c, c) packed Hermitian, c = min(a, b)."""
    return packed_gram(conv_symbols.symbols(taps, offsets, frequencies, grid))


def packed_gram(matrices: Tensor) -> Tensor:
    """The packed Gram matrices of the smaller side of complex matrices (..., a, b)."""
    wide = matrices.shape[-2] <= matrices.shape[-1]
    return _hermitian.pack(matrices @ matrices.mH if wide else matrices.mH @ matrices)
