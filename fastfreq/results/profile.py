"""A map averaged over rings."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class RadialProfile:
    """A map averaged over rings.

    Attributes:
        radius: (r,) ring radii in cycles per image (per shorter side where sides differ).
        value: (r,) mean over the ring's cells and all images.
        low: (r,) lower end of the 95 % interval over images.
        high: (r,) upper end.
        cells: (r,) cells of the map in each ring.
    """

    radius: FloatArray
    value: FloatArray
    low: FloatArray
    high: FloatArray
    cells: NDArray[np.int64]
