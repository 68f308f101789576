"""Which wavelet a pattern is most like: the largest correlation with wavelets of several kinds, sizes and places."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .frames import wavelet_filters
from .gabor import as_patterns

FloatArray = NDArray[np.float64]
KNOWN = ("haar", "db2", "db4", "sym4", "coif1")
_BLOCK = 1 << 22  # numbers of correlations at a time


@dataclasses.dataclass(frozen=True, eq=False)
class Nearest:
    """The wavelet that each pattern is most like.

    Attributes:
        names: (u,) such as "db4 2 diagonal": wavelet, level, and along which axis it is a wave: "columns" (upright
            stripes), "rows" or "diagonal"; "" for patterns that are zero.
        residual: (u,) share of the pattern's energy that is not in it, at its best place, size and sign.
    """

    names: tuple[str, ...]
    residual: FloatArray


def wavelet_names(wavelets: Sequence[str]) -> tuple[str, ...]:
    """A list of names as it was given.

    Raises:
        TypeError: another thing, or a name that is no text.
    """
    some = isinstance(wavelets, Iterable) and not isinstance(wavelets, (str, bytes))
    if not some or not all(isinstance(name, str) for name in wavelets):
        raise TypeError(f"expected `wavelets` as a list of names of PyWavelets, got {wavelets!r:.60}")
    return tuple(wavelets)


def usual() -> tuple[str, ...]:
    """`KNOWN`, or Haar alone where PyWavelets is not installed."""
    return KNOWN if importlib.util.find_spec("pywt") is not None else KNOWN[:1]


def nearest_wavelets(patterns: FloatArray, *, wavelets: Sequence[str]) -> Nearest:
    """The wavelet of each pattern, among those of several kinds at every level that fits, at every pixel, mirrored too.

    Wavelets are the two-dimensional ones of a separable discrete transform, as filters on the pixels: products of a
    scaling filter and a wavelet filter along the axes. The correlation is that of the pattern with zeros around it.

    Args:
        patterns: (u, h, w), finite.
        wavelets: names of orthogonal wavelets of PyWavelets; "haar" needs no PyWavelets.

    Raises:
        ValueError: a wavelet that is not known or not orthogonal, or patterns of another shape, NaN or infinite.
        TypeError: arguments of another type.
        ImportError: PyWavelets is not installed.
    """
    values, wavelets = as_patterns(patterns), wavelet_names(wavelets)
    count, h, w = values.shape
    energy = values.square().sum(dim=(1, 2))
    best, winner = torch.zeros(count, dtype=torch.float64), [""] * count
    for name in wavelets:
        for level in range(1, 16):
            smooth, wave = _taps(name, level)
            if level > 1 and len(wave) > 2 * max(h, w):
                break
            for kind, along_rows, along_columns in (
                ("columns", smooth, wave), ("rows", wave, smooth), ("diagonal", wave, wave)
            ):  # fmt: skip
                found = _largest(values, _both(along_rows), _both(along_columns))
                better = found.square() > best * (1 + 1e-12)
                for i in better.nonzero()[:, 0].tolist():
                    winner[i] = f"{name} {level} {kind}"
                best = torch.where(better, found.square(), best)
    share = torch.where(energy > 0, best / energy.clamp_min(torch.finfo(torch.float64).tiny), 0)
    return Nearest(tuple(winner), (1 - share).clamp_min(0).numpy())


@functools.cache
def _taps(name: str, level: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(scaling, wavelet) filter of a level, each of norm 1: what it makes of single pixels, in full length."""
    root = math.sqrt(0.5)
    low, high = ([root, root], [-root, root]) if name == "haar" else wavelet_filters(name)[:2]
    smooth = np.array([1.0])
    for i in range(level - 1):
        smooth = np.convolve(smooth, _spread(low, 1 << i))
    step = 1 << (level - 1)
    return tuple(np.convolve(smooth, _spread(low, step))), tuple(np.convolve(smooth, _spread(high, step)))


def _spread(taps: Sequence[float], step: int) -> FloatArray:
    spread = np.zeros((len(taps) - 1) * step + 1)
    spread[::step] = taps
    return spread


def _both(taps: Sequence[float]) -> list[Tensor]:
    """A filter and its mirror image, if that is another one but for its sign."""
    one = torch.tensor(taps, dtype=torch.float64)
    two = one.flip(0)
    alike = min(float((one - two).abs().max()), float((one + two).abs().max())) < 1e-12
    return [one] if alike else [one, two]


def _largest(values: Tensor, along_rows: list[Tensor], along_columns: list[Tensor]) -> Tensor:
    """(u,) largest size of a correlation with a product of one of each, at any place."""
    count, h, w = values.shape
    block = max(1, _BLOCK // ((h + len(along_rows[0])) * (w + len(along_columns[0]))))
    parts = []
    for some in values.split(block):
        found = torch.zeros(len(some), dtype=torch.float64)
        for a in along_rows:
            half = _shifts(a, h) @ some
            for b in along_columns:
                found = torch.maximum(found, (half @ _shifts(b, w).T).abs().amax(dim=(1, 2)))
        parts.append(found)
    return torch.cat(parts)


def _shifts(taps: Tensor, n: int) -> Tensor:
    """(n + taps - 1, n) the filter at every place that it meets n pixels at."""
    rows = torch.arange(n + len(taps) - 1)[:, None] - torch.arange(n)
    inside = (rows >= 0) & (rows < len(taps))
    return torch.where(inside, taps[rows.clamp(0, len(taps) - 1)], 0)
