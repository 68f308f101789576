"""On a CPU: from the kernel's autocorrelation where that is less work, else from the symbols."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from fastfreq_kernels.conv_symbols import _cpu as conv_symbols

from . import _lags, _reference

_PAIR = 3_000  # multiplications that one pair of taps costs beside its arithmetic (a share of some small calls)


def gram(taps: Tensor, offsets: Tensor, frequencies: Tensor, grid: Sequence[int]) -> Tensor:
    """As the reference."""
    if autocorrelation_is_cheaper(taps, offsets, len(frequencies)):
        return _lags.gram_of(_lags.lags_of(taps, offsets, grid), frequencies, grid)
    return _reference.packed_gram(conv_symbols.symbols(taps, offsets, frequencies, grid))


def autocorrelation_is_cheaper(taps: Tensor, offsets: Tensor, frequencies: int) -> bool:
    """Multiplications of both ways: t^2 / 2 products and a sum over lags, or a complex product per frequency."""
    g, t, a, b = taps.shape
    small, large = min(a, b), max(a, b)
    pairs = t * (t + 1) // 2
    kinds = min(pairs, 2 ** offsets.shape[1] * t // 2)  # of lags, where the taps form a grid
    lags = g * (pairs * small * small * large + frequencies * 2 * kinds * small * small) + pairs * _PAIR
    direct = g * frequencies * small * large * (2 * t + 4 * small)
    return lags < direct
