"""Critical-band masking: Gaussian noise in octave bands finds the frequencies a network recognises by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from fastfreq_kernels.fourier_perturb._reference import philox
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from fastfreq.core.channels import CriticalBandResult
from fastfreq.vocabulary import fourier

from ._conditions import ConditionLoop, on_device, prepare
from ._network import Precision
from ._stream import Chunk

_NOISE = 1 << 31  # in the channel word of Philox: keeps noise apart from the signs of a heat map with the same seed
_WORD = 0xFFFFFFFF


def critical_band_masking(
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
    precision: Precision = "fp32",
    channels_last: bool = True,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    first_image: int = 0,
    shard: tuple[int, int] = (0, 1),
    progress: bool = False,
) -> CriticalBandResult:
    """Measure accuracy under Gaussian noise in octave bands, and with it the network's spatial-frequency channel.

    Each image x becomes clip(m + contrast (x - mean(x)) + sigma n_b): n_b is white Gaussian noise filtered to the
    octave c / sqrt(2) < radius <= c sqrt(2) around the band's centre c and scaled to standard deviation 1 over the
    pixels of every image, so that all bands have the same total power. Bands and deviations of one image share one
    draw of white noise. Where noise in a band hurts, the network uses that band: `CriticalBandResult.channel` fits
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
        precision: as for `heatmap`.
        channels_last: as for `heatmap`.
        batch_size: noisy images in one forward pass; halved when memory runs out.
        device: where to run; None for where the model is.
        first_image: id of the first image.
        shard: (i, n) takes the images whose id is i modulo n.
        progress: show a progress bar.

    Returns:
        A CriticalBandResult: `.accuracy`, `.thresholds()`, `.channel()`, `.plot()`.

    Raises:
        ValueError: a bad argument, or a band without frequencies.
        TypeError: an argument of the wrong type.
        FloatingPointError: logits that are NaN or infinite.

    Source: Subramanian, Sizikova, Majaj, Pelli 2023, "Spatial-frequency channels, shape bias, and adversarial
        robustness" (NeurIPS); Solomon, Pelli 1994. They filter by a Laplacian pyramid, this by ideal octaves.
    """
    levels = _levels(deviations)
    if not (math.isfinite(contrast) and contrast > 0) or not (mean is None or 0 <= mean <= 1):
        raise ValueError(f"expected `contrast` above 0 and `mean` in [0, 1] or None, got {contrast} and {mean}")
    if not 0 <= seed < 2**64:
        raise ValueError(f"expected a `seed` from 0 to 2**64 - 1, got {seed}")
    network, stream, shape, details = prepare(
        model,
        images,
        labels,
        precision=precision,
        channels_last=channels_last,
        device=device,
        first_image=first_image,
        shard=shard,
    )
    loop = ConditionLoop(network, batch_size=batch_size, shape=shape)
    centres = octave_centres(shape[1:]) if bands is None else np.unique(np.asarray(bands, dtype=np.float64))
    keep = torch.from_numpy(octave_masks(shape[1:], centres)[..., : shape[2] // 2 + 1]).to(network.device)
    count = 1 + len(centres) * len(levels)  # without noise first
    ids, true, wrong, left = [], [], [], np.zeros(count - 1)
    total = None if stream.total is None else stream.total * count
    with torch.inference_mode(), tqdm(total=total, unit="img", desc="critical bands", disable=not progress) as bar:
        for chunk in stream.chunks(loop.batch_size):
            here = on_device(chunk, network.device)
            maker = _NoisyImages(here, keep, levels, seed, grayscale, contrast, mean, chromatic, clip)
            found, _ = loop.outcomes(here, count, maker, bar.update)
            ids.append(chunk.ids.numpy())
            true.append(chunk.labels.cpu().numpy())
            wrong.append(found.numpy())
            left += maker.left[1:].sum(dim=1).cpu().numpy()
    order = np.argsort(np.concatenate(ids))
    outcomes = np.concatenate(wrong, axis=1)[:, order]
    return CriticalBandResult(
        shape=shape,
        bands=centres,
        deviations=levels,
        seed=seed,
        grayscale=grayscale,
        contrast=float(contrast),
        mean=mean,
        chromatic=chromatic,
        clip=clip,
        image_ids=np.concatenate(ids)[order],
        labels=np.concatenate(true)[order],
        wrong=np.packbits(outcomes[1:].reshape(len(centres), len(levels), -1), axis=2),
        clean_wrong=outcomes[0],
        left=left.reshape(len(centres), len(levels)),
        details=details,
    )


def octave_centres(shape: tuple[int, int]) -> NDArray[np.float64]:
    """Half the shorter side and its halves down to 1, ascending, in cycles per image."""
    top = min(shape) / 2
    if top < 1:
        raise ValueError(f"expected images of at least 2 x 2 for bands of an octave, got {shape[0]} x {shape[1]}")
    return top / np.exp2(np.arange(int(math.log2(top)), -1, -1))


def octave_masks(shape: tuple[int, int], centres: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Masks (b, h, w), unshifted, of the octaves c / sqrt(2) < radius <= c sqrt(2); disjoint where centres double.

    Raises:
        ValueError: centres that are not positive and finite, or a band without frequencies.
    """
    if centres.ndim != 1 or not len(centres) or not (np.isfinite(centres) & (centres > 0)).all():
        raise ValueError(f"expected `bands` as positive centres in cycles per image, got {centres.tolist()}")
    h, w = shape
    grid = np.stack(np.meshgrid(np.arange(h), np.arange(w), indexing="ij"), axis=-1)
    squared = np.square(fourier.signed(grid, shape) * (min(shape) / np.asarray(shape))).sum(axis=-1)
    # squares of the edges are exact where those of the radii are: no frequency falls between two octaves
    upper = 2 * np.square(centres)[:, None, None]
    masks = (squared > upper / 4) & (squared <= upper)
    empty = ~masks.any(axis=(1, 2))
    if empty.any():
        raise ValueError(
            f"expected bands that hold frequencies of images of {h} x {w}, the octave around {centres[empty][0]:g} "
            f"cycles per image holds none; take centres from 1 to {min(shape) / 2:g}"
        )
    return masks


