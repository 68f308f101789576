"""What critical-band masking measures: accuracy under noise in octave bands, thresholds, the Gaussian channel."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastfreq.core.results import import_pandas
from fastfreq.results import store, tables
from fastfreq.vocabulary import statistics

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

FloatArray = NDArray[np.float64]
Scale = Literal["octaves", "gain"]
_FWHM = 2 * math.sqrt(2 * math.log(2))  # full width at half maximum of a unit Gaussian
_NARROWEST, _WIDEST = 0.5, 12.0  # octaves: bands an octave apart cannot tell narrower channels from each other
_BLOCK = 1 << 22  # bootstrap weights held at a time


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A fitted figure and its bootstrap interval over images.

    Attributes:
        value: of all images.
        low: lower end of the interval.
        high: upper end.
    """

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True, eq=False)
class Thresholds:
    """Noise that each band tolerates.

    Attributes:
        deviation: (b,) standard deviation at which accuracy falls to the criterion; inf where it never does.
        low: (b,) lower end of the bootstrap interval over images.
        high: (b,) upper end.
    """

    deviation: FloatArray
    low: FloatArray
    high: FloatArray


@dataclasses.dataclass(frozen=True)
class Channel:
    """A Gaussian in log frequency: the frequencies at which noise hurts.

    Attributes:
        centre: cycles per image (per shorter side) at which noise hurts most.
        bandwidth: full width at half maximum in octaves.
        peak: sensitivity at the centre, 1 / threshold deviation.
        scale: "octaves" or "gain", see `CriticalBandResult.channel`.
        ceiling: the largest deviation tested, where the "octaves" scale has its zero.
        edge: "lower" or "upper" where the best centre is an outer edge of the bands, so that the channel's own lies
            there or beyond and its interval means nothing; None inside.
    """

    centre: Estimate
    bandwidth: Estimate
    peak: Estimate
    scale: Scale
    ceiling: float
    edge: Literal["lower", "upper"] | None = None

    def sensitivity(self, frequencies: ArrayLike) -> FloatArray:
        """1 / threshold deviation that the Gaussian predicts at `frequencies`, cycles per image."""
        distance = np.log2(np.asarray(frequencies, dtype=np.float64) / self.centre.value)
        shape = np.exp(-0.5 * np.square(distance * _FWHM / self.bandwidth.value))
        if self.scale == "gain":
            return self.peak.value * shape
        return np.exp2(math.log2(self.peak.value * self.ceiling) * shape) / self.ceiling


