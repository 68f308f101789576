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
        TypeError: a stem of another type.
        ValueError: a shape of other than three sides, or one that the stem does not take.

    Source: Tanner's lecture on visualising the filters of a CNN.
    """

    def __init__(self, stem: FixedLayer, *, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        if not isinstance(stem, FixedLayer):
            raise TypeError(f"expected `stem` such as ff.wavelet_stem(), got {type(stem).__name__}")
        if len(shape) != 3:
            raise ValueError(f"expected `shape` as (c, h, w), got {tuple(shape)}")
        sides = [numbers.as_int("shape", side) for side in shape]
        with torch.no_grad():
            count = stem.codes(torch.zeros(1, *sides, device=_device(stem))).shape[1]
        self.stem = stem
        self.linear = nn.Linear(count, numbers.as_int("classes", classes))

    def forward(self, images: Tensor) -> Tensor:
        """(n, c, h, w) -> logits (n, classes)."""
        return self.linear(self.stem.codes(images))

    @torch.no_grad()
    def kept(self, images: Tensor) -> float:
        """Share 0 .. 1 of the codes of some images that are not 0; NaN without images."""
        codes = self.stem.codes(images)
        return int(codes.count_nonzero()) / math.prod(codes.shape) if codes.numel() else math.nan


def _device(stem: nn.Module) -> torch.device:
    held = next((t for t in (*stem.parameters(), *stem.buffers())), None)
    return torch.device("cpu") if held is None else held.device
