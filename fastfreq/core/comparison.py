"""Two models on the same images with the same signs: where do they differ, and is it chance?"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastfreq.core.merging import check_same_measurement
from fastfreq.core.results import HeatmapResult
from fastfreq.vocabulary import statistics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FloatArray = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """Paired comparison of two heat maps, cell by cell.

    Attributes:
        first: the map compared.
        second: the map it is compared with.
        only_first: map of images that only the first model gets wrong.
        only_second: map of images that only the second model gets wrong.
    """

    first: HeatmapResult
    second: HeatmapResult
    only_first: FloatArray
    only_second: FloatArray

    @property
    def difference(self) -> FloatArray:
        """error(second) - error(first): positive where the first model is more robust."""
        return (self.only_second - self.only_first) / self.first.n_images

    def interval(self, *, confidence: float = 0.95) -> tuple[FloatArray, FloatArray]:
        """(low, high) maps of `difference` for paired proportions (Agresti, Min 2005)."""
        return statistics.paired_difference_interval(
            self.only_first, self.only_second, self.first.n_images, confidence=confidence
        )

    @property
    def p_value(self) -> FloatArray:
        """Exact two-sided McNemar p-value of each cell."""
        evaluated = ~np.isnan(self.only_first)
        p = np.full(self.only_first.shape, np.nan)
        p[evaluated] = statistics.mcnemar(
            self.only_first[evaluated].astype(np.int64), self.only_second[evaluated].astype(np.int64)
        )
        return p

    def significant(self, *, false_discovery_rate: float = 0.05) -> NDArray[np.bool_]:
        """Cells whose difference survives Benjamini-Hochberg at this rate over the whole map."""
        if not 0 < false_discovery_rate < 1:
            raise ValueError(f"expected a false discovery rate between 0 and 1, got {false_discovery_rate}")
        with np.errstate(invalid="ignore"):
            return statistics.benjamini_hochberg(self.p_value) <= false_discovery_rate

    def plot(self) -> Figure:
        """The difference on a symmetric scale, with the cells that may be chance hatched."""
        from fastfreq.plots import plot_comparison

        return plot_comparison(self)


def compare(first: HeatmapResult, second: HeatmapResult) -> Comparison:
    """See `HeatmapResult.compare`."""
    check_same_measurement(first, second, ("convention", "eps", "seed", "shape", "size"))
    for name in ("frequencies", "image_ids", "labels"):
        if not np.array_equal(getattr(first, name), getattr(second, name)):
            raise ValueError(f"expected two heat maps of the same {name} for a paired comparison; theirs differ")

    def discordant(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> FloatArray:
        return first.to_map(np.bitwise_count(a & ~b).sum(axis=1, dtype=np.int64))

    # padding bits are 0 in both, and 0 & ~0 is 0: they never count
    return Comparison(
        first,
        second,
        only_first=discordant(first.wrong, second.wrong),
        only_second=discordant(second.wrong, first.wrong),
    )
