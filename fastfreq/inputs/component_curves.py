"""Which part of an image a model sees: its low frequencies, its high ones, or what people do not see."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fastfreq.engine.images import Chunk
from fastfreq.engine.measure import measure
from fastfreq.engine.measurement import Measurement
from fastfreq.engine.run import RunOptions
from fastfreq.engine.session import Session
from fastfreq.results import tables
from fastfreq.results.folds import by_image, condition, same
from fastfreq.results.result import ModelResult
from fastfreq.vocabulary import masks, numbers, statistics

FloatArray = NDArray[np.float64]
SHARES = ("low", "high", "only_low", "only_high", "like_low", "like_high")


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ComponentCurves(ModelResult, kind="component_curves"):
    """Predictions for images x, their low parts and their high parts, x = low(r) + high(r), over radii r.

    ``a + b`` merges shards: other images at the same radii, or other radii on the same images.

    Attributes:
        radii: (r,) of the disc of low frequencies, cycles per image (per shorter side), ascending.
        inclusive: whether the disc is <= r (the paper) or < r (the authors' code).
        clip: whether both parts were clipped to [0, 1].
        labels: (n,) true classes.
        predicted: (n,) class of the whole image.
        predicted_low: (r, n) class of the low part.
        predicted_high: (r, n) class of the high part.
    """

    SHAPES: ClassVar[dict[str, str]] = {
        "radii": "r", "labels": "n", "predicted": "n", "predicted_low": "r n", "predicted_high": "r n",
    }  # fmt: skip

    inclusive: bool = same()
    clip: bool = same()
    radii: FloatArray = condition()
    labels: NDArray[np.int64] = by_image()
    predicted: NDArray[np.int64] = by_image()
    predicted_low: NDArray[np.int64] = by_image(conditions=0)
    predicted_high: NDArray[np.int64] = by_image(conditions=0)

    # ---------------------------------------------------------------- figures
    @property
    def accuracy(self) -> float:
        """Top-1 accuracy on the whole images."""
        return float((self.predicted == self.labels).mean())

    def members(self, share: str) -> NDArray[np.bool_]:
        """(r, n) which images belong to a share of `SHARES`, as `curve` describes them.

        Raises:
            ValueError: no such share.
        """
        low, high, x = self.predicted_low, self.predicted_high, self.predicted
        right_low, right_high = low == self.labels, high == self.labels
        found = {
            "low": right_low,
            "high": right_high,
            "only_low": right_low & ~right_high,
            "only_high": right_high & ~right_low,
            "like_low": (low == x) & (high != x),
            "like_high": (high == x) & (low != x),
        }
        if share not in found:
            raise ValueError(f"expected a share of {list(SHARES)}, got {share!r}")
        return found[share]

    def curve(self, share: str) -> FloatArray:
        """(r,) share of the images, by radius.

        "low", "high": accuracy on the low and the high part. The label-flip curves: "only_low", right on the low part
        and wrong on the high part, and "only_high", the other way round. "like_low", "like_high": predicted like one
        part and unlike the other, right or wrong.

        Source: Wang et al. 2020, Figures 1 and 2 ("low", "high", "only_high").
        """
        return self.members(share).mean(axis=1)

    def interval(self, share: str, *, confidence: float = 0.95) -> tuple[FloatArray, FloatArray]:
        """(low, high) Wilson intervals of `curve`."""
        return statistics.wilson(self.members(share).sum(axis=1), self.n_images, confidence=confidence)

    def image_ids_of(self, share: str, radius: float) -> NDArray[np.int64]:
        """Ids of the images of a share at one of the radii.

        Raises:
            ValueError: a radius that was not measured.
        """
        at = np.flatnonzero(self.radii == radius)
        if not len(at):
            raise ValueError(f"expected one of the radii {self.radii.tolist()}, got {radius}")
        return self.image_ids[self.members(share)[at[0]]]

    # ---------------------------------------------------------------- out of the toolkit
    def table(self) -> list[dict[str, Any]]:
        """One row per radius: every share with its 95 % interval."""
        columns: dict[str, Any] = {"radius": self.radii, "count": self.n_images}
        for share in SHARES:
            columns[share] = self.curve(share)
            columns[f"{share}_from"], columns[f"{share}_to"] = self.interval(share)
        return tables.from_columns(columns)

    def headline(self) -> str:
        """Accuracy on whole images, and its range on both parts."""
        parts = []
        for share in ("low", "high"):
            curve = self.curve(share)
            parts.append(f"{share} parts {curve.min():.3f} to {curve.max():.3f}")
        return f"accuracy {self.accuracy:.3f}, {', '.join(parts)}"

    @classmethod
    def from_format_1(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> ComponentCurves:
        """What version 0.1 wrote."""
        return cls(
            **cls._of_format_1(header, arrays["image_ids"]),
            inclusive=bool(header["inclusive"]),
            clip=bool(header["clip"]),
            radii=np.array(header["radii"], np.float64),
            labels=arrays["labels"],
            predicted=arrays["predicted"],
            predicted_low=arrays["predicted_low"],
            predicted_high=arrays["predicted_high"],
        )


def component_curves(
    model: nn.Module,
    images: Any,
    labels: Any = None,
    *,
    radii: Sequence[float] | None = None,
    inclusive: bool = False,
    clip: bool = False,
    **run: Unpack[RunOptions],
) -> ComponentCurves:
    """Predictions for the low part and the high part of each image, x = low(r) + high(r), as r grows.

    low(r) keeps the frequencies within r of zero, the rest is high(r): see `split_components`. Neither part is
    rescaled. The high part has mean zero, so half of its pixels are negative: networks take it as it is.

    Args:
        model: as for `heatmap`.
        images: as for `heatmap`.
        labels: as for `heatmap`.
        radii: of the disc of low frequencies, in cycles per image (per shorter side); None for eighths of the shorter
            side, up to seven: 4, 8 ... 28 at 32 x 32, as in the authors' code.
        inclusive: frequencies at distance r belong to the low part (the paper's formula); the authors' code keeps
            those below r.
        clip: clip both parts to [0, 1], which the authors do not do: their sum is then no longer the image.
        **run: `RunOptions`: precision (Fourier transforms are float32), batch_size, device, shard, checkpoint,
            progress and more.

    Returns:
        ComponentCurves: `.curve("low")`, `.curve("only_high")` and more.

    Raises:
        ValueError: a bad argument; the message says what was expected, what came and the way out.
        TypeError: an argument of the wrong type, or a model whose output holds no logits.
        FloatingPointError: logits that are NaN or infinite.

    Source: Wang, Wu, Huang, Xing 2020, "High-Frequency Component Helps Explain the Generalization of Convolutional
        Neural Networks", section 3.
    """
    what = _ComponentMeasurement(radii=radii, inclusive=bool(inclusive), clip=bool(clip))
    return measure(what, model, images, labels, run)


class _ComponentMeasurement(Measurement):
    """Both parts of every image: of radius i, condition 2 i is the low part and 2 i + 1 the high one."""

    result, label, clean_first = ComponentCurves, "components", True

    def __init__(self, *, radii: Sequence[float] | None, inclusive: bool, clip: bool) -> None:
        self._asked, self._inclusive, self._clip = radii, inclusive, clip

    def settings(self, shape: tuple[int, int, int]) -> dict[str, Any]:
        """As in `Measurement`."""
        self._radii = _radii(self._asked, shape[1:])
        self._masks = _half_masks(shape[1:], self._radii, self._inclusive)
        return {"radii": np.array(self._radii), "inclusive": self._inclusive, "clip": self._clip}

    def passes(self, shape: tuple[int, int, int]) -> float:
        """As in `Measurement`."""
        return 1 + 2 * len(self._radii)

    def start(self, session: Session) -> None:
        """As in `Measurement`."""
        self._kept = self._masks.to(session.device)

    def evaluate(self, session: Session, chunk: Chunk) -> dict[str, Any]:
        """As in `Measurement`."""
        clean = session.clean(chunk)
        spectrum = torch.fft.rfft2(chunk.images)

        def make(part: slice, rows: slice, each: int) -> Iterator[Tensor]:
            low, waiting = None, []
            for row in range(rows.start, rows.stop):
                if low is None or row % 2 == 0:
                    low = torch.fft.irfft2(spectrum[part] * self._kept[row // 2], s=session.shape[1:])
                pixels = chunk.images[part] - low if row % 2 else low
                waiting.append(pixels.clamp(0, 1) if self._clip else pixels)
                if len(waiting) == each or row + 1 == rows.stop:
                    yield session.network.clean_batch(torch.cat(waiting))
                    waiting = []

        def describe(row: int) -> str:
            return f"its {'high' if row % 2 else 'low'} part at radius {self._radii[row // 2]:g}"

        seen = session.outcomes(chunk, 2 * len(self._radii), make, describe=describe)
        predicted = seen.predicted.numpy()
        return {
            "predicted": clean.predicted[0].numpy(),
            "predicted_low": predicted[::2],
            "predicted_high": predicted[1::2],
        }


def _radii(radii: Sequence[float] | None, shape: tuple[int, int]) -> list[float]:
    if radii is None:
        return [eighth * min(shape) / 8 for eighth in range(1, 8)]
    return list(numbers.ascending("radii", radii, numbers.as_float))


def _half_masks(shape: tuple[int, int], radii: Sequence[float], inclusive: bool) -> Tensor:
    """(r, h, w // 2 + 1) bool: which bins of a real FFT lie in the disc of low frequencies."""
    kept = np.stack([masks.radial(shape, radius, inclusive=inclusive) for radius in radii])
    return torch.from_numpy(kept[..., : shape[1] // 2 + 1].copy())


def split_components(
    images: Tensor, radii: float | Sequence[float], *, inclusive: bool = False
) -> tuple[Tensor, Tensor]:
    """(low, high) parts of images, channel by channel, low + high = images to rounding.

    low = F^-1(M F(x)) with the disc M = [d < r], d the distance from zero frequency in cycles per image (per shorter
    side where sides differ). M is symmetric, so the low part is real without discarding anything; high = x - low is
    F^-1((1 - M) F(x)).

    Args:
        images: (..., h, w) of a float type.
        radii: one radius r from 0 to the longer side, or several.
        inclusive: d <= r, the paper's formula, in place of d < r, the authors' code.

    Returns:
        Two tensors like `images`, with a leading axis of radii if several were given. Differentiable.

    Raises:
        TypeError: images of an integer type.
        ValueError: a radius outside the plane of frequencies.

    Source: Wang et al. 2020, equation 1.
    """
    if not images.dtype.is_floating_point:
        raise TypeError(f"expected `images` of a float type, got {images.dtype}; divide uint8 pixels by 255")
    h, w = int(images.shape[-2]), int(images.shape[-1])
    several = np.ndim(radii) > 0
    mask = _half_masks((h, w), np.atleast_1d(radii).tolist(), inclusive).to(images.device)
    mask = mask.view(len(mask), *[1] * (images.ndim - 2), h, w // 2 + 1)
    low = torch.fft.irfft2(torch.fft.rfft2(images) * mask, s=(h, w))
    low = low if several else low[0]
    return low, images - low
