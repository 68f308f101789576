"""Two models on the same images with the same signs: where do they differ, and is it chance?"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastfreq.vocabulary import statistics

from . import folds, registry

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .result import ModelResult

FloatArray = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """Paired comparison of two results, condition by condition.

    Attributes:
        first: the result compared.
        second: the result it is compared with.
        only_first: images, by condition, that only the first model gets wrong.
        only_second: images, by condition, that only the second model gets wrong.
    """

    first: ModelResult
    second: ModelResult
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

    def plot(self, **options: Any) -> Figure:
        """The difference on a symmetric scale, with the cells that may be chance hatched."""
        return registry.plotter("comparison")(self, **options)


def compare(first: ModelResult, second: ModelResult) -> Comparison:
    """Two results with outcomes by condition and image, of two models.

    Raises:
        TypeError: results of different kinds, or without outcomes.
        ValueError: results that differ in anything but the model: images, labels, conditions, settings, precision.
    """
    if type(first) is not type(second):
        raise TypeError(f"expected two results of one kind, got {type(first).__name__} and {type(second).__name__}")
    if not isinstance(getattr(first, "wrong", None), folds.Outcomes):
        raise TypeError(f"expected results with outcomes by image, {type(first).__name__} has none")
    for name, fold in folds.folds(first).items():
        a, b = getattr(first, name), getattr(second, name)
        if name == "model":
            if a is not None and b is not None and a.numerics != b.numerics:
                raise ValueError(
                    f"expected two results of the same precision and rounding for a paired comparison, got "
                    f"{', '.join(a.numerics)} and {', '.join(b.numerics)}"
                )
        elif name == "image_hashes":
            if ((a != b) & (a != 0) & (b != 0)).any():
                raise ValueError("expected two results of the same images for a paired comparison; their pixels differ")
        elif (fold.how in ("same", "condition") or name in ("image_ids", "labels")) and not folds.equal(a, b):
            raise ValueError(f"expected two results of the same {name} for a paired comparison; theirs differ")
    # bits past the last image are 0 in both, and 0 & ~0 is 0: they never count
    a, b = first.wrong.packed, second.wrong.packed  # pyright: ignore[reportAttributeAccessIssue]
    counts = (np.bitwise_count(x & ~y).sum(axis=-1, dtype=np.int64) for x, y in ((a, b), (b, a)))
    only_first, only_second = (first.arrange(count) for count in counts)
    return Comparison(first, second, only_first, only_second)
