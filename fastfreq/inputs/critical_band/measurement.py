"""Critical-band masking: Gaussian noise in octave bands finds the frequencies a network recognises by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Unpack

import fastfreq_kernels as kernels
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fastfreq.engine.images import Chunk
from fastfreq.engine.measure import measure
from fastfreq.engine.measurement import Measurement
from fastfreq.engine.run import RunOptions
from fastfreq.engine.session import Session
from fastfreq.results.folds import Outcomes
from fastfreq.vocabulary import checks, masks, numbers, streams
from fastfreq.vocabulary.sums import ExactSum

from .result import CriticalBand


def critical_band(
    model: nn.Module,
    images: Any,
    labels: Any = None,
    *,
    bands: Sequence[float] | None = None,
    deviations: Sequence[float] = (0.02, 0.04, 0.08, 0.16, 0.32),
    grayscale: bool = False,
    contrast: float = 1.0,
    mean: float | None = None,
    chromatic: bool = False,
    clip: bool = True,
    seed: int = 0,
    **run: Unpack[RunOptions],
) -> CriticalBand:
    """Measure accuracy under Gaussian noise in octave bands, and with it the network's spatial-frequency channel.

    Each image x becomes clip(m + contrast (x - mean(x)) + sigma n_b): n_b is white Gaussian noise filtered to the
    octave c / sqrt(2) < radius <= c sqrt(2) around the band's centre c and scaled to standard deviation 1 over the
    pixels of every image, so that all bands have the same total power. Bands and deviations of one image share one
    draw of white noise. Where noise in a band hurts, the network uses that band: `CriticalBand.channel` fits
    the Gaussian channel to the noise that each band tolerates.

    The paper's protocol is ``grayscale=True, contrast=0.2, mean=0.449, deviations=(0.02, 0.04, 0.08, 0.16)`` on
    images of 224 x 224 with 16 classes.

    Args:
        model: as for `heatmap`.
        images: as for `heatmap`.
        labels: as for `heatmap`.
        bands: centres of the bands in cycles per image (per shorter side); None for half the shorter side and its
            halves down to 1: 1.75, 3.5 ... 112 at 224.
        deviations: standard deviations sigma of the noise in pixels of [0, 1], positive.
        grayscale: replace the channels by their mean, weighted .299, .587, .114 where there are three.
        contrast: factor on an image's departures from its mean, above 0.
        mean: grey level that takes the place of each image's mean, in [0, 1]; None keeps it.
        chromatic: draw the noise of each channel by itself; otherwise all channels have the same.
        clip: clip noisy pixels to [0, 1].
        seed: key of the noise, which belongs to (seed, image, channel): batch sizes, order and shards change nothing.
        **run: `RunOptions`: precision, batch_size, device, shard, checkpoint, progress and more.

    Returns:
        A CriticalBand: `.accuracy`, `.thresholds()`, `.channel()`, `.plot()`.

    Raises:
        ValueError: a bad argument, or a band without frequencies.
        TypeError: an argument of the wrong type.
        FloatingPointError: logits that are NaN or infinite.

    Source: Subramanian, Sizikova, Majaj, Pelli 2023, "Spatial-frequency channels, shape bias, and adversarial
        robustness" (NeurIPS); Solomon, Pelli 1994. They filter by a Laplacian pyramid, this by ideal octaves.
    """
    factor = numbers.as_float("contrast", contrast)
    level = None if mean is None else numbers.as_float("mean", mean)
    if not factor > 0 or not (level is None or 0 <= level <= 1):
        raise ValueError(f"expected `contrast` above 0 and `mean` in [0, 1] or None, got {contrast} and {mean}")
    settings = {
        "deviations": _levels(deviations),
        "seed": checks.check_seed(seed),
        "grayscale": bool(grayscale),
        "contrast": factor,
        "mean": level,
        "chromatic": bool(chromatic),
        "clip": bool(clip),
    }
    return measure(_CriticalBandMeasurement(bands, settings), model, images, labels, run)


class _CriticalBandMeasurement(Measurement):
    """Every band and deviation on every image."""

    result, label = CriticalBand, "critical bands"

    def __init__(self, bands: Sequence[float] | None, settings: dict[str, Any]) -> None:
        self._asked, self._settings = bands, settings

    def settings(self, shape: tuple[int, int, int]) -> dict[str, Any]:
        asked = self._asked
        self._centres = octave_centres(shape[1:]) if asked is None else np.unique(np.asarray(asked, np.float64))
        self._masks = octave_masks(shape[1:], self._centres)
        return {"bands": self._centres, **self._settings}

    def passes(self, shape: tuple[int, int, int]) -> float:
        return 1 + len(self._centres) * len(self._settings["deviations"])

    def start(self, session: Session) -> None:
        self._keep = torch.from_numpy(self._masks).to(session.device)

    def evaluate(self, session: Session, chunk: Chunk) -> dict[str, Any]:
        clean = self._base(chunk.images)
        before = session.clean(Chunk(clean, chunk.labels, chunk.ids, chunk.hashes))
        noise = octave_noise(
            chunk.ids,
            self._keep,
            seed=self._settings["seed"],
            channels=chunk.images.shape[1] if self._settings["chromatic"] else 1,
        )
        b, d, n = len(self._keep), len(self._settings["deviations"]), len(chunk)
        band = torch.arange(b, device=session.device).repeat_interleave(d)
        deviation = torch.from_numpy(self._settings["deviations"]).float().to(session.device).repeat(b)
        left = torch.ones(b * d, n, dtype=torch.float64, device=session.device)

        def make(part: slice, rows: slice, each: int) -> tuple[Tensor, ...]:
            sigma = deviation[rows, None, None, None, None]
            base = clean[part]
            noisy = base + sigma * noise[band[rows], part]
            if self._settings["clip"]:
                noisy.clamp_(0, 1)
                kept = (noisy - base.clamp(0, 1)).square().mean(dim=(-2, -1)).sqrt().mean(dim=-1).double()
                left[rows, part] = kept / sigma[..., 0, 0, 0]
            batch = session.network.clean_batch(noisy.flatten(0, 1))
            return batch.split(each * (part.stop - part.start))

        def describe(row: int) -> str:
            return f"under noise of deviation {float(deviation[row]):g} in band {int(band[row])}"

        seen = session.outcomes(chunk, b * d, make, describe=describe)
        return {
            "wrong": Outcomes.of(seen.wrong(chunk.labels).reshape(b, d, n)),
            "clean_wrong": before.wrong(chunk.labels)[0],
            "left": ExactSum.of(left.view(b, d, n), axis=2),
        }

    def _base(self, images: Tensor) -> Tensor:
        """The images that noise is added to."""
        contrast, mean = self._settings["contrast"], self._settings["mean"]
        if self._settings["grayscale"]:
            images = _gray(images)
        if contrast == 1 and mean is None:
            return images
        own = images.mean(dim=(1, 2, 3), keepdim=True)
        return (images - own) * contrast + (own if mean is None else mean)


def octave_centres(shape: tuple[int, int]) -> NDArray[np.float64]:
    """Half the shorter side and its halves down to 1, ascending, in cycles per image."""
    if min(shape) < 2:
        raise ValueError(f"expected images of at least 2 x 2 for bands of an octave, got {shape[0]} x {shape[1]}")
    return np.array(masks.default_bandwidths("octave", shape))


def octave_masks(shape: tuple[int, int], centres: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Masks (b, h, w) of `masks.octave`; disjoint where centres double.

    Raises:
        ValueError: centres that are not positive and finite, or a band without frequencies.
    """
    if centres.ndim != 1 or not len(centres) or not (np.isfinite(centres) & (centres > 0)).all():
        raise ValueError(f"expected `bands` as positive centres in cycles per image, got {centres.tolist()}")
    bands = masks.stack("octave", shape, centres.tolist())
    empty = ~bands.any(axis=(1, 2))
    if empty.any():
        raise ValueError(
            f"expected bands that hold frequencies of images of {shape[0]} x {shape[1]}, the octave around "
            f"{centres[empty][0]:g} cycles per image holds none; take centres from 1 to {min(shape) / 2:g}"
        )
    return bands


