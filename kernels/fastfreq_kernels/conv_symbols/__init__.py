"""A convolution's taps -> its matrix (symbol) at each frequency."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastfreq_kernels import _dispatch, _taps

from . import _cpu, _reference

__all__ = ["conv_symbols"]


def conv_symbols(
    taps: Tensor, offsets: Tensor, frequencies: Tensor, *, grid: Sequence[int], backend: str | None = None
) -> Tensor:
    """Symbols of a convolution on a periodic grid: A_g(k) = sum_j taps[g, j] exp(2 pi i <k, offsets[j] / grid>).

    The singular values of the convolution as a linear map are those of all A_g(k) together. Offsets may lie outside
    the grid: they wrap, as the convolution does.

    Args:
        taps: (g, t, a, b) float32 or float64: groups, kernel positions, output and input channels.
        offsets: (t, d) int64, where each tap sits, in pixels; on the CPU, too, if the taps are on a GPU.
        frequencies: (f, d) int64, in cycles per grid, of any sign.
        grid: sides (n_1 .. n_d) of the periodic grid.
        backend: None chooses: the reference if a gradient is needed, else "triton" on a GPU and "cpu" on a CPU. One
            that is named is used or refused.

    Returns:
        (g, f, a, b), complex64 of float32 taps, complex128 of float64 taps.

    Raises:
        ValueError: shapes, a grid or devices that do not fit.
        TypeError: a dtype other than these.
        RuntimeError: a backend that cannot run here, or cannot give the gradient that `taps` require.

    Source: Sedghi, Gupta, Long 2019, "The Singular Values of Convolutional Layers", Theorem 6.
    """
    _taps.check_convolution(taps, offsets, frequencies, grid)
    return _SYMBOLS(taps, offsets, frequencies, list(grid), backend=backend)


def _fake(taps: Tensor, offsets: Tensor, frequencies: Tensor, grid: Sequence[int]) -> Tensor:
    g, _, a, b = taps.shape
    dtype = torch.complex64 if taps.dtype == torch.float32 else torch.complex128
    return taps.new_empty((g, frequencies.shape[0], a, b), dtype=dtype)


_SYMBOLS = _dispatch.register(
    "conv_symbols",
    "(Tensor taps, Tensor offsets, Tensor frequencies, int[] grid) -> Tensor",
    reference=_reference.symbols,
    cpu=_cpu.symbols,
    fake=_fake,
)
