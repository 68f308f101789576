"""A first layer of wavelets: the coefficients of PyWavelets, thresholded, as maps or as one row per image."""

from __future__ import annotations

from collections.abc import Iterator

import fastfreq_kernels as kernels
import torch
from fastfreq_kernels.dwt2 import MODES
from torch import Tensor
from torch.nn.functional import pad, pixel_unshuffle

from fastfreq.vocabulary import checks, numbers

from .fixed_layer import FixedLayer, as_images, like
from .frames import analysis_filters
from .shrinkage import Threshold, described

__all__ = ["WaveletStem", "wavelet_stem"]


def wavelet_stem(
    wavelet: str = "db4",
    *,
    levels: int = 1,
    mode: str = "periodization",
    threshold: Threshold | None = None,
) -> WaveletStem:
    """A fixed first layer: sigma(W x), W the separable two-dimensional wavelet transform, sigma a threshold.

    As a module it gives maps (n, c 4^levels, h', w') on the grid of the coarsest level, h' = h / 2^levels rounded up
    for "periodization": first the c approximations, then the horizontal, vertical and diagonal details of each
    channel, from the coarsest level to the finest; each finer band is 4^l maps, the places of an l-fold finer grid in
    turn. Bands that fall short of a multiple are filled with zeros at the end. `.codes(x)` gives the same numbers
    without that filling, (n, k).

    Takes any number of channels, odd sides, float64, float32 and half precision (computed in float32); gradients go
    through to the images and to a learned tau.

    Args:
        wavelet: name of a discrete wavelet of PyWavelets.
        levels: how often the approximation is transformed again.
        mode: of the extension beyond the edges, one of `fastfreq_kernels.dwt2.MODES`, named as in PyWavelets.
        threshold: what becomes of the coefficients, all bands alike; None leaves them as they are.

    Raises:
        ValueError: an unknown wavelet or mode, fewer than one level, or, when called, sides that are shorter than the
            filter at some level.
        TypeError: another type.
        ImportError: PyWavelets is not installed.

    Source: Mallat 1989 for W; the lecture of Tanner for h = sigma(W x).
    """
    return WaveletStem(wavelet, levels, mode, threshold)


class WaveletStem(FixedLayer):
    """What `wavelet_stem` makes."""

    def __init__(self, wavelet: str, levels: int, mode: str, threshold: Threshold | None) -> None:
        levels = numbers.as_int("levels", levels)
        if levels < 1:
            raise ValueError(f"expected `levels` of at least 1, got {levels}")
        checks.check_choice("mode", mode, MODES)
        said = described(threshold)
        low, high = analysis_filters(wavelet)
        super().__init__(f"wavelet stem {wavelet}, {levels} levels, {mode}, {said}")
        self.wavelet, self.levels, self.mode, self.threshold = wavelet, levels, mode, threshold
        self._low, self._high = low, high  # Python's floats: no cast of the module rounds them

    def forward(self, images: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, c 4^levels, h', w')."""
        smooth, *details = self._bands(images)
        rows, columns = smooth.shape[-2:]
        maps = [smooth]
        for i, level in enumerate(details):
            finer = 1 << i
            flat = level.flatten(1, 2)
            filled = pad(flat, (0, finer * columns - flat.shape[-1], 0, finer * rows - flat.shape[-2]))
            maps.append(pixel_unshuffle(filled, finer))
        return like(torch.cat(maps, dim=1), images)

    def codes(self, images: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, k): approximations, then details from the coarsest level to the finest."""
        return like(torch.cat([band.flatten(1) for band in self._bands(images)], dim=1), images)

    def _bands(self, images: Tensor) -> Iterator[Tensor]:
        x = as_images(images)
        self._check(x.shape[-2], x.shape[-1])
        sigma, how = self.threshold, {"mode": self.mode, "levels": self.levels}
        if sigma is not None and sigma.mode == "fixed":  # in the same pass as the transform
            how |= {"threshold": sigma.tau, "shrinkage": sigma.kind, "rectified": not sigma.signed}
            smooth, details = kernels.dwt2(x, self._low, self._high, **how)
            return iter([sigma(smooth), *details])
        smooth, details = kernels.dwt2(x, self._low, self._high, **how)
        bands = [smooth, *details]
        if sigma is None:
            return iter(bands)
        flat = sigma(torch.cat([band.flatten(1) for band in bands], dim=1))  # one threshold for all bands of an image
        parts = flat.split([band[0].numel() if len(band) else band.flatten(1).shape[1] for band in bands], dim=1)
        return (part.reshape(band.shape) for part, band in zip(parts, bands, strict=True))

    def _check(self, h: int, w: int) -> None:
        side, taps = min(h, w), len(self._low)
        for level in range(1, self.levels + 1):
            if side < taps:
                raise ValueError(
                    f"expected sides of at least the {taps} taps of {self.wavelet} at each of {self.levels} levels, "
                    f"images of {h} x {w} have {side} at level {level}; take fewer levels, a shorter wavelet or "
                    f"larger images"
                )
            side = -(-side // 2) if self.mode == "periodization" else (side + taps - 1) // 2
