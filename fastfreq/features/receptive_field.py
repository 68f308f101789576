"""Which pixels a place of a layer's maps depends on, measured: the support of its gradient."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastfreq.engine.network import Network
from fastfreq.results import codec
from fastfreq.vocabulary import streams

from ._layer_view import LayerView

_NOISE = 6  # images whose supports are joined: one may shut rectifiers and lose maxima at the border of the field


@codec.record
@dataclasses.dataclass(frozen=True)
class ReceptiveField:
    """Boxes of pixels: place (r, c) sees rows from top + r step_y, `height` of them, and columns alike.

    Attributes:
        top: first row of place (0, 0); negative where the field reaches over the border.
        left: first column.
        height: rows; the image's where the field is no smaller.
        width: columns.
        step_y: rows from one place to the next; 0 where every place sees all rows.
        step_x: columns.
    """

    top: int
    left: int
    height: int
    width: int
    step_y: int
    step_x: int

    def box(self, row: int, column: int, shape: tuple[int, int]) -> tuple[int, int, int, int]:
        """(top, bottom, left, right), ends excluded, of what a place sees of an image of (h, w)."""
        top, left = self.top + row * self.step_y, self.left + column * self.step_x
        return max(0, top), min(shape[0], top + self.height), max(0, left), min(shape[1], left + self.width)


def receptive_field(network: Network, view: LayerView, shape: tuple[int, int, int]) -> ReceptiveField:
    """That of a layer, from gradients of its central place and the next with respect to noise images.

    Fields are taken to be alike up to a shift. One that reaches the border from the central place counts as the whole
    side of the image.

    Args:
        network: that `view` looks into, on its device.
        view: of the layer.
        shape: (c, h, w) of the images.
    """
    noise = streams.generator("probes", 2).random((_NOISE, *shape), dtype=np.float32)
    pixels = torch.from_numpy(noise).to(network.device).requires_grad_()
    with torch.enable_grad():
        maps = view.maps(view(pixels)).float()
        places = [(n // 2, min(n // 2 + 1, n - 1)) for n in maps.shape[2:]]
        middle = _support(maps, pixels, places[0][0], places[1][0])
        after = _support(maps, pixels, places[0][1], places[1][1])
    top, height, step_y = _side(middle, after, 0, places[0])
    left, width, step_x = _side(middle, after, 1, places[1])
    return ReceptiveField(top, left, height, width, step_y, step_x)


def _support(maps: Tensor, pixels: Tensor, row: int, column: int) -> NDArray[np.bool_]:
    """(h, w) pixels on which any unit at a place depends."""
    signs = torch.where(torch.arange(maps.shape[1], device=maps.device) % 3 == 0, -1.0, 1.0)  # sums may cancel: softmax
    at = (maps[:, :, row, column] * signs).sum()
    if not at.requires_grad:
        return np.ones(pixels.shape[2:], dtype=np.bool_)
    (gradient,) = torch.autograd.grad(at, pixels, retain_graph=True)
    return (gradient != 0).any(dim=1).any(dim=0).cpu().numpy()


def _side(
    middle: NDArray[np.bool_], after: NDArray[np.bool_], axis: int, places: tuple[int, int]
) -> tuple[int, int, int]:
    """(start of place 0, length, step) along one axis."""
    side = middle.shape[axis]
    seen, then = (np.unique(np.nonzero(each)[axis]) for each in (middle, after))
    if not len(seen) or seen[0] == 0 or seen[-1] == side - 1:
        return 0, side, 0
    step = int(then[0] - seen[0]) if len(then) and places[1] > places[0] else 0
    return int(seen[0]) - places[0] * step, int(seen[-1] - seen[0]) + 1, step
