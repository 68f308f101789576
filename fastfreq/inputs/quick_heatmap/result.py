"""What a quick heat map is: counts by frequency that merge, and the map that is predicted from them."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastfreq.results import tables
from fastfreq.results.folds import by_image, condition, same, summed
from fastfreq.results.result import ModelResult
from fastfreq.vocabulary import fourier, statistics
from fastfreq.vocabulary.conventions import Convention
from fastfreq.vocabulary.smooth_shares import SmoothShares, smooth_shares

FloatArray = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class QuickHeatmap(ModelResult, kind="quick_heatmap"):
    """A Fourier heat map predicted from other images at each frequency.

    Maps are (rows, columns) with zero frequency at (rows // 2, columns // 2). ``a + b`` merges shards of images: what
    is kept are counts; maps are predicted from them when they are read.

    Attributes:
        convention, eps, seed, size, frequencies: as in `Heatmap`; all frequencies of the map.
        share: of the passes of the whole map, as asked for.
        edges: margins of images as they are between their kinds; empty where there is but one kind, since not every
            image was looked at as it is.
        labels: (n,) true classes.
        drawn: (f, s) images of each kind at each frequency.
        wrong: (f, s) those that were misclassified there.
        kinds: (s,) images of each kind.
        clean_drawn: images that were looked at as they are.
        clean_wrong: those that were misclassified.
    """

    SHAPES: ClassVar[dict[str, str]] = {
        "frequencies": "f 2",
        "labels": "n",
        "drawn": "f s",
        "wrong": "f s",
        "kinds": "s",
    }

    convention: Convention = same()
    eps: float = same()
    share: float = same()
    seed: int = same()
    size: tuple[int, int] = same()
    edges: tuple[float, ...] = same()
    frequencies: NDArray[np.int64] = condition()
    labels: NDArray[np.int64] = by_image()
    drawn: NDArray[np.int64] = summed(conditions=0)
    wrong: NDArray[np.int64] = summed(conditions=0)
    kinds: NDArray[np.int64] = summed()
    clean_drawn: int = summed()
    clean_wrong: int = summed()

    # ---------------------------------------------------------------- maps
    @functools.cached_property
    def smooth(self) -> SmoothShares:
        """What all images are predicted to show at each frequency."""
        counts = self.wrong, self.drawn, self.kinds
        return smooth_shares(*counts, frequencies=self.frequencies, shape=self.shape[1:])

    def to_map(self, values: ArrayLike) -> FloatArray:
        """Values (f,) as a centred map; twins share a value."""
        return fourier.to_map(values, self.frequencies, self.shape[1:], self.size)

    @property
    def error(self) -> FloatArray:
        """Top-1 error in 0 .. 1 of all images, as predicted."""
        return self.to_map(self.smooth.estimates)

    @property
    def deviation(self) -> FloatArray:
        """Standard error of `error`."""
        return self.to_map(self.smooth.deviations)

    @property
    def low(self) -> FloatArray:
        """Lower ends of the 95 % intervals of `error`."""
        return self.interval()[0]

    @property
    def high(self) -> FloatArray:
        """Upper ends of the 95 % intervals of `error`."""
        return self.interval()[1]

    def interval(self, *, confidence: float = 0.95) -> tuple[FloatArray, FloatArray]:
        """(low, high) maps: where the whole map of these images lies, if neighbouring frequencies are alike."""
        low, high = self.smooth.interval(confidence=confidence)
        return self.to_map(low), self.to_map(high)

    @property
    def pilot(self) -> FloatArray:
        """Share of errors among the images that each frequency got, as counted; NaN without any."""
        return self.to_map(self._pilot)

    @property
    def _pilot(self) -> FloatArray:
        wrong, drawn = self.wrong.sum(axis=1), self.drawn.sum(axis=1)
        return np.where(drawn > 0, wrong / np.maximum(drawn, 1), np.nan)

    @property
    def count(self) -> NDArray[np.int64]:
        """Images evaluated in each cell."""
        return self.to_map(self.drawn.sum(axis=1)).astype(np.int64)

    @property
    def clean_error(self) -> float:
        """Top-1 error of the images that were looked at as they are; NaN without any."""
        return self.clean_wrong / self.clean_drawn if self.clean_drawn else float("nan")

    @property
    def passes(self) -> int:
        """Forward passes that the counts took, images as they are included."""
        return int(self.drawn.sum()) + self.clean_drawn + self._labelling

    @property
    def whole_passes(self) -> int:
        """Forward passes of the whole map of these images."""
        return (len(self.frequencies) + 1) * self.n_images + self._labelling

    @property
    def _labelling(self) -> int:
        return self.n_images if self.labelled == "predicted" else 0

    @property
    def share_of_passes(self) -> float:
        """`passes` over `whole_passes`."""
        return self.passes / self.whole_passes

    def arrange(self, values: ArrayLike) -> FloatArray:
        """Values by frequency as a map."""
        return self.to_map(values)

    # ---------------------------------------------------------------- out of the toolkit
    def table(self) -> list[dict[str, Any]]:
        """One row per frequency: ky, kx, radius, count, error with its interval, the share counted, clean error."""
        f, smooth = self.frequencies, self.smooth
        low, high = smooth.interval()
        columns: dict[str, Any] = {"ky": f[:, 0], "kx": f[:, 1], "radius": fourier.radius(f, self.shape[1:])}
        columns |= {"count": self.drawn.sum(axis=1), "error": smooth.estimates, "error_low": low, "error_high": high}
        return tables.from_columns(columns | {"pilot": self._pilot, "clean_error": self.clean_error})

    def summary(self) -> list[dict[str, Any]]:
        """In short, one row: the map, and what it took."""
        low, high = self.smooth.interval()
        return [
            {
                "frequencies": len(self.frequencies),
                "error": float(self.smooth.estimates.mean()),
                "smallest": float(self.smooth.estimates.min()),
                "largest": float(self.smooth.estimates.max()),
                "half_width": float(np.median(high - low) / 2),
                "images each": float(self.drawn.sum(axis=1).mean()),
                "passes": self.passes,
                "of the whole map's": self.whole_passes,
            }
        ]

    def headline(self) -> str:
        """Range of the error, the error without perturbation, and what it took."""
        low, high = (float(end) for end in statistics.wilson(self.clean_wrong, self.clean_drawn))
        estimates = self.smooth.estimates
        return (
            f"error {estimates.min():.3f} to {estimates.max():.3f} as predicted over {len(self.frequencies):,} "
            f"frequencies, clean {self.clean_error:.3f} [{low:.3f}, {high:.3f}]; {self.passes:,} passes, "
            f"{self.share_of_passes:.1%} of {self.whole_passes:,}"
        )
