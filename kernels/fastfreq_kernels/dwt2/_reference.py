"""The specification of `dwt2` and `idwt2`: plain, differentiable torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from . import _geometry

__all__ = ["dwt2", "idwt2"]


def dwt2(
    images: Tensor, low: Sequence[float], high: Sequence[float], mode: str, shrink: str, threshold: float
) -> Tensor:
    """One level: (n, c, h, w) -> (n, c, 4, h', w'), approximation and details across rows, columns and both."""
    rows = [_analysed(images, f, mode, -2) for f in (low, high)]
    approximation, horizontal, vertical, diagonal = (_analysed(part, f, mode, -1) for f in (low, high) for part in rows)
    details = torch.stack([horizontal, vertical, diagonal], dim=2)
    return torch.cat([approximation[:, :, None], shrunk(details, shrink, threshold)], dim=2)


def idwt2(approximation: Tensor, details: Tensor, low: Sequence[float], high: Sequence[float], mode: str) -> Tensor:
    """One level: (n, c, h', w') and (n, c, 3, h', w') -> (n, c, h, w)."""
    horizontal, vertical, diagonal = details.unbind(2)
    columns = [
        _synthesised(approximation, low, mode, -1) + _synthesised(vertical, high, mode, -1),
        _synthesised(horizontal, low, mode, -1) + _synthesised(diagonal, high, mode, -1),
    ]
    return _synthesised(columns[0], low, mode, -2) + _synthesised(columns[1], high, mode, -2)


def shrunk(values: Tensor, shrink: str, threshold: float) -> Tensor:
    """Hard or soft thresholding; "rectified": of magnitudes, so that the result has no sign. NaN stays."""
    if not shrink:
        return values
    kind, _, rectified = shrink.partition(" ")
    magnitude = values.abs()
    left = magnitude - threshold if kind == "soft" else magnitude
    left = torch.where(magnitude <= threshold, 0.0, left)
    return left if rectified else left * values.sign()


def _analysed(x: Tensor, taps: Sequence[float], mode: str, axis: int) -> Tensor:
    """y[o] = sum_j taps[j] e[2 o + F - 1 - j] along an axis."""
    x = x.movedim(axis, -1)
    n, f = x.shape[-1], len(taps)
    make = _geometry.analysis_table if torch.compiler.is_compiling() else _geometry.analysis  # Dynamo warns of caches
    table = make(n, f, mode)
    index, scale, first, last = (torch.from_numpy(each).to(x.device) for each in table[1:])
    e = x[..., index] * scale.to(x.dtype)
    if mode in _geometry.EXTRAPOLATE:
        e = e + x[..., :1] * first.to(x.dtype) + x[..., -1:] * last.to(x.dtype)
    stop = 2 * (_geometry.length(n, f, mode) - 1) + 1
    y = sum(taps[j] * e[..., f - 1 - j : f - 1 - j + stop : 2] for j in range(f))
    assert isinstance(y, Tensor)
    return y.movedim(-1, axis)


def _synthesised(a: Tensor, taps: Sequence[float], mode: str, axis: int) -> Tensor:
    """x[i] = sum over o of taps[i + shift - 2 o] a[o] along an axis."""
    a = a.movedim(axis, -1)
    n, f = a.shape[-1], len(taps)
    make = _geometry.synthesis_table if torch.compiler.is_compiling() else _geometry.synthesis
    table = make(n, f, mode)
    e = a[..., torch.from_numpy(np.ascontiguousarray(table.source)).to(a.device)]
    up = pad(e[..., None], (0, 1)).flatten(-2)  # zeros between
    count, begin = _geometry.restored(n, f, mode), table.shift + 2 * table.before
    up = pad(up, (f, f))
    x = sum(taps[j] * up[..., f + begin - j : f + begin - j + count] for j in range(f))
    assert isinstance(x, Tensor)
    return x.movedim(-1, axis)
