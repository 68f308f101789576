"""Low and high part of a network by a Gaussian filter over its inputs: the filtering method."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fastfreq.vocabulary import numbers

from ._measures import FloatArray, Measure, Reading, Split

_ROWS = 256  # of the kernel at a time: it and the distances below it stay in the cache
_MOST = 16384  # probes: their distances take a gigabyte
_EXACT = 64  # coordinates up to which distances are found in float64
_LEAST = -80.0  # of an exponent: exp of less is a denormal number, a hundred times slower, and nothing
_SELF, _SHARE = 0.05, (0.3, 0.9)  # what makes a width meaningful
_WIDTHS = 5


class Filtering(Measure):
    """f_low(x_i) = sum_j f(x_j) G(x_i - x_j) / sum_j G(x_i - x_j), G(x) = e^(-|x|^2 / (2 delta)), f_high = f - f_low.

    e_low = ||h_low - f_low|| / ||f_low|| over all probes and outputs, e_high likewise. The Fourier transform of G is
    e^(-delta |k|^2 / 2), k in radians: the cut-off falls as 1 / sqrt(delta). Too small a delta, and each probe sees
    itself alone; too large a one, and f_low is the mean: a width splits where the mean weight of a probe on itself is
    below .05 and ||f_high|| is .3 to .9 of ||f||. Distances are found once and kept, 4 n^2 bytes.

    Args:
        deltas: widths, variances in squared units of the inputs, ascending; None for up to five that split.

    Raises:
        ValueError: widths that are not positive or do not ascend.

    Source: Xu, Zhang, Luo, Xiao, Ma 2020, section 4.
    """

    name = "filtering"

    def __init__(self, deltas: Sequence[float] | None = None) -> None:
        self.deltas = None
        if deltas is not None:
            self.deltas = numbers.ascending("deltas", deltas, numbers.as_float)
            if not self.deltas[0] > 0:
                raise ValueError(f"expected positive `deltas`, got {self.deltas[0]:g}")

    def split(self, points: Tensor, targets: Tensor) -> Split:
        """As in `Measure`.

        Raises:
            ValueError: more probes than distances fit, or no width that splits their targets.
        """
        if len(points) > _MOST:
            raise ValueError(f"expected at most {_MOST:,} probes for a filter over all pairs, got {len(points):,}")
        kernel = _Kernel(squared_distances(points))
        deltas = _widths(kernel, targets) if self.deltas is None else self.deltas
        return _FilterSplit(kernel, targets, deltas)


class _FilterSplit(Split):
    def __init__(self, kernel: _Kernel, targets: Tensor, deltas: tuple[float, ...]) -> None:
        self._kernel, self._deltas = kernel, deltas
        low, weights = kernel.low(targets, deltas)
        self.widths = np.array(deltas)
        self.self_weights = weights
        self._norms = _norms(low, targets)
        whole = float(targets.norm())
        self.high_shares = self._norms[len(deltas) :] / max(whole, 1e-300)
        if not (self._norms > 1e-6 * whole).all() or not whole:
            raise ValueError(
                f"expected targets with a low and a high part at deltas {deltas}, one of them is zero: do the targets "
                f"vary, and are the widths those of the inputs?"
            )
        shown = [f"δ = {delta:g}" for delta in deltas]
        self.labels = tuple(f"{part}, {name}" for part in ("low", "high") for name in shown)
        self.radii = np.tile(1 / (2 * math.pi * np.sqrt(self.widths)), 2)
        self.amplitudes = self._norms / math.sqrt(len(targets))
        self._half = int(np.argmin(np.abs(self.high_shares**2 - 0.5)))
        self.settings = f"deltas {', '.join(f'{delta:g}' for delta in deltas)}"

    def place(self, device: torch.device) -> None:
        """As in `Split`."""
        self._kernel.place(device)

    def read(self, residual: Tensor) -> Reading:
        """As in `Split`."""
        low, _ = self._kernel.low(residual, self._deltas, weigh=False)
        errors = _norms(low, residual) / self._norms
        parts = np.square(errors[[self._half, self._half + len(self._deltas)]])
        return Reading(errors, None, parts)


class _Kernel:
    """Row-normalised Gaussian kernels over one matrix of squared distances, a block of rows at a time."""

    def __init__(self, distances: Tensor) -> None:
        self._distances = distances

    def place(self, device: torch.device) -> None:
        """Keep distances on a GPU, where the network is on one."""
        if device.type == "cuda":
            self._distances = self._distances.to(device)

    def low(
        self, values: Tensor, deltas: tuple[float, ...], *, rows: slice = slice(None), weigh: bool = True
    ) -> tuple[list[Tensor], FloatArray]:
        """(low parts (n, m) by width, (d,) mean weight of a probe on itself) of values (n, m), of some rows."""
        some = self._distances[rows]
        given = values.to(some.device, torch.float32)
        found = [given.new_empty(len(some), given.shape[1]) for _ in deltas]
        weights = np.zeros(len(deltas))
        scratch = given.new_empty(_ROWS, len(given))
        for start in range(0, len(some), _ROWS):
            block = some[start : start + _ROWS]
            kernel = scratch[: len(block)]
            for j, delta in enumerate(deltas):
                torch.mul(block, -0.5 / delta, out=kernel)
                kernel.clamp_(min=_LEAST).exp_()
                total = kernel.sum(dim=1)
                found[j][start : start + _ROWS] = (kernel @ given) / total[:, None]
                weights[j] += float((1 / total.double()).sum()) if weigh else 0.0
        return [part.cpu() for part in found], weights / max(1, len(some))


def squared_distances(points: Tensor) -> Tensor:
    """(n, n) float32 |x_i - x_j|^2 of points (n, d), exactly symmetric, zero on the diagonal."""
    centred = points - points.mean(dim=0)
    centred = centred if points.shape[1] <= _EXACT else centred.float()
    squares = centred.square().sum(dim=1)
    n = len(points)
    found = torch.empty(n, n)
    for start in range(0, n, _ROWS):
        stop = min(start + _ROWS, n)
        block = squares[start:stop, None] + squares[None, start:]
        block = block.sub_(2 * (centred[start:stop] @ centred[start:].T)).clamp_(min=0)  # rounding may go below zero
        found[start:stop, start:] = block.float()
        found[start:, start:stop] = found[start:stop, start:].T.clone()
    found.fill_diagonal_(0)
    return found


def _norms(low: list[Tensor], values: Tensor) -> FloatArray:
    """(2 d,) norms of the low parts, then of what is left of (n, m) float64 values."""
    parts = [part.double() for part in low]
    return np.array([float(p.norm()) for p in parts] + [float((values - p).norm()) for p in parts])


def _widths(kernel: _Kernel, targets: Tensor) -> tuple[float, ...]:
    """Up to five widths that split, evenly over the range of those that do.

    Looked for on a few rows: the mean weight and the share of the high part are means over rows.
    """
    n = len(targets)
    rows = slice(0, n, max(1, n // 512))
    some = kernel._distances[rows]
    positive = some[some > 0]
    if not len(positive):
        raise ValueError("expected probes at different points, they are all one")
    sample = positive[:: max(1, len(positive) // 65536)]
    delta, last = float(sample.min()) / 16, float(sample.max())
    found = []
    seen = (float("nan"), float("nan"))
    while delta < last:
        low, weight = kernel.low(targets, (delta,), rows=rows)
        part = targets[rows]
        share = float((part - low[0].double()).norm() / part.norm())
        seen = (float(weight[0]), share)
        if weight[0] < _SELF and _SHARE[0] < share < _SHARE[1]:
            found.append(float(f"{delta:.2g}"))
        elif found or share >= _SHARE[1]:
            break
        delta *= math.sqrt(2)
    if not found:
        raise ValueError(
            f"expected a width whose filter splits the targets: mean weight of a probe on itself below {_SELF} and "
            f"{_SHARE[0]} to {_SHARE[1]} of their norm in the high part; with {n} probes there is none (the last "
            f"tried: {seen[0]:.3f} and {seen[1]:.2f}). Take more probes, or give Filtering(deltas=...)"
        )
    picks = np.unique(np.rint(np.linspace(0, len(found) - 1, _WIDTHS)).astype(int))
    return tuple(sorted({found[i] for i in picks}))
