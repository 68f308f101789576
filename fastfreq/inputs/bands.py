"""Accuracy on filtered images: which bands of frequencies a classifier needs, and which suffice."""

from __future__ import annotations

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


def filter_curve(
    model: nn.Module,
    images: Any,
    labels: Any = None,
    *,
    kind: str | ArrayLike = "low",
    bandwidths: Sequence[float] | None = None,
    clip: bool = False,
    normalise_contrast: bool = False,
    metrics: Sequence[str] | Mapping[str, str | Metric] = ("error",),
    precision: Precision = "fp32",
    channels_last: bool = True,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    first_image: int = 0,
    shard: tuple[int, int] = (0, 1),
    progress: bool = False,
) -> BandCurve:
    """Accuracy of a classifier on low-, high- or band-pass filtered images, over bandwidths.

    Every image x is replaced by Re F^-1(M F(x)), channel by channel, in pixels of [0, 1] before normalisation, for the
    masks M of one family. Filtered images leave [0, 1]: low-pass ones by a little at edges, high-pass ones have mean 0
    and lose their negative half when clipped.

    Args:
        model: as for `heatmap`.
        images: as for `heatmap`.
        labels: as for `heatmap`.
        kind: a family of masks: "low" (yin_low), "high" (yin_high: not the complement of a low pass), "band" (octave),
            "radial", "radial_open", "diamond", or "complement_..." of one (see `fastfreq.vocabulary.masks.MASKS`);
            or masks (b, h, w) of 0 and 1, unshifted, with M(k) = M(-k).
        bandwidths: of the family, in its unit; None for its usual ones: 0, 3, 7 ... 31, 32 for squares at 32 x 32.
        clip: clip filtered pixels to [0, 1], as published code often does.
        normalise_contrast: give each filtered image the mean and standard deviation of the original, over all its
            channels and pixels: what is left is seen at full contrast. Before clipping.
        metrics: as for `heatmap`.
        precision: as for `heatmap`.
        channels_last: as for `heatmap`.
        batch_size: filtered images in one forward pass; None times a few and takes the fastest. Halved when memory
            runs out.
        device: where to run; None for where the model is.
        first_image: id of the first image, for shards that are split by hand.
        shard: (i, n) evaluates the images whose id is i modulo n; results of all shards merge with ``+``.
        progress: show a progress bar.

    Returns:
        A BandCurve: `.accuracy`, `.low`, `.high`, `.clean_accuracy`, `.bandwidths` and more.

    Raises:
        ValueError: a bad argument; the message says what was expected, what came and the way out.
        TypeError: an argument of the wrong type, or a model whose output holds no logits.
        FloatingPointError: logits that are NaN or infinite.

    Source: Yin et al. 2019, "A Fourier Perspective on Model Robustness in Computer Vision", section 3 and Figure 1 (not
        clipped); Wang et al. 2020, section 3 (radial, not clipped).
    """

    def alter(chunk: Chunk, masks: Tensor, **layout: Any) -> Tensor:
        return kernels.filter_bands(chunk.images, masks, normalise_contrast=normalise_contrast, **layout)

    alteration = Alteration("filter", kind, bandwidths, None, clip, normalise_contrast, 0, alter)
    run = Run(metrics, precision, channels_last, batch_size, device, first_image, shard, progress)
    return measure(model, images, labels, alteration, run)
