"""Spectra of images: sums over images that merge, the map, the radial profile, the 1/f slope."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar, Literal

import fastfreq_kernels as kernels
import numpy as np
import torch
from fastfreq_kernels._threads import own_threads_only
from numpy.typing import NDArray
from torch import Tensor

from fastfreq.engine.measurement import Measurement
from fastfreq.results import tables
from fastfreq.results.folds import same, summed
from fastfreq.results.profile import RadialProfile
from fastfreq.results.result import ImagesResult
from fastfreq.vocabulary import numbers, statistics
from fastfreq.vocabulary.sums import EXPONENTS, ExactSum

FloatArray = NDArray[np.float64]
Statistic = Literal["magnitude", "power"]
STATISTICS = ("magnitude", "power")
_ITERATIONS = 20  # of the slope, whose rings are placed by the slope: each gains two digits
_CHUNK_PIXELS = 1 << 25  # of the images between two results


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


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Spectrum(ImagesResult):
    """Mean spectrum of a set of images, or of what was done to them.

    F is the orthonormal DFT of one channel, so white noise of variance s^2 has power s^2 at every frequency,
    whatever the image's size.

    Attributes:
        statistic: "magnitude" for E|F(k)| (Yin et al. 2019), "power" for E|F(k)|^2.
        shape: (c, h, w) of all images, or None where their sizes may differ: then there are no maps.
        channels: c.
        side: rings are 1 / side cycles per pixel wide; the shorter side of images of one shape.
        count: images that entered the mean.
        plane_sum: (c, h, w // 2 + 1) sum over images of the half plane of a real FFT; empty without `shape`.
        ring_sum: (c, r) sum over images of each channel's mean over the ring.
        ring_moments: (r, r) sum over images of p p^T, p the image's profile, averaged over channels.
        ring_cells: (r,) sum over images of the frequencies in each ring.
        log_frequency_sum: (2, r) sums over images of mean and variance of log f over the ring; 0 for ring 0.
    """

    SHAPES: ClassVar[dict[str, str]] = {
        "ring_sum": "c r", "ring_moments": "r r", "ring_cells": "r", "log_frequency_sum": "2 r",
    }  # fmt: skip

    statistic: str = same()
    shape: tuple[int, int, int] | None = same()
    channels: int = same()
    side: int = same()
    count: int = summed()
    plane_sum: ExactSum = summed()
    ring_sum: ExactSum = summed()
    ring_moments: ExactSum = summed()
    ring_cells: NDArray[np.int64] = summed()
    log_frequency_sum: ExactSum = summed()

    @property
    def subject(self) -> str:
        """What was transformed, such as "images"."""
        raise NotImplementedError

    @property
    def seen(self) -> int:
        """Images looked at; more than `count` where only some enter, as in `adversarial_spectrum`."""
        return self.n_images

    def _check_shapes(self) -> None:
        super()._check_shapes()
        r = self.ring_sum.shape[-1:]
        plane = (0, 0, 0)
        if self.shape is not None:
            c, h, w = self.shape
            plane = (c, h, w // 2 + 1)
        wanted = {"plane_sum": plane, "ring_sum": (self.channels, *r), "ring_moments": (*r, *r)}
        wanted |= {"ring_cells": r, "log_frequency_sum": (2, *r)}
        for name, expected in wanted.items():
            if getattr(self, name).shape != expected:
                raise ValueError(f"expected `{name}` of shape {expected}, got {getattr(self, name).shape}")

    def check_fits(self, other: Any) -> None:
        """As in `Result`."""
        super().check_fits(other)
        if len(ids := np.concatenate([self.image_ids, other.image_ids])) and ids.min() < 0:
            raise ValueError(
                "expected two spectra that know their images, one is from a file of version 0.1, which does not say: "
                "the same images could count twice; measure it again"
            )

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
        half = self.plane_sum.value / self.count
        # the other half mirrors it: the value at k is that at -k
        rest = half[:, -np.arange(h) % h][:, :, w - np.arange(w // 2 + 1, w)]
        return np.fft.fftshift(np.concatenate([half, rest], axis=2), axes=(1, 2))

    # ---------------------------------------------------------------- rings
    @property
    def frequency(self) -> FloatArray:
        """(r,) geometric mean over the ring's cells of their radius, in cycles per pixel; 0 for ring 0."""
        self._expect_images()
        frequency = np.exp(self.log_frequency_sum.value[0] / self.count)
        frequency[0] = 0
        return frequency

    @property
    def channel_radial(self) -> FloatArray:
        """(c, r) mean over images and each ring, channel by channel."""
        self._expect_images()
        return self.ring_sum.value / self.count

    def radial(self, *, confidence: float = 0.95) -> RadialProfile:
        """Mean over images, channels and each ring, with a normal interval that treats images as the sample.

        Radii are ring indices: cycles per `side` pixels.
        """
        total = self.ring_sum.value.mean(axis=0)
        value = self.channel_radial.mean(axis=0)
        low, high = statistics.student_interval(
            total, np.diag(self.ring_moments.value), self.count, confidence=confidence
        )
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
                f"expected power in every ring to take its logarithm, ring {ring[chosen][~(mean > 0)][0]} has none; "
                f"fit a range that has some with `lowest` and `highest` (cycles per pixel)"
            )
        y, (middle, spread) = np.log(mean), self.log_frequency_sum.value[:, chosen] / self.count
        alpha, x, weight = 0.0, middle, middle
        for _ in range(_ITERATIONS):
            x = middle - alpha / 2 * spread
            weight = (x - x.mean()) / np.square(x - x.mean()).sum()
            alpha = -float(weight @ y)
        relative = self.ring_moments.value[np.ix_(chosen, chosen)] / np.outer(mean, mean)
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

    # ---------------------------------------------------------------- out of the toolkit
    def table(self) -> list[dict[str, Any]]:
        """One row per ring: radius, frequency, cells, value with its interval, and every channel's value.

        No row where no image entered.
        """
        if not self.count:
            return []
        profile = self.radial()
        columns: dict[str, Any] = {"radius": profile.radius, "frequency": self.frequency, "cells": profile.cells}
        columns |= {"count": np.full(len(profile.radius), self.count), self.statistic: profile.value}
        columns |= {f"{self.statistic}_low": profile.low, f"{self.statistic}_high": profile.high}
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

    def headline(self) -> str:
        """The exponent of the power law."""
        try:
            fit = self.slope()
        except ValueError as error:
            return f"no power law: {error}".partition(";")[0]
        return f"{self.statistic} falls as 1 / f^alpha, alpha {fit.alpha:.3f} [{fit.low:.3f}, {fit.high:.3f}]"

    @classmethod
    def fields_of_format_1(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
        """What version 0.1 wrote, as fields; it did not say which images, which then have ids below 0."""
        seen = int(header["seen"])
        sums = ("plane_sum", "ring_sum", "ring_moments", "log_frequency_sum")
        return {
            "details": dict(header["details"]),
            "statistic": header["statistic"],
            "shape": None if header["shape"] is None else tuple(header["shape"]),
            "channels": len(arrays["ring_sum"]),
            "side": int(header["side"]),
            "count": int(header["count"]),
            "image_ids": np.arange(-seen, 0),
            "image_hashes": np.zeros(seen, np.uint64),
            "ring_cells": np.rint(arrays["ring_cells"]).astype(np.int64),
            **{name: ExactSum.of(arrays[name]) for name in sums},
        }


class SpectrumMeasurement(Measurement):
    """What spectra of images share.

    Args:
        statistic: "magnitude" or "power".
        side: rings are 1 / side cycles per pixel wide; None for those of images of one shape.
    """

    one_shape, needs_labels = False, False  # shapes are looked at here: some may differ

    def __init__(self, statistic: str, side: int | None) -> None:
        if statistic not in STATISTICS:
            raise ValueError(f"expected `kind` of {list(STATISTICS)}, got {statistic!r}")
        self._statistic, self._side = statistic, None if side is None else numbers.as_int("side", side)
        if self._side is not None and self._side < 1:
            raise ValueError(f"expected a positive `side`, got {side}")

    def settings(self, shape: tuple[int, int, int]) -> dict[str, Any]:
        """As in `Measurement`."""
        self._shape = shape
        kernels.radial_cells(*shape[1:], side=self._side)  # refuses a side that is too large
        return {
            "statistic": self._statistic,
            "shape": shape if self._side is None else None,
            "channels": shape[0],
            "side": min(shape[1:]) if self._side is None else self._side,
        }

    def passes(self, shape: tuple[int, int, int]) -> float:
        """As in `Measurement`."""
        return 1

    def batch_size(self, shape: tuple[int, int, int], device: torch.device) -> int | None:
        """As in `Measurement`."""
        return max(1, min(1024, _CHUNK_PIXELS // math.prod(shape)))

    def check_shape(self, images: Tensor) -> None:
        """Refuse images that do not go with the first ones.

        Raises:
            ValueError: they do not.
        """
        first, shape = self._shape, tuple(images.shape[1:])
        if shape[0] != first[0] or (self._side is None and shape != first):
            hint = "convert them to one colour mode"
            if shape[0] == first[0]:
                hint = (
                    f"resize or crop them, or pass `side` (at most {min(*shape[1:], *first[1:])}) to average rings in "
                    f"cycles per pixel"
                )
            raise ValueError(f"expected all images of one shape, got {first} and {shape}; {hint}")

    @own_threads_only()
    def sums(self, signal: Tensor) -> dict[str, Any]:
        """The sums of a `Spectrum` over images, or differences, (n, c, h, w).

        Each image is a term of its own, cut into exact parts: no batch, order or shard changes a bit.
        """
        c, h, w = signal.shape[1:]
        maps = self._side is None
        cells, frequency, spread = kernels.radial_cells(h, w, side=self._side)
        power, plane = kernels.radial_power(
            signal,
            side=self._side,
            magnitude=self._statistic == "magnitude",
            exponents=EXPONENTS if maps else None,
        )
        means = power.double().cpu() / cells
        profile = sum(means.unbind(dim=1)[1:], start=means[:, 0]) / c
        middle = torch.where(frequency > 0, frequency, 1.0).log()
        return {
            "count": len(signal),
            "plane_sum": ExactSum(plane.cpu().numpy()) if maps else ExactSum.zeros((0, 0, 0)),
            "ring_sum": ExactSum.of(means, axis=0),
            "ring_moments": ExactSum(kernels.ring_moments(profile, exponents=EXPONENTS).numpy()),
            "ring_cells": np.rint(cells.numpy()).astype(np.int64) * len(signal),
            "log_frequency_sum": ExactSum(ExactSum.of(torch.stack([middle, spread])).parts * len(signal)),
        }
