"""What the inputs of one layer hold at each frequency, and how that lies to what the layer keeps."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fastfreq.results import codec, shapes

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@codec.record
@dataclasses.dataclass(frozen=True, eq=False)
class LayerActivations:
    """Second moments S(k) = E[x^(k) x^(k)^H] of a layer's input x, frequency by frequency, and what the layer keeps.

    x^ is the orthonormal DFT of the input on the layer's grid, with the zeros that the layer pads with and with the
    phases of its stride as channels: the layer is y^(k) = A(k) x^(k), and the sum of all energies is E ||x||^2. Of k
    and -k one is listed, with `multiplicity` 2. Means over images are included: they are most of frequency 0.

    Second moments take memory and time. Where they were too many, they were taken at some frequencies only, evenly
    spread from the lowest to the highest radius; the others have NaN in all but `energy`, and shares are of those
    taken.

    Attributes:
        frequencies: (f, d) signed, cycles per image of the grid.
        multiplicity: (f,) 2 for a pair, 1 for a frequency that is its own conjugate.
        energy: (f,) multiplicity times E ||x^(k)||^2.
        eigenvalues: (f, r) of S(k), descending, r = min(channels, images).
        kept: (f,) number of singular values of A(k) that the layer keeps.
        kept_energy: (f,) the part of `energy` in the kept right singular vectors of A(k).
        output_energy: (f,) multiplicity times E ||A(k) x^(k)||^2: the output's energy, without its bias.
        kept_output_energy: (f,) the part of `output_energy` in the kept left singular vectors of A(k).
        angles: (f, m) principal angles in radians, ascending, between the span of the kept right singular vectors and
            that of as many leading eigenvectors of S(k), or of all those with an eigenvalue above 1e-10 of the largest
            if these are fewer; NaN beyond.
        images: number of inputs seen.
    """

    SHAPES: ClassVar[dict[str, str]] = {
        "frequencies": "f _", "multiplicity": "f", "energy": "f", "eigenvalues": "f _", "kept": "f",
        "kept_energy": "f", "output_energy": "f", "kept_output_energy": "f", "angles": "f _",
    }  # fmt: skip

    frequencies: IntArray
    multiplicity: IntArray
    energy: FloatArray
    eigenvalues: FloatArray
    kept: IntArray
    kept_energy: FloatArray
    output_energy: FloatArray
    kept_output_energy: FloatArray
    angles: FloatArray
    images: int

    def __post_init__(self) -> None:
        shapes.check(self)

    @property
    def measured(self) -> NDArray[np.bool_]:
        """(f,) whether the second moment was taken at a frequency; `energy` always was."""
        return np.isfinite(self.eigenvalues[:, 0])

    @property
    def effective_rank(self) -> FloatArray:
        """(f,) exp(entropy) of the eigenvalues of S(k): 1 .. r, 0 where S(k) is 0, NaN where it was not taken."""
        total = self.eigenvalues.sum(axis=1, keepdims=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            p = self.eigenvalues / total
            entropy = -np.where(p > 0, p * np.log(p), 0.0).sum(axis=1)
        rank = np.where(total[:, 0] > 0, np.exp(entropy), 0.0)
        return np.where(self.measured, rank, np.nan)

    @property
    def mean_effective_rank(self) -> float:
        """Mean of `effective_rank` over frequencies, weighted by energy; NaN for an input that is zero."""
        return self._weighted(self.effective_rank)

    @property
    def kept_share(self) -> float:
        """Share 0 .. 1 of the input's energy in the directions that the layer keeps; NaN for an input that is zero."""
        return self._share(self.kept_energy, self.energy)

    @property
    def top_share(self) -> float:
        """Share 0 .. 1 of the energy in as many leading eigenvectors of S(k): the most that `kept_share` could be."""
        columns = np.arange(self.eigenvalues.shape[1])
        top = np.where(columns < self.kept[:, None], self.eigenvalues, 0.0).sum(axis=1) * self.multiplicity
        return self._share(top, self.energy)

    @property
    def output_share(self) -> float:
        """Share 0 .. 1 of the output's energy, without its bias, in what the layer keeps; NaN for a zero output.

        1 minus it is the squared distance, relative, of the pre-activations from their projection on the kept
        frequencies and channels: small in most layers by Theorem 4.2.
        """
        return self._share(self.kept_output_energy, self.output_energy)

    @property
    def largest_angle(self) -> float:
        """The largest principal angle at any frequency, in radians; NaN where nothing is kept."""
        return float(np.nanmax(self.angles)) if np.isfinite(self.angles).any() else math.nan

    @property
    def mean_angle(self) -> float:
        """Mean over frequencies of the largest principal angle there, weighted by energy, in radians."""
        known = np.isfinite(self.angles)
        largest = np.where(known, self.angles, -np.inf).max(axis=1, initial=-np.inf)
        return self._weighted(np.where(known.any(axis=1), largest, np.nan))

    def profile(self, grid: tuple[int, ...], bins: int) -> FloatArray:
        """(bins,) share of the energy by radius, 0 to sqrt(d) / 2 cycles per pixel of the grid, in bins of one width.

        Frequency 0 is in the first.
        """
        radius = np.sqrt(np.square(self.frequencies / np.asarray(grid)).sum(axis=1))
        place = np.minimum((radius / (math.sqrt(len(grid)) / 2) * bins).astype(int), bins - 1)
        total = self.energy.sum()
        return np.bincount(place, self.energy, minlength=bins) / total if total > 0 else np.full(bins, np.nan)

    def _share(self, part: FloatArray, whole: FloatArray) -> float:
        seen = self.measured
        total = float(whole[seen].sum())
        return min(1.0, float(part[seen].sum()) / total) if total > 0 else math.nan

    def _weighted(self, values: FloatArray) -> float:
        known = np.isfinite(values)
        weight = float(self.energy[known].sum())
        return float((values[known] * self.energy[known]).sum() / weight) if weight > 0 else math.nan
