"""What a spectrum of images is: sums over images that merge, the map, the radial profile, the 1/f slope."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastfreq.core.results import RadialProfile, import_pandas
from fastfreq.results import store, tables
from fastfreq.vocabulary import statistics

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

FloatArray = NDArray[np.float64]
Kind = Literal["magnitude", "power"]
KINDS = ("magnitude", "power")
_ITERATIONS = 20  # of the slope, whose rings are placed by the slope: each gains two digits


@dataclasses.dataclass(frozen=True)
class SpectralSlope:
    """A power law fitted to a radial profile: value = constant / f^alpha, f in cycles per pixel.

    Attributes:
        alpha: the exponent: about 1 for magnitudes of photographs, 2 for their power, 0 for white noise.
        low: lower end of its interval over images; NaN for a single image.
        high: upper end.
        constant: the fitted value at one cycle per pixel.
        lowest: smallest frequency fitted, cycles per pixel.
        highest: largest frequency fitted.
        rings: rings fitted.
    """

    alpha: float
    low: float
    high: float
    constant: float
    lowest: float
    highest: float
    rings: int


@dataclasses.dataclass(frozen=True, eq=False)
class SpectrumResult:
    """Mean spectrum of a set of images, or of what was done to them; shards of images merge with ``+``.

    F is the orthonormal DFT of one channel, so white noise of variance s^2 has power s^2 at every frequency,
    whatever the image's size.

    Attributes:
        kind: "magnitude" for E|F(k)| (Yin et al. 2019), "power" for E|F(k)|^2.
        subject: what was transformed, such as "images".
        shape: (c, h, w) of all images, or None where their sizes may differ: then there are no maps.
        side: rings are 1 / side cycles per pixel wide; the shorter side of images of one shape.
        count: images that entered the mean.
        seen: images looked at; more than `count` where only some enter, as in `adversarial_spectrum`.
        plane_sum: (c, h, w // 2 + 1) sum over images of the half plane of a real FFT; empty without `shape`.
        ring_sum: (c, r) sum over images of each channel's mean over the ring.
        ring_moments: (r, r) sum over images of p p^T, p the image's profile, averaged over channels.
        ring_cells: (r,) sum over images of the frequencies in each ring.
        log_frequency_sum: (2, r) sums over images of mean and variance of log f over the ring; 0 for ring 0.
        details: names and versions: text for people.
    """

    kind: Kind
    subject: str
    shape: tuple[int, int, int] | None
    side: int
    count: int
    seen: int
    plane_sum: FloatArray
    ring_sum: FloatArray
    ring_moments: FloatArray
    ring_cells: FloatArray
    log_frequency_sum: FloatArray
    details: dict[str, str]

    # ---------------------------------------------------------------- maps
    @property
    def map(self) -> FloatArray:
        """(h, w) mean over images and channels, zero frequency at (h // 2, w // 2).

        Raises:
            ValueError: images of several sizes have no common map, or no image entered.
        """
        return self.channel_map.mean(axis=0)

    @property
    def channel_map(self) -> FloatArray:
        """`map` channel by channel: (c, h, w)."""
        self._expect_images()
        if self.shape is None:
            raise ValueError(
                f"expected images of one size for a map, these were averaged by frequency with side={self.side}; "
                f"use .radial(), or leave `side` out"
            )
        _, h, w = self.shape
        half = self.plane_sum / self.count
        # the other half mirrors it: the value at k is that at -k
        rest = half[:, -np.arange(h) % h][:, :, w - np.arange(w // 2 + 1, w)]
        return np.fft.fftshift(np.concatenate([half, rest], axis=2), axes=(1, 2))

    # ---------------------------------------------------------------- rings
    @property
    def frequency(self) -> FloatArray:
        """(r,) geometric mean over the ring's cells of their radius, in cycles per pixel; 0 for ring 0."""
        self._expect_images()
        frequency = np.exp(self.log_frequency_sum[0] / self.count)
        frequency[0] = 0
        return frequency

    @property
    def channel_radial(self) -> FloatArray:
        """(c, r) mean over images and each ring, channel by channel."""
        self._expect_images()
        return self.ring_sum / self.count

    def radial(self, *, confidence: float = 0.95) -> RadialProfile:
        """Mean over images, channels and each ring, with a normal interval that treats images as the sample.

        Radii are ring indices: cycles per `side` pixels.
        """
        total = self.ring_sum.mean(axis=0)
        value = self.channel_radial.mean(axis=0)
        low, high = statistics.mean_interval(total, np.diag(self.ring_moments), self.count, confidence=confidence)
        cells = np.rint(self.ring_cells / self.count).astype(np.int64)
        return RadialProfile(np.arange(len(value), dtype=np.float64), value, np.maximum(low, 0), high, cells)

    def slope(
        self, *, lowest: float | None = None, highest: float | None = None, confidence: float = 0.95
    ) -> SpectralSlope:
        """The exponent of 1 / f^alpha by least squares of log value on log frequency, every ring with equal weight.

        A ring is wide at low frequencies, and the mean of a power law over it is more than the law at its middle: with
        m and v the mean and variance of log f over the ring, log value = const - alpha (m - alpha v / 2).

        The interval is clustered by image: all rings of an image vary together. With w the weights of the regression
        and P the mean profile, image i with profile p_i moves the slope by sum_b w_b p_ib / P_b (delta method); the
        variance of these over images gives a normal interval, to be trusted from some 20 images on.

        Args:
            lowest: smallest frequency fitted, in cycles per pixel; None for ring 1, one cycle per `side` pixels.
            highest: largest frequency fitted; None for the last whole ring, half a cycle per pixel.
            confidence: of the interval.

        Raises:
            ValueError: fewer than three rings, or a ring without any power.

        Source: Burton, Moorhead 1987 and Field 1987 for the law; Liang, Zeger 1986 for the clustering.
        """
        z = statistics.normal_quantile(confidence)
        frequency, ring = self.frequency, np.arange(self.ring_sum.shape[1])
        chosen = (ring >= 1) & (ring <= self.side // 2 if highest is None else frequency <= highest)
        if lowest is not None:
            chosen &= frequency >= lowest
        if chosen.sum() < 3:
            raise ValueError(
                f"expected at least three rings to fit a slope to, got {chosen.sum()}; take larger images, or widen "
                f"`lowest` and `highest` (cycles per pixel)"
            )
        mean = self.channel_radial.mean(axis=0)[chosen]
        if not (mean > 0).all():
            raise ValueError(
                f"expected power in every ring to take its logarithm, ring {ring[chosen][mean <= 0][0]} has none; "
                f"fit a range that has some with `lowest` and `highest` (cycles per pixel)"
            )
        y, (middle, spread) = np.log(mean), self.log_frequency_sum[:, chosen] / self.count
        alpha, x, weight = 0.0, middle, middle
        for _ in range(_ITERATIONS):
            x = middle - alpha / 2 * spread
            weight = (x - x.mean()) / np.square(x - x.mean()).sum()
            alpha = -float(weight @ y)
        relative = self.ring_moments[np.ix_(chosen, chosen)] / np.outer(mean, mean)
        half = math.nan
        if self.count > 1:  # weights add up to 0, so the mean of the images' terms is 0
            half = z * math.sqrt(max(float(weight @ relative @ weight), 0.0) / (self.count * (self.count - 1)))
        constant = math.exp(float(y.mean()) + alpha * float(x.mean()))
        edges = float(frequency[chosen][0]), float(frequency[chosen][-1])
        return SpectralSlope(alpha, alpha - half, alpha + half, constant, *edges, int(chosen.sum()))

    def _expect_images(self) -> None:
        if not self.count:
            raise ValueError(
                f"expected at least one image to average over, none of {self.seen} entered the spectrum of "
                f"{self.subject}; a stronger attack or more images may help"
            )

    # ---------------------------------------------------------------- merging
    def __add__(self, other: SpectrumResult) -> SpectrumResult:
        for name in ("kind", "subject", "shape", "side"):
            if getattr(self, name) != getattr(other, name):
                raise ValueError(
                    f"expected two spectra with the same {name}, got {getattr(self, name)!r} and "
                    f"{getattr(other, name)!r}"
                )
        if self.details.get("model_fingerprint") != other.details.get("model_fingerprint"):
            raise ValueError("expected two shards of one model, got different weights")
        if len(self.ring_sum) != len(other.ring_sum):
            raise ValueError(
                f"expected two spectra of as many channels, got {len(self.ring_sum)} and {len(other.ring_sum)}"
            )
        sums = {name: getattr(self, name) + getattr(other, name) for name in ("count", "seen", *self._ARRAYS)}
        return dataclasses.replace(self, **sums)

    # ---------------------------------------------------------------- out of the toolkit
    def table(self) -> list[dict[str, Any]]:
        """One row per ring: radius, frequency, cells, value with its interval, and every channel's value."""
        profile = self.radial()
        columns: dict[str, Any] = {"radius": profile.radius, "frequency": self.frequency, "cells": profile.cells}
        columns |= {"count": np.full(len(profile.radius), self.count), self.kind: profile.value}
        columns |= {f"{self.kind}_low": profile.low, f"{self.kind}_high": profile.high}
        columns |= {f"channel_{c}": values for c, values in enumerate(self.channel_radial)}
        return tables.from_columns(columns)

    def summary(self) -> list[dict[str, Any]]:
        """In short, one row: images, the share that entered where not all did, the exponent of the power law."""
        row: dict[str, Any] = {"spectrum of": self.subject, "images": self.seen}
        if self.count != self.seen:
            row["entered"] = self.count / self.seen
            row["entered_low"], row["entered_high"] = (float(v) for v in statistics.wilson(self.count, self.seen))
        try:
            fit = self.slope()
        except ValueError:  # no image, too few rings, or none with power
            return [row]
        return [{**row, "alpha": fit.alpha, "alpha_low": fit.low, "alpha_high": fit.high}]

    def to_dataframe(self) -> pd.DataFrame:
        """`table` as a data frame."""
        return import_pandas().DataFrame(self.table())

    def plot(self) -> Figure:
        """The map (log10) where there is one, and the radial profile with its fitted slope, as a figure."""
        from fastfreq.plots import plot_spectrum

        return plot_spectrum(self)

    _ARRAYS = ("plane_sum", "ring_sum", "ring_moments", "ring_cells", "log_frequency_sum")

    def save(self, path: str | Path) -> None:
        """Write everything to an .npz without pickle, all or nothing."""
        plain = ("subject", "shape", "side", "count", "seen", "details")
        header = {"statistic": self.kind, **{name: getattr(self, name) for name in plain}}
        store.write_arrays(path, "image_spectrum", header, {name: getattr(self, name) for name in self._ARRAYS})

    @classmethod
    def from_arrays(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> SpectrumResult:
        """What `save` wrote."""
        fields: dict[str, Any] = {**header, **{name: arrays[name] for name in cls._ARRAYS}}
        fields["kind"] = fields.pop("statistic")
        fields["shape"] = None if header["shape"] is None else tuple(header["shape"])
        r = fields["ring_sum"].shape[-1]
        if fields["ring_moments"].shape != (r, r) or fields["ring_cells"].shape != (r,):
            raise ValueError("expected sums for every ring; the saved spectrum is damaged")
        return cls(**fields)
