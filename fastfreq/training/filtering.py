"""Low and high part of a network by a Gaussian filter over its inputs: the filtering method."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from fastfreq.vocabulary import numbers

from ._measures import FloatArray, Measure, Reading, Split

_ROWS = 256  # of the distances found at a time
_CACHED = 1 << 17  # entries of the kernel at a time: they and their distances stay in a core's own cache
_MOST = 16384  # probes: their distances take a gigabyte
_EXACT = 64  # coordinates up to which distances are found in float64
# of |x|^2 + |y|^2: distances of nearer pairs are those of differences, since products have lost them
_NEAR = {torch.float32: 1e-3, torch.float64: 1e-9}
_TOGETHER = 1 << 22  # numbers of such differences in memory
_LEAST = 1e-18  # of the kernel: nothing beside 1, and its square is no denormal number, a hundred times slower
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
        self.widths = np.array(deltas)
        self.self_weights = kernel.weigh(deltas)
        low = kernel.low(targets, deltas)
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
        low = self._kernel.low(residual, self._deltas)
        errors = _norms(low, residual) / self._norms
        parts = np.square(errors[[self._half, self._half + len(self._deltas)]])
        return Reading(errors, None, parts)


class _Kernel:
    """Row-normalised Gaussian kernels over one matrix of squared distances, a few rows at a time.

    Exponentials take most of the time: a kernel of half the width is the square of another.
    """

    def __init__(self, distances: Tensor) -> None:
        self._distances = distances
        self._sums: dict[float, Tensor] = {}

    def place(self, device: torch.device) -> None:
        """Keep distances on a GPU, where the network is on one."""
        if device.type == "cuda" and self._distances.device != device:
            self._distances = self._distances.to(device)
            self._sums = {delta: total.to(device) for delta, total in self._sums.items()}

    def weigh(self, deltas: tuple[float, ...]) -> FloatArray:
        """(d,) mean weight of a probe on itself; the sums of rows are kept."""
        n = len(self._distances)
        sums = [self._distances.new_empty(n) for _ in deltas]
        for start, j, kernel in self._kernels(self._distances, deltas):
            sums[j][start : start + len(kernel)] = kernel.sum(dim=1)
        self._sums = dict(zip(deltas, sums, strict=True))
        return np.array([float((1 / total.double()).mean()) for total in sums])

    def low(self, values: Tensor, deltas: tuple[float, ...]) -> list[Tensor]:
        """Low parts (n, m) of values (n, m) by width, of widths that were weighed."""
        given = values.to(self._distances.device, torch.float32)
        found = [torch.empty_like(given) for _ in deltas]
        for start, j, kernel in self._kernels(self._distances, deltas):
            rows = slice(start, start + len(kernel))
            torch.mm(kernel, given, out=found[j][rows])
        return [(part / self._sums[delta][:, None]).cpu() for part, delta in zip(found, deltas, strict=True)]

    def sampled(self, values: Tensor, delta: float, rows: slice) -> tuple[float, float]:
        """(mean weight of a probe on itself, norm of the high part over that of the values), over some rows."""
        some, given, part = self._distances[rows], values.float(), values[rows].float()
        low, weight = torch.empty_like(part), 0.0
        for start, _, kernel in self._kernels(some, (delta,)):
            total = kernel.sum(dim=1)
            low[start : start + len(kernel)] = (kernel @ given) / total[:, None]
            weight += float((1 / total.double()).sum())
        return weight / len(some), float((part - low).norm() / part.norm())

    @staticmethod
    def _kernels(distances: Tensor, deltas: tuple[float, ...]) -> Iterator[tuple[int, int, Tensor]]:
        """(first row, place of the width, e^(-D / 2 delta) of a few rows), in memory that the next one overwrites."""
        step = max(16, _CACHED // max(1, distances.shape[1]))
        scratch = distances.new_empty(step, distances.shape[1])
        for start in range(0, len(distances), step):
            block = distances[start : start + step]
            kernel, before = scratch[: len(block)], 0.0
            for j in _order(deltas):
                if before == 2 * deltas[j]:
                    kernel.square_().clamp_(min=_LEAST)
                else:
                    torch.mul(block, -0.5 / deltas[j], out=kernel).clamp_(min=math.log(_LEAST)).exp_()
                before = deltas[j]
                yield start, j, kernel


def _order(deltas: tuple[float, ...]) -> list[int]:
    """Places of widths, each half after its double where both are there."""
    left, found = dict(zip(deltas, range(len(deltas)), strict=True)), []
    for delta in sorted(deltas, reverse=True):
        while delta in left:
            found.append(left.pop(delta))
            delta /= 2
    return found


def squared_distances(points: Tensor) -> Tensor:
    """(n, n) float32 |x_i - x_j|^2 of points (n, d), exactly symmetric, zero on the diagonal."""
    centred = points - points.mean(dim=0)
    centred = centred if points.shape[1] <= _EXACT else centred.float()
    squares = centred.square().sum(dim=1)
    n = len(points)
    found = torch.empty(n, n)
    for start in range(0, n, _ROWS):
        stop = min(start + _ROWS, n)
        sums = squares[start:stop, None] + squares[None, start:]
        block = (sums - 2 * (centred[start:stop] @ centred[start:].T)).clamp_(min=0)  # rounding may go below zero
        near = (block < _NEAR[block.dtype] * sums).nonzero()
        for i, j in (pairs.T for pairs in near.split(max(1, _TOGETHER // points.shape[1]))):
            block[i, j] = (centred[start + i] - centred[start + j]).square().sum(dim=1)
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
    first, last = float(f"{float(sample.min()) / 16:.2g}"), float(sample.max())
    found: list[float] = []
    seen = (float("nan"), float("nan"))
    for delta in _doubling(first, last):
        seen = kernel.sampled(targets, delta, rows)
        if seen[0] < _SELF and _SHARE[0] < seen[1] < _SHARE[1]:
            found.append(delta)
        elif found or seen[1] >= _SHARE[1]:
            break
    if not found:
        raise ValueError(
            f"expected a width whose filter splits the targets: mean weight of a probe on itself below {_SELF} and "
            f"{_SHARE[0]} to {_SHARE[1]} of their norm in the high part; with {n} probes there is none (the last "
            f"tried: {seen[0]:.3f} and {seen[1]:.2f}). Take more probes, or give Filtering(deltas=...)"
        )
    picks = np.unique(np.rint(np.linspace(0, len(found) - 1, _WIDTHS)).astype(int))
    return tuple(found[i] for i in picks)


def _doubling(first: float, last: float) -> Iterator[float]:
    """Widths from `first` to `last` by about the square root of 2, each the exact double of the last but one."""
    pair = [first, float(f"{first * math.sqrt(2):.2g}")]
    while pair[0] < last:
        yield pair[0]
        pair = [pair[1], 2 * pair[0]]
