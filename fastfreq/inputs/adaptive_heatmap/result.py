"""What a heat map to a stated precision is: outcomes of as many images in each cell as it needed, with intervals."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastfreq.results import tables
from fastfreq.results.folds import Outcomes, by_image, condition, same
from fastfreq.results.result import ModelResult
from fastfreq.vocabulary import fourier
from fastfreq.vocabulary.conventions import Convention

FloatArray = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class AdaptiveHeatmap(ModelResult, kind="adaptive_heatmap"):
    """A Fourier heat map whose cells were evaluated on different numbers of images. It is whole: it does not merge.

    Maps are (rows, columns) with zero frequency at (rows // 2, columns // 2); cells that were not evaluated are NaN.

    Attributes:
        convention, eps, seed, size, frequencies: as in `Heatmap`.
        method: "exact", "controls" or "anytime".
        precision_goal: half-width asked for; 0.5 where only time counted.
        confidence: of each cell, or of all cells at once.
        whole_map: whether `confidence` is that of all cells at once.
        target: "images", the error on the images given, or "source", that of where they come from.
        labels: (n,) true classes.
        reached: (n,) bool of the images that were looked at as they are.
        clean_wrong: (n,) bool of the images as they are; those never reached are False.
        tried: (f, n) on which images each frequency was evaluated.
        wrong: (f, n) where it was, and the perturbed image was misclassified.
        estimates: (f,) error.
        lows, highs: (f,) interval.
        passes: forward passes made, those of images as they are included.
        expected_passes: that `precision_goal` takes in all, by the intervals so far; `passes` where it is reached. An
            estimate: a few images a cell put it up to a third (0.03) or a half (0.1) too low.
    """

    SHAPES: ClassVar[dict[str, str]] = {
        "frequencies": "m 2", "labels": "n", "clean_wrong": "n", "tried": "m n", "wrong": "m n",
        "estimates": "m", "lows": "m", "highs": "m", "reached": "n",
    }  # fmt: skip

    convention: Convention = same()
    eps: float = same()
    seed: int = same()
    size: tuple[int, int] = same()
    method: str = same()
    precision_goal: float = same()
    confidence: float = same()
    whole_map: bool = same()
    target: str = same()
    frequencies: NDArray[np.int64] = condition()
    labels: NDArray[np.int64] = by_image()
    reached: NDArray[np.bool_] = by_image()
    clean_wrong: NDArray[np.bool_] = by_image()
    tried: Outcomes = by_image(conditions=0)
    wrong: Outcomes = by_image(conditions=0)
    estimates: FloatArray = same()
    lows: FloatArray = same()
    highs: FloatArray = same()
    passes: int = same()
    expected_passes: int = same()

    def __add__(self, other: Any) -> NoReturn:
        """Refused: which images a cell was evaluated on depends on what was seen.

        Raises:
            TypeError: always.
        """
        raise TypeError("expected results that merge, an AdaptiveHeatmap is whole; measure with `heatmap` in shards")

    # ---------------------------------------------------------------- maps
    def to_map(self, values: ArrayLike) -> FloatArray:
        """Values (f,) of the evaluated frequencies as a centred map; twins share a value, the rest is NaN."""
        return fourier.to_map(values, self.frequencies, self.shape[1:], self.size)

    @property
    def error(self) -> FloatArray:
        """Top-1 error in 0 .. 1, the estimate of the method."""
        return self.to_map(self.estimates)

    @property
    def low(self) -> FloatArray:
        """Lower ends of the intervals of `error`."""
        return self.to_map(self.lows)

    @property
    def high(self) -> FloatArray:
        """Upper ends of the intervals of `error`."""
        return self.to_map(self.highs)

    @property
    def count(self) -> NDArray[np.int64]:
        """Images evaluated in each cell."""
        return np.nan_to_num(self.to_map(self.tried.counts.astype(np.float64))).astype(np.int64)

    @property
    def half_width(self) -> float:
        """The largest half-width of an interval."""
        return float(((self.highs - self.lows) / 2).max())

    @property
    def clean_error(self) -> float:
        """Top-1 error of the images that were reached, without perturbation; NaN without any."""
        return float(self.clean_wrong[self.reached].mean()) if self.reached.any() else float("nan")

    @property
    def share_of_passes(self) -> float:
        """Forward passes over those of all frequencies on all images, and on each as it is, once more for its label."""
        each = len(self.frequencies) + 1 + (self.labelled == "predicted")
        return self.passes / (each * self.n_images)

    def arrange(self, values: ArrayLike) -> FloatArray:
        """Values by frequency as a map, for comparisons."""
        return self.to_map(values)

    # ---------------------------------------------------------------- out of the toolkit
    def table(self) -> list[dict[str, Any]]:
        """One row per frequency: ky, kx, radius, count, error with its interval, clean error."""
        f = self.frequencies
        columns: dict[str, Any] = {"ky": f[:, 0], "kx": f[:, 1], "radius": fourier.radius(f, self.shape[1:])}
        columns |= {"count": self.tried.counts, "error": self.estimates, "error_low": self.lows}
        return tables.from_columns(columns | {"error_high": self.highs, "clean_error": self.clean_error})

    def summary(self) -> list[dict[str, Any]]:
        """In short, one row: what was reached, and at what price."""
        return [
            {
                "frequencies": len(self.frequencies),
                "error": float(np.nanmean(self.estimates)),
                "smallest": float(np.nanmin(self.estimates)),
                "largest": float(np.nanmax(self.estimates)),
                "half_width": self.half_width,
                "images each": float(self.tried.counts.mean()),
                "passes": self.passes,
                "share of all": self.share_of_passes,
            }
        ]

    def headline(self) -> str:
        """Range of the error, precision, and what it took."""
        return (
            f"error {np.nanmin(self.estimates):.3f} to {np.nanmax(self.estimates):.3f} ± {self.half_width:.3f} over "
            f"{len(self.frequencies):,} frequencies, {self.share_of_passes:.0%} of all passes"
        )
