"""What critical-band masking measures: accuracy under noise in octave bands, thresholds, the Gaussian channel."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastfreq.results import tables
from fastfreq.results.folds import Outcomes, by_image, same, summed
from fastfreq.results.result import ModelResult
from fastfreq.vocabulary import statistics, streams
from fastfreq.vocabulary.sums import ExactSum

from . import channel_fit

FloatArray = NDArray[np.float64]
Scale = Literal["octaves", "gain"]
_BLOCK = 1 << 22  # bootstrap weights held at a time


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A fitted figure and its interval, over images and over what the grid of bands and deviations leaves open.

    Attributes:
        value: of all images, thresholds interpolated.
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
        deviation: (b,) standard deviation at which accuracy falls to the criterion, interpolated; inf where it never
            does.
        low: (b,) lower end of the interval: the tested deviation below, 0 if there is none, of images drawn again.
        high: (b,) upper end: the tested deviation above; inf if there is none.
    """

    deviation: FloatArray
    low: FloatArray
    high: FloatArray


@dataclasses.dataclass(frozen=True)
class Channel:
    """A Gaussian in log frequency: the frequencies at which noise hurts.

    Attributes:
        centre: cycles per image (per shorter side) at which noise hurts most.
        bandwidth: full width at half maximum in octaves. Its interval starts at 0 where bands an octave wide cannot
            tell narrower channels apart, and ends at inf above 12.
        peak: sensitivity at the centre, 1 / threshold deviation.
        scale: "octaves" or "gain", see `CriticalBand.channel`.
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
        shape = np.exp(-0.5 * np.square(distance * channel_fit.FWHM / self.bandwidth.value))
        if self.scale == "gain":
            return self.peak.value * shape
        return np.exp2(math.log2(self.peak.value * self.ceiling) * shape) / self.ceiling


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class CriticalBand(ModelResult, kind="critical_band"):
    """Accuracy under Gaussian noise in octave bands, bands x standard deviations.

    Shards of images merge with ``+``.

    Attributes:
        bands: (b,) centres in cycles per image (per shorter side), ascending; each band is an octave wide.
        deviations: (d,) standard deviations of the noise in pixels of [0, 1], ascending.
        seed: key of the noise.
        grayscale: whether images were made grey.
        contrast: factor on each image's departures from its mean.
        mean: grey level to which each image's mean was moved, None for its own.
        chromatic: whether each channel had its own noise.
        clip: whether noisy pixels were clipped to [0, 1].
        labels: (n,) true classes.
        wrong: (b, d, n) where the noisy image was misclassified.
        clean_wrong: (n,) bool, the same without noise.
        left: (b, d) sum over images of (deviation left after clipping) / deviation, mean over channels.
    """

    SHAPES: ClassVar[dict[str, str]] = {
        "bands": "b", "deviations": "d", "labels": "n", "wrong": "b d n", "clean_wrong": "n", "left": "b d",
    }  # fmt: skip

    bands: FloatArray = same()
    deviations: FloatArray = same()
    seed: int = same()
    grayscale: bool = same()
    contrast: float = same()
    mean: float | None = same()
    chromatic: bool = same()
    clip: bool = same()
    labels: NDArray[np.int64] = by_image()
    wrong: Outcomes = by_image()
    clean_wrong: NDArray[np.bool_] = by_image()
    left: ExactSum = summed()

    # ---------------------------------------------------------------- accuracy
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
        return self.n_images - self.wrong.counts

    @property
    def effective_deviation(self) -> FloatArray:
        """(b, d) standard deviation actually left after clipping, mean over images and channels."""
        return self.deviations * self.left.value / self.n_images

    # ---------------------------------------------------------------- thresholds and channel
    def thresholds(
        self, *, criterion: float = 0.5, confidence: float = 0.95, samples: int = 500, seed: int = 0
    ) -> Thresholds:
        """The noise at which each band's accuracy falls to `criterion`.

        The psychometric function of a band is the monotone (isotonic) least-squares fit to its accuracies, clean
        accuracy included, interpolated between deviations in their logarithm, below the smallest one in the
        deviation itself and no further than half of it. inf: accuracy stays above `criterion`.

        The interval takes interpolation for what it is: all that a monotone function tells is between which tested
        deviations it falls to `criterion`. Its ends are percentiles, over images drawn again, of these two. More
        `deviations` make it narrower.

        Args:
            criterion: accuracy, below the clean one; the paper's is 0.5.
            confidence: of the interval.
            samples: bootstrap samples.
            seed: of the bootstrap.

        Raises:
            ValueError: a criterion that the images without noise do not reach.
        """
        found = self._thresholds(criterion, samples, streams.generator("bootstrap", seed))
        low, _ = channel_fit.percentiles(found.below[1:], confidence)
        _, high = channel_fit.percentiles(found.above[1:], confidence)
        return Thresholds(found.value[0], low, high)

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

        Intervals are percentiles over images drawn again, with every threshold drawn anywhere between the tested
        deviations next to it (below the smallest one, down to half of it): interpolation knows no more. A band is an
        octave wide and answers like some frequency of its octave, which makes narrow channels look wider: the lower
        end of the bandwidth allows for that, by fits in which the channel's largest value within each band counts.

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
        random = streams.generator("bootstrap", seed)
        found = self._thresholds(criterion, samples, random)
        if np.isinf(found.value[0]).all():
            raise ValueError(
                f"expected noise that brings some band's accuracy down to {criterion:g}, got at least "
                f"{self.accuracy.min():.3f} everywhere; add larger `deviations`, or raise `criterion`"
            )
        thresholds = channel_fit.anywhere_between(found, float(self.deviations[0]), random)
        thresholds[0] = found.value[0]
        low, value, high = channel_fit.fit_with_ends(
            np.log2(self.bands), _heights(thresholds[np.isfinite(found.value).any(axis=1)], ceiling, scale), confidence
        )
        if scale == "octaves":
            for figures in (low, value, high):
                figures[2] = np.exp2(figures[2]) / ceiling
        centre, bandwidth, peak = (
            Estimate(float(v), float(a), float(b)) for v, a, b in zip(value, low, high, strict=True)
        )
        beyond = np.log2(centre.value / self.bands[[0, -1]])
        edge = "lower" if beyond[0] < -0.495 else "upper" if beyond[1] > 0.495 else None
        return Channel(centre, bandwidth, peak, scale, ceiling, edge)

    def _thresholds(self, criterion: float, samples: int, random: np.random.Generator) -> channel_fit.Crossings:
        """Thresholds (1 + s, b) of all images, then of bootstrap samples."""
        if not 0 < criterion < self.clean_accuracy:
            raise ValueError(
                f"expected a `criterion` between 0 and the accuracy without noise, {self.clean_accuracy:.3f}, got "
                f"{criterion:g}"
            )
        if samples < 1:
            raise ValueError(f"expected at least one bootstrap sample, got {samples}")
        b, d, n = len(self.bands), len(self.deviations), self.n_images
        clean = np.broadcast_to(~self.clean_wrong, (b, 1, n))
        right = np.concatenate([clean, ~self.wrong.unpack()], axis=1).reshape(-1, n)
        right = right.astype(np.float64)
        step = max(1, _BLOCK // n)
        drawn = [right.mean(axis=1)[None]]
        for start in range(0, samples, step):
            weights = random.multinomial(n, np.full(n, 1 / n), size=min(step, samples - start))
            drawn.append(weights @ right.T / n)
        return channel_fit.crossings(np.concatenate(drawn).reshape(-1, b, d + 1), self.deviations, criterion)

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

    def headline(self) -> str:
        """The lowest accuracy of any band, and that without noise."""
        band = int(self.accuracy[:, -1].argmin())
        return (
            f"accuracy {self.clean_accuracy:.3f} without noise, {self.accuracy[band, -1]:.3f} with noise of deviation "
            f"{self.deviations[-1]:g} around {self.bands[band]:g} cycles per image"
        )

    @classmethod
    def from_format_1(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> CriticalBand:
        """What version 0.1 wrote."""
        settings: dict[str, Any] = {
            name: header[name] for name in ("seed", "grayscale", "contrast", "mean", "chromatic", "clip")
        }
        settings |= {name: arrays[name] for name in ("bands", "deviations", "labels", "clean_wrong")}
        ids = arrays["image_ids"]
        return cls(
            **cls._of_format_1(header, ids),
            wrong=Outcomes(arrays["wrong"], len(ids)),
            left=ExactSum.of(arrays["left"]),
            **settings,
        )


def _heights(thresholds: FloatArray, ceiling: float, scale: Scale) -> FloatArray:
    """Sensitivities that the Gaussian is fitted to; 0 for bands without a threshold."""
    with np.errstate(divide="ignore"):
        return np.maximum(np.log2(ceiling / thresholds), 0) if scale == "octaves" else 1 / thresholds