@dataclasses.dataclass(frozen=True, eq=False)
class CriticalBandResult:
    """Accuracy under Gaussian noise in octave bands, bands x standard deviations.

    Shards of images merge with ``+``.

    Attributes:
        shape: (c, h, w) of the images.
        bands: (b,) centres in cycles per image (per shorter side), ascending; each band is an octave wide.
        deviations: (d,) standard deviations of the noise in pixels of [0, 1], ascending.
        seed: key of the noise.
        grayscale: whether images were made grey.
        contrast: factor on each image's departures from its mean.
        mean: grey level to which each image's mean was moved, None for its own.
        chromatic: whether each channel had its own noise.
        clip: whether noisy pixels were clipped to [0, 1].
        image_ids: (n,) what identified each image to the noise, ascending.
        labels: (n,) true classes.
        wrong: (b, d, ceil(n / 8)) uint8, packed: bit set where the noisy image was misclassified.
        clean_wrong: (n,) bool, the same without noise.
        left: (b, d) sum over images and channels of (deviation left after clipping) / deviation.
        details: model name, precision, versions: text for people.
    """

    shape: tuple[int, int, int]
    bands: FloatArray
    deviations: FloatArray
    seed: int
    grayscale: bool
    contrast: float
    mean: float | None
    chromatic: bool
    clip: bool
    image_ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    wrong: NDArray[np.uint8]
    clean_wrong: NDArray[np.bool_]
    left: FloatArray
    details: dict[str, str]

    def __post_init__(self) -> None:
        n, expected = len(self.image_ids), (len(self.bands), len(self.deviations))
        if (
            self.wrong.shape != (*expected, (n + 7) // 8)
            or self.clean_wrong.shape != (n,)
            or self.left.shape != expected
        ):
            raise ValueError("expected outcomes for every band, deviation and image; the result is damaged")

    # ---------------------------------------------------------------- accuracy
    @property
    def n_images(self) -> int:
        """Number of images."""
        return len(self.image_ids)

    @property
    def clean_accuracy(self) -> float:
        """Top-1 accuracy of the same images without noise."""
        return 1 - float(self.clean_wrong.mean())

    @property
    def accuracy(self) -> FloatArray:
        """(b, d) top-1 accuracy in 0 .. 1."""
        return self._right() / self.n_images

    def interval(self, *, confidence: float = 0.95) -> tuple[FloatArray, FloatArray]:
        """(low, high), both (b, d): Wilson intervals of `accuracy`."""
        return statistics.wilson(self._right(), self.n_images, confidence=confidence)

    def _right(self) -> NDArray[np.int64]:
        return self.n_images - np.bitwise_count(self.wrong).sum(axis=2, dtype=np.int64)

    @property
    def effective_deviation(self) -> FloatArray:
        """(b, d) standard deviation actually left after clipping, mean over images and channels."""
        return self.deviations * self.left / self.n_images

    # ---------------------------------------------------------------- thresholds and channel
    def thresholds(
        self, *, criterion: float = 0.5, confidence: float = 0.95, samples: int = 500, seed: int = 0
    ) -> Thresholds:
        """The noise at which each band's accuracy falls to `criterion`.

        The psychometric function of a band is the monotone (isotonic) least-squares fit to its accuracies, clean
        accuracy included, interpolated between deviations in their logarithm, below the smallest one in the
        deviation itself and no further than half of it. inf: accuracy stays above `criterion`.

        Args:
            criterion: accuracy, below the clean one; the paper's is 0.5.
            confidence: of the percentile interval over images drawn again.
            samples: bootstrap samples.
            seed: of the bootstrap.

        Raises:
            ValueError: a criterion that the images without noise do not reach.
        """
        value, drawn = self._thresholds(criterion, samples, seed)
        low, high = _percentiles(drawn, confidence)
        return Thresholds(value, low, high)

    def channel(
        self,
        *,
        criterion: float = 0.5,
        scale: Scale = "octaves",
        confidence: float = 0.95,
        samples: int = 500,
        seed: int = 0,
    ) -> Channel:
        """The Gaussian in log frequency that fits the bands' sensitivities, 1 / threshold deviation, best.

        "octaves" fits log2(largest deviation / threshold), zero where a band stays above the criterion, and so asks
        how many octaves less noise a band bears than the ceiling; "gain" fits 1 / threshold itself, whose width does
        not depend on the ceiling. Least squares over a grid: centres a hundredth of an octave apart between the
        outer edges of the bands, bandwidths 2 % apart from 0.5 octaves, below which bands an octave apart cannot
        tell channels from each other, to 12.

        Args:
            criterion: as for `thresholds`.
            scale: "octaves" as in the paper, or "gain".
            confidence: as for `thresholds`.
            samples: as for `thresholds`.
            seed: as for `thresholds`.

        Raises:
            ValueError: a criterion that clean images do not reach, or that no noise reaches.

        Source: Subramanian, Sizikova, Majaj, Pelli 2023, "Spatial-frequency channels, shape bias, and adversarial
            robustness", section 3.
        """
        if scale not in ("octaves", "gain"):
            raise ValueError(f"expected a scale 'octaves' or 'gain', got {scale!r}")
        ceiling = float(self.deviations[-1])
        value, drawn = self._thresholds(criterion, samples, seed)
        if np.isinf(value).all():
            raise ValueError(
                f"expected noise that brings some band's accuracy down to {criterion:g}, got at least "
                f"{self.accuracy.min():.3f} everywhere; add larger `deviations`, or raise `criterion`"
            )
        both = np.concatenate([value[None], drawn[np.isfinite(drawn).any(axis=1)]])
        with np.errstate(divide="ignore"):
            heights = np.maximum(np.log2(ceiling / both), 0) if scale == "octaves" else 1 / both
        fitted = _fit_gaussians(np.log2(self.bands), heights)
        if scale == "octaves":
            fitted[:, 2] = np.exp2(fitted[:, 2]) / ceiling
        low, high = _percentiles(fitted[1:], confidence)
        centre, bandwidth, peak = (
            Estimate(float(v), float(a), float(b)) for v, a, b in zip(fitted[0], low, high, strict=True)
        )
        beyond = np.log2(centre.value / self.bands[[0, -1]])
        edge = "lower" if beyond[0] < -0.495 else "upper" if beyond[1] > 0.495 else None
        return Channel(centre, bandwidth, peak, scale, ceiling, edge)

    def _thresholds(self, criterion: float, samples: int, seed: int) -> tuple[FloatArray, FloatArray]:
        """(thresholds (b,), the same of bootstrap samples (s, b))."""
        if not 0 < criterion < self.clean_accuracy:
            raise ValueError(
                f"expected a `criterion` between 0 and the accuracy without noise, {self.clean_accuracy:.3f}, got "
                f"{criterion:g}"
            )
        if samples < 1:
            raise ValueError(f"expected at least one bootstrap sample, got {samples}")
        b, d, n = len(self.bands), len(self.deviations), self.n_images
        clean = np.broadcast_to(~self.clean_wrong, (b, 1, n))
        right = np.concatenate([clean, np.unpackbits(self.wrong, axis=2, count=n) == 0], axis=1).reshape(-1, n)
        right = right.astype(np.float64)
        random = np.random.default_rng(seed)
        step = max(1, _BLOCK // n)
        drawn = [right.mean(axis=1)[None]]
        for start in range(0, samples, step):
            weights = random.multinomial(n, np.full(n, 1 / n), size=min(step, samples - start))
            drawn.append(weights @ right.T / n)
        found = _crossings(np.concatenate(drawn).reshape(-1, b, d + 1), self.deviations, criterion)
        return found[0], found[1:]

    # ---------------------------------------------------------------- merging
    _SETTINGS = ("shape", "seed", "grayscale", "contrast", "mean", "chromatic", "clip")

    def __add__(self, other: CriticalBandResult) -> CriticalBandResult:
        for name in self._SETTINGS:
            if getattr(self, name) != getattr(other, name):
                raise ValueError(
                    f"expected two results with the same {name}, got {getattr(self, name)} and {getattr(other, name)}"
                )
        for name in ("bands", "deviations"):
            if not np.array_equal(getattr(self, name), getattr(other, name)):
                raise ValueError(f"expected two results with the same {name}, got different ones")
        if self.details.get("model_fingerprint") != other.details.get("model_fingerprint"):
            raise ValueError("expected two shards of one model, got different weights")
        ids = np.concatenate([self.image_ids, other.image_ids])
        if len(np.unique(ids)) != len(ids):
            raise ValueError("expected shards of different images, some image ids are in both; use `shard=(i, n)`")
        order = np.argsort(ids)
        bits = [np.unpackbits(r.wrong, axis=2, count=r.n_images) for r in (self, other)]
        return dataclasses.replace(
            self,
            image_ids=ids[order],
            labels=np.concatenate([self.labels, other.labels])[order],
            wrong=np.packbits(np.concatenate(bits, axis=2)[..., order], axis=2),
            clean_wrong=np.concatenate([self.clean_wrong, other.clean_wrong])[order],
            left=self.left + other.left,
        )

    # ---------------------------------------------------------------- out of the toolkit
    def table(self) -> list[dict[str, Any]]:
        """One row per band and deviation: band, deviation, count, accuracy with its interval, effective deviation."""
        low, high = self.interval()
        b, d = low.shape
        columns: dict[str, Any] = {"band": np.repeat(self.bands, d), "deviation": np.tile(self.deviations, b)}
        columns["count"] = np.full(b * d, self.n_images)
        columns["accuracy"], columns["accuracy_low"], columns["accuracy_high"] = (
            a.reshape(-1) for a in (self.accuracy, low, high)
        )
        columns["clean_accuracy"] = self.clean_accuracy
        columns["effective_deviation"] = self.effective_deviation.reshape(-1)
        return tables.from_columns(columns)

    def summary(self, *, criterion: float = 0.5) -> list[dict[str, Any]]:
        """In short: one row per band with its accuracy at the largest deviation and the deviation it tolerates.

        No threshold where images without noise do not reach the criterion.
        """
        low, high = self.interval()
        columns: dict[str, Any] = {"band": self.bands, "accuracy": self.accuracy[:, -1]}
        columns |= {"accuracy_low": low[:, -1], "accuracy_high": high[:, -1]}
        if criterion < self.clean_accuracy:
            found = self.thresholds(criterion=criterion)
            columns |= {"threshold": found.deviation, "threshold_low": found.low, "threshold_high": found.high}
        return tables.from_columns(columns)

    def to_dataframe(self) -> pd.DataFrame:
        """`table` as a data frame."""
        return import_pandas().DataFrame(self.table())

    def plot(self, *, criterion: float = 0.5, scale: Scale = "octaves") -> Figure:
        """Psychometric functions of the bands, and their sensitivities with the fitted channel."""
        from fastfreq.plots import plot_critical_bands

        return plot_critical_bands(self, criterion=criterion, scale=scale)

    _ARRAYS = ("bands", "deviations", "image_ids", "labels", "wrong", "clean_wrong", "left")

    def save(self, path: str | Path) -> None:
        """Write everything to an .npz without pickle, all or nothing."""
        header = {name: getattr(self, name) for name in (*self._SETTINGS, "details")}
        store.write_arrays(path, "critical_bands", header, {name: getattr(self, name) for name in self._ARRAYS})

    @classmethod
    def from_arrays(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> CriticalBandResult:
        """What `save` wrote."""
        fields: dict[str, Any] = {**header, **{name: arrays[name] for name in cls._ARRAYS}}
        fields["shape"] = tuple(header["shape"])
        return cls(**fields)


def _isotonic(values: FloatArray) -> FloatArray:
    """The decreasing sequence closest to `values` (..., k) in least squares, along the last axis.

    fit_i = max over b >= i of min over a <= i of mean(values[a .. b]), the min-max formula for k small.
    """
    k = values.shape[-1]
    total = np.concatenate([np.zeros((*values.shape[:-1], 1)), np.cumsum(values, axis=-1)], axis=-1)
    fit = np.empty_like(values)
    for i in range(k):
        over_b = [
            np.min([(total[..., b + 1] - total[..., a]) / (b + 1 - a) for a in range(i + 1)], axis=0)
            for b in range(i, k)
        ]
        fit[..., i] = np.max(over_b, axis=0)
    return fit


def _crossings(accuracy: FloatArray, deviations: FloatArray, criterion: float) -> FloatArray:
    """Deviations (s, b) at which accuracies (s, b, 1 + d), of no noise and of `deviations`, fall to `criterion`."""
    fit = _isotonic(accuracy)
    below = fit < criterion
    after = np.where(below.any(axis=-1), below.argmax(axis=-1), 0)  # first deviation that is below; 0 for none
    at = np.maximum(after, 1)[..., None]
    upper = np.take_along_axis(fit, at - 1, axis=-1)[..., 0]
    lower = np.take_along_axis(fit, at, axis=-1)[..., 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.clip((upper - criterion) / (upper - lower), 0, 1)
    levels = np.concatenate([[0.0], deviations])
    left, right = levels[at[..., 0] - 1], levels[at[..., 0]]
    found = np.where(
        at[..., 0] == 1,
        np.maximum(share, 0.5) * right,
        np.exp2(np.log2(np.maximum(left, deviations[0])) * (1 - share) + np.log2(right) * share),
    )
    return np.where(below.any(axis=-1), found, np.inf)


def _fit_gaussians(octaves: FloatArray, heights: FloatArray) -> FloatArray:
    """(s, 3) centre in cycles, bandwidth in octaves and height of the Gaussian closest to heights (s, b) at `octaves`.

    The height is linear, so that for each centre and width it has a closed form and the squared error falls by
    <g, y>^2 / <g, g>: the best pair of a grid is a global optimum.
    """
    centres = np.arange(octaves.min() - 0.5, octaves.max() + 0.505, 0.01)
    widths = np.geomspace(_NARROWEST, _WIDEST, 161)
    z = (octaves - centres[:, None, None]) * (_FWHM / widths[:, None])
    shapes = np.exp(-0.5 * np.square(z)).reshape(-1, len(octaves))
    norms = np.square(shapes).sum(axis=1)
    found = np.empty((len(heights), 3))
    for row, y in enumerate(heights):
        inner = shapes @ y
        best = int(np.argmax(np.square(inner) / norms))
        found[row] = 2 ** centres[best // len(widths)], widths[best % len(widths)], inner[best] / norms[best]
    return found


def _percentiles(drawn: FloatArray, confidence: float) -> tuple[FloatArray, FloatArray]:
    """(low, high) over the first axis of bootstrap samples; infinities count as such, no interpolation."""
    statistics.normal_quantile(confidence)  # refuses what is no confidence
    tail = (1 - confidence) / 2
    low = np.quantile(drawn, tail, axis=0, method="inverted_cdf")
    return low, np.quantile(drawn, 1 - tail, axis=0, method="inverted_cdf")