def octave_noise(image_ids: Tensor, bands: Tensor, *, seed: int, channels: int) -> Tensor:
    """Gaussian noise (b, n, channels, h, w) in bands, mean 0 and standard deviation 1 over the pixels of each channel.

    That of `kernels.band_noise` on black images: all bands of an image filter the same white noise.

    Args:
        image_ids: (n,) int64.
        bands: (b, h, w) bool, unshifted, without zero frequency.
        seed: 64-bit key.
        channels: drawn independently.
    """
    h, w = bands.shape[1:]
    black = torch.zeros(len(image_ids), channels, h, w, device=bands.device)
    domain = streams.domain("critical_band")
    return kernels.band_noise(black, bands, image_ids, norm=math.sqrt(h * w), seed=seed, domain=domain)


def _gray(images: Tensor) -> Tensor:
    """Every channel replaced by the luma (ITU-R BT.601), or by the mean where there are not three channels."""
    weights = [0.299, 0.587, 0.114] if images.shape[1] == 3 else [1 / images.shape[1]] * images.shape[1]
    luma = torch.einsum("nchw,c->nhw", images, images.new_tensor(weights))
    return luma[:, None].expand_as(images).contiguous()


def _levels(deviations: Sequence[float]) -> NDArray[np.float64]:
    levels = np.unique(np.asarray(deviations, dtype=np.float64))
    if levels.ndim != 1 or not len(levels) or not (np.isfinite(levels) & (levels > 0)).all():
        raise ValueError(
            f"expected positive `deviations` in pixels of [0, 1], got {list(deviations)}; the accuracy without noise "
            f"is always measured"
        )
    return levels
