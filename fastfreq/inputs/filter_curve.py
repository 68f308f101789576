"""Accuracy on filtered images: which bands of frequencies a classifier needs, and which suffice."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import fastfreq_kernels as kernels
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from fastfreq.engine.images import Chunk
from fastfreq.engine.measure import measure
from fastfreq.engine.run import RunOptions
from fastfreq.results.folds import same
from fastfreq.vocabulary.metrics import Metric

from .band_curves import BandCurve, BandMeasurement


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class FilterCurve(BandCurve, kind="filter_curve"):
    """Accuracy on filtered images over bandwidths.

    Attributes:
        normalise_contrast: whether filtered images got the mean and standard deviation of their originals.
    """

    normalise_contrast: bool = same()

    @classmethod
    def from_format_1(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> BandCurve:
        """What version 0.1 wrote: curves of filters and of noise as one kind."""
        fields = cls.fields_of_format_1(header, arrays)
        if header["question"] == "noise":
            from .noise_curve import NoiseCurve

            return NoiseCurve(norm=float(header["norm"]), seed=int(header["seed"]), **fields)
        return cls(normalise_contrast=bool(header["normalise_contrast"]), **fields)


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
    **run: Unpack[RunOptions],
) -> FilterCurve:
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
        **run: `RunOptions`: precision, batch_size, device, shard, checkpoint, progress and more.

    Returns:
        A FilterCurve: `.accuracy`, `.low`, `.high`, `.clean_accuracy`, `.bandwidths` and more.

    Raises:
        ValueError: a bad argument; the message says what was expected, what came and the way out.
        TypeError: an argument of the wrong type, or a model whose output holds no logits.
        FloatingPointError: logits that are NaN or infinite.

    Source: Yin et al. 2019, "A Fourier Perspective on Model Robustness in Computer Vision", section 3 and Figure 1 (not
        clipped); Wang et al. 2020, section 3 (radial, not clipped).
    """

    def alter(chunk: Chunk, masks: Tensor, **layout: Any) -> Tensor:
        return kernels.filter_bands(chunk.images, masks, normalise_contrast=normalise_contrast, **layout)

    asked = {"normalise_contrast": bool(normalise_contrast)}
    what = _Filter(alter, kind=kind, bandwidths=bandwidths, clip=bool(clip), named=metrics, asked=asked)
    return measure(what, model, images, labels, run)


class _Filter(BandMeasurement):
    """Filtered images."""

    result, label, clean_first = FilterCurve, "filter curve", True