def octave_noise(image_ids: Tensor, half_masks: Tensor, *, seed: int, channels: int, shape: tuple[int, int]) -> Tensor:
    """Gaussian noise (b, n, channels, h, w) in bands, mean 0 and standard deviation 1 over the pixels of each image.

    White noise is the normal quantile of the top word of Philox4x32-10 with key `seed` and counter (image low word,
    image high word, 2^31 + channel, pixel), filtered to each band and divided by its root mean square.

    Args:
        image_ids: (n,) int64.
        half_masks: (b, h, w // 2 + 1) bool, the half plane of a real FFT.
        seed: 64-bit key.
        channels: drawn independently.
        shape: (h, w).
    """
    h, w = shape
    pixel = torch.arange(h * w, device=image_ids.device)
    channel = torch.arange(channels, device=image_ids.device)[:, None] + _NOISE
    image = image_ids[:, None, None]
    word = philox(seed, (image & _WORD, (image >> 32) & _WORD, channel, pixel))
    white = torch.special.ndtri((word.double() + 0.5) / 2**32).view(len(image_ids), channels, h, w)
    spectrum = torch.fft.rfft2(white)
    out = white.new_empty((len(half_masks), *white.shape), dtype=torch.float32)
    for band, mask in zip(out, half_masks, strict=True):
        noise = torch.fft.irfft2(spectrum * mask, s=shape)
        band.copy_(noise / noise.square().mean(dim=(-2, -1), keepdim=True).sqrt())
    return out


class _NoisyImages:
    """Images of one chunk under every band and deviation; condition 0 is without noise.

    Attributes:
        left: (conditions, n) deviation left after clipping over deviation, mean over channels.
    """

    def __init__(
        self,
        chunk: Chunk,
        half_masks: Tensor,
        levels: NDArray[np.float64],
        seed: int,
        grayscale: bool,
        contrast: float,
        mean: float | None,
        chromatic: bool,
        clip: bool,
    ) -> None:
        images, device = chunk.images, chunk.images.device
        if grayscale:
            images = _gray(images)
        own = images.mean(dim=(1, 2, 3), keepdim=True)
        self._base = (
            images if contrast == 1 and mean is None else (images - own) * contrast + (own if mean is None else mean)
        )
        c, h, w = images.shape[1:]
        self._noise = octave_noise(chunk.ids, half_masks, seed=seed, channels=c if chromatic else 1, shape=(h, w))
        pairs = [(0, 0.0), *((band, level) for band in range(len(half_masks)) for level in levels)]
        self._band = torch.tensor([band for band, _ in pairs], device=device)
        self._deviation = torch.tensor([level for _, level in pairs], dtype=torch.float32, device=device)
        self._clip = clip
        self.left = torch.ones(len(pairs), len(images), dtype=torch.float64, device=device)

    def __call__(self, part: slice, conditions: slice) -> Tensor:
        deviation = self._deviation[conditions, None, None, None, None]
        base = self._base[part]
        noisy = base + deviation * self._noise[self._band[conditions], part]
        if self._clip:
            noisy.clamp_(0, 1)
            kept = (noisy - base.clamp(0, 1)).square().mean(dim=(-2, -1)).sqrt().mean(dim=-1).double()
            self.left[conditions, part] = kept / deviation[..., 0, 0, 0].clamp_min(1e-30)
        return noisy.flatten(0, 1)


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
