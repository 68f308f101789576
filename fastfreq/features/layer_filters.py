"""The filters of one layer: what its units look for in the image, if activations before them are left out."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastfreq.results import codec

from .gabor import Gabors, fit_gabors
from .linear_parts import Composed
from .nearest_wavelet import nearest_wavelets

FloatArray = NDArray[np.float64]
_PADDED = 4  # times the filter's side: steps of its spectrum


@codec.record
@dataclasses.dataclass(frozen=True, eq=False)
class LayerFilters:
    """The filters of the units of one layer, as images, and what they are like.

    A filter of several channels is fitted by its leading pattern: the first term of the singular value decomposition
    of (channels, pixels), an image times a colour. Residuals are shares of the energy of all channels.

    Attributes:
        units: (u,) channels of the layer.
        channels: of the layer, in all.
        filters: (u, c, h, w); the output is the sum of the filter times the image under it.
        stride: (2,) pixels of the image from one place of the output to the next.
        ignored: what the linear map leaves out before this layer, such as "2 x relu"; empty for a first layer, whose
            filters are its weights.
        patterns: (u, h, w) leading patterns, with the filter's energy in them.
        pattern_share: (u,) of the filter's energy; 1 where all channels have one pattern; NaN for zero filters.
        gabors: fitted to the patterns.
        wavelets: (u,) nearest wavelet of each, such as "db4 2 diagonal"; "" where none was asked for.
        wavelet_residual: (u,) share of the filter's energy that is not in the wavelet; NaN without one.
    """

    SHAPES: ClassVar[dict[str, str]] = {
        "units": "u", "filters": "u c h w", "patterns": "u h w", "pattern_share": "u", "wavelet_residual": "u",
    }  # fmt: skip

    units: NDArray[np.int64]
    channels: int
    filters: FloatArray
    stride: tuple[int, int]
    ignored: tuple[str, ...]
    patterns: FloatArray
    pattern_share: FloatArray
    gabors: Gabors
    wavelets: tuple[str, ...]
    wavelet_residual: FloatArray

    @property
    def size(self) -> tuple[int, int]:
        """(h, w) of the filters."""
        return self.filters.shape[2], self.filters.shape[3]

    @property
    def gabor_residual(self) -> FloatArray:
        """(u,) share of the filter's energy, all channels, that the Gabor function times a colour leaves."""
        return 1 - self.pattern_share * (1 - self.gabors.residual)

    @property
    def spectra(self) -> FloatArray:
        """(u, n, n) Fourier magnitude, root of the sum of squares over channels, unshifted, n four times the side."""
        side = _PADDED * max(self.size)
        found = np.zeros((len(self.units), side, side))
        for i, own in enumerate(self.filters):
            found[i] = np.sqrt(np.square(np.abs(np.fft.fft2(own, s=(side, side)))).sum(axis=0))
        return found

    def peaks(self) -> tuple[FloatArray, FloatArray]:
        """((u,), (u,)) frequency in cycles per pixel and orientation in degrees of the largest Fourier magnitude."""
        spectra = self.spectra
        side = spectra.shape[-1]
        at = spectra[:, :, : side // 2 + 1].reshape(len(spectra), -1).argmax(axis=1)
        i, j = np.divmod(at, side // 2 + 1)
        ky, kx = np.where(i > side // 2, i - side, i) / side, j / side
        return np.hypot(ky, kx), np.rad2deg(np.arctan2(ky, kx)) % 180

    @property
    def colour(self) -> FloatArray:
        """(u,) share of a filter's energy that is not the same in all channels; NaN for zero filters, 0 for grey."""
        grey = np.square(self.filters.mean(axis=1)).sum(axis=(1, 2)) * self.filters.shape[1]
        with np.errstate(invalid="ignore"):
            return np.clip(1 - grey / np.square(self.filters).sum(axis=(1, 2, 3)), 0, 1)

    def row(self, name: str) -> dict[str, Any]:
        """Statistics: medians over units; of the Gabor function over those with a residual of at most a quarter."""
        good = self.gabor_residual <= 0.25
        gabors, known = self.gabors, [name.split(" ")[0] for name in self.wavelets if name]
        bandwidth = gabors.bandwidth[good]
        return {
            "layer": name,
            "units": len(self.units),
            "channels": self.channels,
            "filter_size": " x ".join(map(str, self.size)),
            "stride": " x ".join(map(str, self.stride)),
            "ignored": ", ".join(self.ignored) or "nothing",
            "peak_frequency": _median(self.peaks()[0]),
            "colour": _median(self.colour),
            "pattern_share": _median(self.pattern_share),
            "gabor_residual": _median(self.gabor_residual),
            "gabor_like": float(good.mean()) if np.isfinite(self.gabor_residual).any() else float("nan"),
            "frequency": _median(gabors.frequency[good]),
            "bandwidth": _median(bandwidth),
            "low_pass": float(np.isinf(bandwidth).mean()) if len(bandwidth) else float("nan"),
            "wavelet": Counter(known).most_common(1)[0][0] if known else "",
            "wavelet_residual": _median(self.wavelet_residual),
        }


def _median(values: FloatArray) -> float:
    values = values[~np.isnan(values)]
    return float(np.median(values)) if len(values) else float("nan")


def described(composed: Composed, wavelets: tuple[str, ...]) -> LayerFilters:
    """The filters with what they are like."""
    patterns, share = _leading(composed.filters)
    names, residual = ("",) * len(patterns), np.full(len(patterns), np.nan)
    if wavelets:
        nearest = nearest_wavelets(patterns, wavelets=wavelets)
        names, residual = nearest.names, 1 - share * (1 - nearest.residual)
    return LayerFilters(
        units=composed.units,
        channels=composed.channels,
        filters=composed.filters,
        stride=composed.stride,
        ignored=composed.ignored,
        patterns=patterns,
        pattern_share=share,
        gabors=fit_gabors(patterns),
        wavelets=names,
        wavelet_residual=residual,
    )


def _leading(filters: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(u, h, w) first terms, of the sign of their colour's sum, and (u,) shares of the energy; NaN for zeros."""
    u, c, h, w = filters.shape
    left, values, right = np.linalg.svd(filters.reshape(u, c, h * w), full_matrices=False)
    colour = left[:, :, 0]
    sign = np.where(colour[np.arange(u), np.abs(colour).argmax(axis=1)] < 0, -1.0, 1.0)
    patterns = (sign * values[:, 0])[:, None] * right[:, 0]
    with np.errstate(invalid="ignore"):
        share = np.square(values[:, 0]) / np.square(values).sum(axis=1)
    return patterns.reshape(u, h, w), share
