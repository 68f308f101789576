"""A convolution's taps -> the packed Gram matrix of its symbol at each frequency."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from fastfreq_kernels import _dispatch, _taps
from fastfreq_kernels.hermitian_eigenvalues import hermitian_eigenvalues

from . import _cpu, _lags, _reference

__all__ = ["ConvGram", "conv_gram"]


def conv_gram(
    taps: Tensor, offsets: Tensor, frequencies: Tensor, *, grid: Sequence[int], backend: str | None = None
) -> Tensor:
    """Gram matrices of the smaller side of a convolution's symbols A_g(k) (see `conv_symbols`), packed.

    G = A A^H if a <= b, else A^H A; packed[i, j] = Re G[i, j] for i >= j and Im G[j, i] for i < j. Their eigenvalues
    are the squared singular values. The number of matrix products does not grow with the number of frequencies:
    G(k) is a sum over the lags of the kernel's autocorrelation.

    Args:
        taps: (g, t, a, b) float32 or float64: groups, kernel positions, output and input channels.
        offsets: (t, d) int64, where each tap sits, in pixels; on the CPU, too, if the taps are on a GPU.
        frequencies: (f, d) int64, in cycles per grid, of any sign.
        grid: sides (n_1 .. n_d) of the periodic grid.
        backend: None chooses: the reference if a gradient is needed, else "triton" on a GPU and "cpu" on a CPU. One
            that is named is used or refused.

    Returns:
        (g, f, c, c) of the taps' dtype, c = min(a, b).

    Raises:
        ValueError: shapes, a grid or devices that do not fit.
        TypeError: a dtype other than these.
        RuntimeError: a backend that cannot run here, or cannot give the gradient that `taps` require.
    """
    _taps.check_convolution(taps, offsets, frequencies, grid)
    return _GRAM(taps, offsets, frequencies, list(grid), backend=backend)


class ConvGram:
    """`conv_gram` of one convolution block by block of frequencies: what they share is computed once.

    Args:
        taps, offsets, grid: as in `conv_gram`.
        count: frequencies expected in all calls together; it decides how they are computed.
    """

    def __init__(self, taps: Tensor, offsets: Tensor, *, grid: Sequence[int], count: int) -> None:
        none = torch.empty_like(offsets[:0], device=taps.device)
        _taps.check_convolution(taps, offsets, none, grid)
        self.taps, self.offsets, self.grid = taps, offsets, tuple(grid)
        self._lags = None
        if taps.is_cpu and not taps.requires_grad and _cpu.autocorrelation_is_cheaper(taps, offsets, count):
            self._lags = _lags.lags_of(taps, offsets, grid)

    def float(self) -> ConvGram:
        """The same in float32: what is shared is rounded, not computed again."""
        single = copy.copy(self)
        single.taps = self.taps.float()
        if self._lags is not None:
            single._lags = dataclasses.replace(self._lags, packed=self._lags.packed.float())
        return single

    def __call__(self, frequencies: Tensor) -> Tensor:
        """(g, f, c, c) packed Gram matrices."""
        if self._lags is None:
            return conv_gram(self.taps, self.offsets, frequencies, grid=self.grid)
        _taps.check_convolution(self.taps, self.offsets, frequencies, self.grid)
        return _lags.gram_of(self._lags, frequencies, self.grid)

    def eigenvalues(self, frequencies: Tensor) -> Tensor:
        """(g, f, c) eigenvalues, descending, of the Gram matrices, which on a CPU are never all in memory."""
        if self._lags is not None:
            _taps.check_convolution(self.taps, self.offsets, frequencies, self.grid)
            values = _lags.eigenvalues_of(self._lags, frequencies, self.grid)
            if values is not None:
                return values
        return hermitian_eigenvalues(self(frequencies))


def _fake(taps: Tensor, offsets: Tensor, frequencies: Tensor, grid: Sequence[int]) -> Tensor:
    g, _, a, b = taps.shape
    c = min(a, b)
    return taps.new_empty((g, frequencies.shape[0], c, c))


_GRAM = _dispatch.register(
    "conv_gram",
    "(Tensor taps, Tensor offsets, Tensor frequencies, int[] grid) -> Tensor",
    reference=_reference.gram,
    cpu=_cpu.gram,
    fake=_fake,
)
