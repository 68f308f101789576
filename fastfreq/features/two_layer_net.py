"""The lecture's network: a fixed frame, a threshold, and one layer that is learned."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fastfreq.vocabulary import numbers

from .fixed_layer import FixedLayer

__all__ = ["TwoLayerNet"]


class TwoLayerNet(nn.Module):
    """h2 = sigma(W1 x), logits = W2 h2 + b, where W1 is a fixed frame and sigma a threshold: W2 and b are learned.

    The last sigma of h3 = sigma(W2 h2 + b) is left to the loss: of logits none of the usual ones needs it.

    Args:
        stem: sigma(W1 x): a wavelet, scattering or curvelet stem.
        shape: (c, h, w) of the images.
        classes: of W2.

    Raises:
        TypeError: a stem of another type, or others than integers; when called, images of another type than `linear`.
        ValueError: a shape of other than three positive sides, or one that the stem does not take; fewer than one
            class; when called, images of another shape.

    Source: Tanner's lecture on visualising the filters of a CNN.
    """

    def __init__(self, stem: FixedLayer, *, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        if not isinstance(stem, FixedLayer):
            raise TypeError(f"expected `stem` such as ff.wavelet_stem(), got {type(stem).__name__}")
        sides = numbers.as_ints("shape", shape, of="(c, h, w)")
        if min(sides) < 1:
            raise ValueError(f"expected `shape` (c, h, w) of positive sides, got {sides}")
        classes = numbers.as_int("classes", classes)
        if classes < 1:
            raise ValueError(f"expected at least one of `classes`, got {classes}")
        with torch.no_grad():
            count = stem.codes(torch.zeros(1, *sides, device=_device(stem))).shape[1]
        self.stem = stem
        self.linear = nn.Linear(count, classes)

    def forward(self, images: Tensor) -> Tensor:
        """(n, c, h, w) -> logits (n, classes)."""
        codes, weight = self.stem.codes(images), self.linear.weight
        if codes.shape[1] != weight.shape[1]:
            raise ValueError(
                f"expected images of the shape that the net was made for, with {weight.shape[1]} codes, those of "
                f"{tuple(images.shape[1:])} have {codes.shape[1]}"
            )
        if codes.dtype != weight.dtype and not torch.is_autocast_enabled(codes.device.type):
            raise TypeError(f"expected images of the learned layer's type, {weight.dtype}, got {images.dtype}")
        return self.linear(codes)

    @torch.no_grad()
    def kept(self, images: Tensor) -> float:
        """Share 0 .. 1 of the codes of some images that are not 0; NaN without images."""
        codes = self.stem.codes(images)
        return int(codes.count_nonzero()) / math.prod(codes.shape) if codes.numel() else math.nan


def _device(stem: nn.Module) -> torch.device:
    held = next((t for t in (*stem.parameters(), *stem.buffers())), None)
    return torch.device("cpu") if held is None else held.device
