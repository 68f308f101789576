"""A convolution's taps -> the packed Gram matrix of its symbol at each frequency."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastfreq_kernels import _dispatch, _taps

from . import _cpu, _reference

__all__ = ["conv_gram"]


def conv_gram(
    taps: Tensor, offsets: Tensor, frequencies: Tensor, *, grid: Sequence[int], backend: str | None = None
) -> Tensor:
    """Gram matrices of the smaller side of a convolution's symbols A_g(k) (see `conv_symbols`), packed.

    G = A A^H if a <= b, else A^H A; packed[i, j] = Re G[i, j] for i >= j and Im G[j, i] for i < j. Their eigenvalues
    are the squared singular values. The number of matrix products does not grow with the number of frequencies:
    G(k) is a sum over the lags of the kernel's autocorrelation.

    Args:
        taps: (g, t, a, b) float32 or float64: groups, kernel positions, output and input channels.
        offsets: (t, d) int64, where each tap sits, in pixels.
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
    differentiated = torch.is_grad_enabled() and taps.requires_grad
    path = _dispatch.choose(backend, taps.device.type, differentiated=differentiated)
    if path == "reference":
        return _reference.gram(taps, offsets, frequencies, grid)
    run = _GRAM if path == "operator" else _dispatch.interpreted("conv_gram:gram")
    return run(taps, offsets, frequencies, list(grid))


def _fake(taps: Tensor, offsets: Tensor, frequencies: Tensor, grid: Sequence[int]) -> Tensor:
    g, _, a, b = taps.shape
    c = min(a, b)
    return taps.new_empty((g, frequencies.shape[0], c, c))


_GRAM = _dispatch.register(
    "conv_gram",
    "(Tensor taps, Tensor offsets, Tensor frequencies, int[] grid) -> Tensor",
    cpu=_cpu.gram,
    triton="conv_gram:gram",
    fake=_fake,
)
