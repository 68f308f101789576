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

    Fields are taken to be alike up to a shift, and those of the first and the last place are looked at too: where they
    reach a place further than that, as in maps that are enlarged, windows of tokens and circular padding, or where the
    central one reaches the border, the field counts as the whole side of the image.

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
        ends = _support(maps, pixels, 0, 0), _support(maps, pixels, maps.shape[2] - 1, maps.shape[3] - 1)
    sides = [_side(middle, after, axis, places[axis]) for axis in (0, 1)]
    (top, height, step_y), (left, width, step_x) = (
        _held(*sides[axis], ends, axis, maps.shape[2 + axis] - 1) for axis in (0, 1)
    )
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


def _held(
    start: int, length: int, step: int, ends: tuple[NDArray[np.bool_], NDArray[np.bool_]], axis: int, last: int
) -> tuple[int, int, int]:
    """The same, as much larger as the first and the last place need; the whole side where that is more than a step.

    The central place may have lost a maximum at its field's border, and steps may be 5 and 4 in turn.
    """
    side = ends[0].shape[axis]
    below = above = 0
    for place, support in zip((0, last), ends, strict=True):
        seen = np.unique(np.nonzero(support)[axis])
        if len(seen):
            below = max(below, start + place * step - int(seen[0]))
            above = max(above, int(seen[-1]) + 1 - (start + place * step + length))
    return (start - below, length + below + above, step) if max(below, above) <= step else (0, side, 0)
