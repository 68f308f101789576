"""What the measures of a `FrequencyTracker` share: rows of frequencies, and the split of the target in halves."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastfreq.vocabulary import numbers

FloatArray = NDArray[np.float64]
NOTHING = 1e-6  # of the target's root mean square: nothing that an error could be relative to


@dataclasses.dataclass(frozen=True)
class Reading:
    """What one measure found at one step.

    Attributes:
        errors: (K,) relative error by row.
        magnitude_errors: (K,) the same of moduli; None for filters.
        parts: (2,) squared relative error of the low and of the high half.
    """

    errors: FloatArray
    magnitude_errors: FloatArray | None
    parts: FloatArray


class Split(abc.ABC):
    """A measure on its probes: the target's part of the work is done.

    Attributes:
        settings: what was asked for, in words.
        labels: (K) names of the rows.
        radii: (K,) frequency of each row.
        amplitudes: (K,) of the target.
        widths: (d,) of a filter's widths.
        self_weights: (d,) mean weight that a filter gives to a probe itself.
        high_shares: (d,) norm of the target's high part over the target's.
    """

    settings: str
    labels: tuple[str, ...]
    radii: FloatArray
    amplitudes: FloatArray
    widths: FloatArray = np.zeros(0)
    self_weights: FloatArray = np.zeros(0)
    high_shares: FloatArray = np.zeros(0)

    def place(self, device: torch.device) -> None:  # noqa: B027 - most measures have nothing to place
        """Keep what is large where the network is."""

    @abc.abstractmethod
    def read(self, residual: Tensor) -> Reading:
        """Errors of outputs h from residual = h - f, (n, m) float64: all measures are linear."""


class Measure(abc.ABC):
    """What to measure, before the probes are known.

    Attributes:
        name: under which a history keeps it.
    """

    name: str

    @abc.abstractmethod
    def split(self, points: Tensor, targets: Tensor) -> Split:
        """The measure on probes at points (n, d) with targets (n, m), both float64.

        Raises:
            ValueError: the probes do not suit it.
        """


class Rows:
    """Coefficients by frequency -> errors by row, a row being one frequency or a band of them.

    Args:
        coefficients: (F, m) complex, of the target.
        radii: (F,) distance of each frequency from zero.
        bands: (first, end) radii of each row, the end left out; None where each frequency is a row.
        labels: names of the rows.
        scale: root mean square of the target.

    Raises:
        ValueError: a row in which the target has nothing.
    """

    def __init__(
        self,
        coefficients: Tensor,
        radii: FloatArray,
        bands: Sequence[tuple[float, float]] | None,
        labels: Sequence[str],
        *,
        scale: float,
    ) -> None:
        self.target = coefficients
        energy = energies(coefficients)
        members = [[i] for i in range(len(radii))]
        if bands is not None:
            members = [np.flatnonzero((radii >= low) & (radii < high)).tolist() for low, high in bands]
        self._member = np.zeros((len(members), len(radii)))
        for row, some in enumerate(members):
            self._member[row, some] = 1
        self.energy = self._member @ energy
        self.amplitudes = np.sqrt(self.energy)
        empty = self.amplitudes <= NOTHING * max(scale, np.finfo(np.float64).tiny)
        if empty.any():
            names = [labels[i] for i in np.flatnonzero(empty)[:6]]
            raise ValueError(
                f"expected frequencies that the target has, it has none at {names} (less than 1e-6 of its root mean "
                f"square): an error relative to nothing is no figure"
            )

    def errors(self, residual: Tensor) -> tuple[FloatArray, FloatArray]:
        """(||r|| / ||f||, || |f + r| - |f| || / ||f||) by row, of a residual's coefficients r (F, m)."""
        known = residual.shape[1] - self.target.shape[1]
        target = torch.nn.functional.pad(self.target, (0, known)) if known else self.target
        moduli = (target + residual).abs() - target.abs()
        squares = energies(residual), moduli.square().sum(dim=1).numpy()
        first, second = (np.sqrt(self._member @ square / self.energy) for square in squares)
        return first, second


class Halves:
    """The low and the high half of a target's energy without its mean.

    Args:
        energy: (F,) of the target by frequency.
        radii: (F,) distance from zero.
    """

    def __init__(self, energy: FloatArray, radii: FloatArray) -> None:
        order = np.argsort(radii, kind="stable")
        order = order[radii[order] > 0]
        distinct, place = np.unique(radii[order], return_inverse=True)
        reached = np.cumsum(np.bincount(place, weights=energy[order], minlength=len(distinct)))
        total = reached[-1] if len(reached) else 0.0
        self.cut, self._masks, self._energy = float("nan"), None, (0.0, 0.0)
        if not total > 0 or len(distinct) < 2:
            return
        at = int(np.argmin(np.abs(reached[:-1] / total - 0.5)))
        self.cut = float(distinct[at])
        low = (radii > 0) & (radii <= self.cut)
        high = radii > self.cut
        self._energy = float(energy[low].sum()), float(energy[high].sum())
        if min(self._energy) > NOTHING**2 * total:
            self._masks = low, high

    def parts(self, energy: FloatArray) -> FloatArray:
        """(2,) a residual's energy over the target's, below and above the cut; NaN where there is no cut."""
        if self._masks is None:
            return np.full(2, np.nan)
        return np.array([energy[mask].sum() / own for mask, own in zip(self._masks, self._energy, strict=True)])


def energies(coefficients: Tensor) -> FloatArray:
    """(F,) squared moduli of coefficients (F, m), summed over outputs."""
    return (coefficients.real.square() + coefficients.imag.square()).sum(dim=1).numpy()


def band_edges(bands: Sequence[float]) -> tuple[list[tuple[float, float]], list[str]]:
    """(bands, labels) of ascending edges.

    Raises:
        ValueError: fewer than two edges, or edges that do not ascend from 0 on.
    """
    edges = numbers.ascending("bands", bands, numbers.as_float)
    if len(edges) < 2 or edges[0] < 0:
        raise ValueError(f"expected `bands` as at least two ascending edges from 0, got {edges}")
    pairs = list(zip(edges, edges[1:], strict=False))
    return pairs, [f"{low:g} to {high:g}" for low, high in pairs]
