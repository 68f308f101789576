"""Accuracy under noise in bands of frequencies."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import fastfreq_kernels as kernels
from numpy.typing import ArrayLike
from torch import Tensor, nn

from fastfreq.engine.images import Chunk
from fastfreq.engine.measure import measure
from fastfreq.engine.run import RunOptions
from fastfreq.results.folds import same
from fastfreq.vocabulary import checks, numbers, streams
from fastfreq.vocabulary.metrics import Metric

from .band_curves import BandCurve, BandMeasurement


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class NoiseCurve(BandCurve, kind="noise_curve"):
    """Accuracy under filtered noise over bandwidths.

    Attributes:
        norm: L2 norm of the noise in each channel, in pixels of [0, 1], before clipping.
        seed: key of the noise.
    """

    norm: float = same()
    seed: int = same()


def noise_curve(
    model: nn.Module,
    images: Any,
    labels: Any = None,
    *,
    norm: float,
    kind: str | ArrayLike = "low",
    bandwidths: Sequence[float] | None = None,
    clip: bool = True,
    seed: int = 0,
    metrics: Sequence[str] | Mapping[str, str | Metric] = ("error",),
    **run: Unpack[RunOptions],
) -> NoiseCurve:
    """Accuracy of a classifier under filtered Gaussian noise of a fixed norm, over bandwidths.

    To each channel of each image x is added norm N / ||N||, N = Re F^-1(M F(g)) with g independent standard normal
    values, in pixels of [0, 1] before normalisation. The noise g belongs to (seed, image, channel, pixel): the batch
    size, the order and the sharding do not change it, and all bandwidths filter the same noise. A bandwidth of 0 adds
    nothing.

    Args:
        model: as for `heatmap`.
        images: as for `heatmap`.
        labels: as for `heatmap`.
        norm: L2 norm of the noise in each channel, before clipping; Yin et al. use 8.0 at 32 x 32.
        kind: as for `filter_curve`.
        bandwidths: as for `filter_curve`.
        clip: clip noisy pixels to [0, 1].
        seed: key of the noise.
        metrics: as for `heatmap`.
        **run: `RunOptions`: precision, batch_size, device, shard, checkpoint, progress and more.

    Returns:
        A NoiseCurve: `.accuracy`, `.low`, `.high`, `.clean_accuracy`; `.distance` is the norm that clipping leaves.

    Raises:
        ValueError: a bad argument; the message says what was expected, what came and the way out.
        TypeError: an argument of the wrong type, or a model whose output holds no logits.
        FloatingPointError: logits that are NaN or infinite.

    Source: Yin et al. 2019, "A Fourier Perspective on Model Robustness in Computer Vision", section 4 and Figure 5.
    """
    length, key = numbers.as_float("norm", norm), checks.check_seed(seed)
    if not length > 0:
        raise ValueError(
            f"expected a positive `norm`, the L2 norm of the noise per channel in pixels of [0, 1] (8.0 at 32 x 32 in "
            f"Yin et al. 2019), got {norm!r}"
        )

    domain = streams.domain("noise_curve")

    def alter(chunk: Chunk, masks: Tensor, **layout: Any) -> Tensor:
        return kernels.band_noise(chunk.images, masks, chunk.ids, norm=length, seed=key, domain=domain, **layout)

    asked = {"norm": length, "seed": key}
    what = _Noise(alter, kind=kind, bandwidths=bandwidths, clip=bool(clip), named=metrics, asked=asked)
    return measure(what, model, images, labels, run)


class _Noise(BandMeasurement):
    """Images plus noise."""

    result, label, clean_first = NoiseCurve, "noise curve", True
