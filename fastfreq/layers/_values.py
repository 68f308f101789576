"""Singular values at every distinct frequency, in blocks that bound the memory, by the route an accuracy names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, cast, get_args

import fastfreq_kernels as kernels
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .symbols import Symbols

Accuracy = Literal["exact", "high", "fast"]
BLOCK_BYTES = 64 << 20  # of matrices held at a time
# float32 eigenvalues are off by up to 4e-6 of the largest (measured: 2e-6, for flat spectra of 256 channels), which is
# 4e-6 / (2 s) in a singular value s: within 3.5e-4 above this
RESOLVED = 6e-3
_SMALL = 32  # sides below which float32 is no faster
_PROBE = 16  # frequencies that show whether most have smaller values


def check_accuracy(accuracy: str) -> Accuracy:
    """Refuse an accuracy that is not one of the three.

    Raises:
        ValueError: another name.
    """
    if accuracy not in get_args(Accuracy):
        raise ValueError(
            f"expected `accuracy` of 'exact' (LAPACK in complex128), 'high' (error up to 1e-7 of the largest value) or "
            f"'fast' (up to 3.5e-4), got {accuracy!r}"
        )
    return cast(Accuracy, accuracy)


def distinct_values(
    symbols: Symbols, accuracy: Accuracy, progress: Callable[[float], object] = lambda _share: None
) -> NDArray[np.float64]:
    """(f, g r) singular values at each distinct frequency, descending, all groups together.

    "exact" takes LAPACK's SVD of every symbol in complex128. The others take square roots of eigenvalues of the
    smaller Gram matrix: an error of e ||G|| in an eigenvalue is one of at most sqrt(e) ||A|| in a singular value.
    In float64 that is within 1e-7. In float32 it is within 3.5e-4 for values above `RESOLVED` of the largest, and
    frequencies with a smaller one are done again in float64.
    """
    taps = _without_zeros(symbols.taps.detach().double())
    groups, _, rows, columns = symbols.taps.shape
    frequencies = symbols.frequencies.to(taps.device)
    smaller = min(taps.shape[2:])
    # float32 Gram matrices of weights of 1e20 or 1e-23 would leave the range
    scale = taps.abs().amax().clamp_min(torch.finfo(taps.dtype).tiny)
    taps = taps / scale
    each = groups * (taps.shape[2] * taps.shape[3] * 16 if accuracy == "exact" else smaller**2 * 8)
    step = max(1, BLOCK_BYTES // max(1, each))
    out = np.zeros((len(frequencies), groups, min(rows, columns)))
    compute = {"exact": _Exact, "high": _ByGram, "fast": _Fast}[accuracy](taps, symbols)
    for start in range(0, len(frequencies), step):
        part = frequencies[start : start + step]
        values = compute(part) * scale
        out[start : start + step, :, :smaller] = values.transpose(0, 1).cpu().numpy()
        progress(len(part) / len(frequencies))
    if groups == 1:
        return out[:, 0]
    return -np.sort(-out.reshape(len(out), -1), axis=1)


def _without_zeros(taps: Tensor) -> Tensor:
    """The taps without channels that are zero everywhere: a strided 1 x 1 kernel has three such in four."""
    if not taps.numel():
        return taps
    rows = (taps != 0).any(dim=3).any(dim=1).any(dim=0)
    columns = (taps != 0).any(dim=2).any(dim=1).any(dim=0)
    if rows.all() and columns.all():
        return taps
    rows[0] = columns[0] = True  # an all-zero kernel keeps one channel
    return taps[:, :, rows][:, :, :, columns]


class _Exact:
    """Singular values (g, f, r) of a block of frequencies by LAPACK."""

    def __init__(self, taps: Tensor, symbols: Symbols) -> None:
        self.taps, self.symbols = taps, symbols

    def __call__(self, frequencies: Tensor) -> Tensor:
        matrices = kernels.conv_symbols(self.taps, self.symbols.offsets, frequencies, grid=self.symbols.grid)
        return kernels.channel_singular_values(matrices)


class _ByGram:
    """Singular values (g, f, r) of a block of frequencies from its Gram matrices, in the precision of the taps."""

    def __init__(self, taps: Tensor, symbols: Symbols) -> None:
        self.gram = kernels.ConvGram(taps, symbols.offsets, grid=symbols.grid, count=len(symbols.frequencies))

    def __call__(self, frequencies: Tensor) -> Tensor:
        return self.gram.eigenvalues(frequencies).clamp_min(0).sqrt()


class _Fast:
    """float32, and float64 where values are too small for it; float64 at once where most of them are."""

    def __init__(self, taps: Tensor, symbols: Symbols) -> None:
        self.careful = _ByGram(taps, symbols)
        self.quick = _ByGram(taps.float(), symbols)
        self.useful = min(taps.shape[2:]) >= _SMALL and len(symbols.frequencies) > _PROBE
        self.probed = False

    def __call__(self, frequencies: Tensor) -> Tensor:
        if not self.useful:
            return self.careful(frequencies)
        if not self.probed:
            head, small = self._quick(frequencies[:_PROBE])
            self.probed, self.useful = True, 4 * small < len(head[0])
            return torch.cat([head, self(frequencies[_PROBE:])], dim=1) if len(frequencies) > _PROBE else head
        return self._quick(frequencies)[0]

    def _quick(self, frequencies: Tensor) -> tuple[Tensor, int]:
        values = self.quick(frequencies).double()
        resolved = values[..., -1] >= RESOLVED * values[..., 0]
        small = (~resolved).any(dim=0).nonzero()[:, 0]
        if len(small):
            values[:, small] = self.careful(frequencies[small])
        return values, len(small)
