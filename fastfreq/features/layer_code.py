"""One layer as a dictionary, its activations as codes, and what the theory of sparse codes would ask of them."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fastfreq.results import codec

FloatArray = NDArray[np.float64]


@codec.record
@dataclasses.dataclass(frozen=True, eq=False)
class LayerCode:
    """One convolution as a dictionary, and what an activation makes of its output as a code.

    Attributes:
        weight_shape: (m, c / groups, kh, kw).
        coherence: mu over all atoms at all places.
        zero_atoms: filters that are zero; left out of mu.
        activation: that follows, or "" where another thing comes first, which `reason` names.
        reason: why there are no codes; "" where there are.
        stripes: (n,) most non-zeros in a stripe, image by image; empty without codes.
        mean_stripes: (n,) mean over places.
        density: (n,) share of a code's numbers that are not zero.
        smallest_share: (n,) least over largest magnitude of the non-zeros, atoms scaled to norm 1; NaN without any.
        stripe_size: numbers in a stripe.
    """

    SHAPES: ClassVar[dict[str, str]] = {"stripes": "n", "mean_stripes": "n", "density": "n", "smallest_share": "n"}

    weight_shape: tuple[int, ...]
    coherence: float
    zero_atoms: int
    activation: str
    reason: str
    stripes: FloatArray
    mean_stripes: FloatArray
    density: FloatArray
    smallest_share: FloatArray
    stripe_size: int

    @property
    def bound(self) -> float:
        """(1 + 1 / mu) / 2: codes with fewer non-zeros in each stripe are the only ones; inf where mu is 0."""
        return 0.5 * (1 + 1 / self.coherence) if self.coherence > 0 else float("inf")

    @property
    def pursuit_bound(self) -> float:
        """(1 + 1 / mu) / 3: basis pursuit finds codes with fewer."""
        return self.bound * 2 / 3

    @property
    def thresholding_bounds(self) -> FloatArray:
        """(n,) (1 + share / mu) / 2, share of each image: thresholding finds the support of codes with fewer."""
        share = np.nan_to_num(self.smallest_share, nan=1.0)  # of a code without non-zeros there is nothing to find
        return 0.5 * (1 + share / self.coherence) if self.coherence > 0 else np.full(len(share), np.inf)

    @property
    def unique(self) -> float:
        """Share of images whose code is the only one by the bound; NaN without codes."""
        return float((self.stripes < self.bound).mean()) if len(self.stripes) else float("nan")

    @property
    def found(self) -> float:
        """Share of images whose support thresholding would find without noise; NaN without codes."""
        return float((self.stripes < self.thresholding_bounds).mean()) if len(self.stripes) else float("nan")
