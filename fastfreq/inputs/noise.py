"""Accuracy under noise in bands of frequencies."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import fastfreq_kernels as kernels
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from fastfreq.core.curves import BandCurve

from ._curve import Alteration, Run, measure
from ._metrics import Metric
from ._network import Precision
from ._stream import Chunk


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
    precision: Precision = "fp32",
    channels_last: bool = True,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    first_image: int = 0,
    shard: tuple[int, int] = (0, 1),
    progress: bool = False,
) -> BandCurve:
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
        precision: as for `heatmap`.
        channels_last: as for `heatmap`.
        batch_size: as for `filter_curve`.
        device: where to run; None for where the model is.
        first_image: id of the first image, for shards that are split by hand.
        shard: (i, n) evaluates the images whose id is i modulo n; results of all shards merge with ``+``.
        progress: show a progress bar.

    Returns:
        A BandCurve: `.accuracy`, `.low`, `.high`, `.clean_accuracy`; `.distance` is the norm that clipping leaves.

    Raises:
        ValueError: a bad argument; the message says what was expected, what came and the way out.
        TypeError: an argument of the wrong type, or a model whose output holds no logits.
        FloatingPointError: logits that are NaN or infinite.

    Source: Yin et al. 2019, "A Fourier Perspective on Model Robustness in Computer Vision", section 4 and Figure 5.
    """
    if not (isinstance(norm, (int, float)) and math.isfinite(norm) and norm > 0):
        raise ValueError(
            f"expected a positive `norm`, the L2 norm of the noise per channel in pixels of [0, 1] (8.0 at 32 x 32 in "
            f"Yin et al. 2019), got {norm!r}"
        )

    def alter(chunk: Chunk, masks: Tensor, **layout: Any) -> Tensor:
        return kernels.band_noise(chunk.images, masks, chunk.ids, norm=norm, seed=seed, **layout)

    alteration = Alteration("noise", kind, bandwidths, float(norm), clip, False, seed, alter)
    run = Run(metrics, precision, channels_last, batch_size, device, first_image, shard, progress)
    return measure(model, images, labels, alteration, run)
