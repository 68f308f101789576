"""Images that moved a little: shifted, rotated, dilated, mirrored at their edges."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample

__all__ = ["KINDS", "checked", "defaults", "moved"]

DEFAULTS = {
    "shift": (0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0),
    "rotation": (2.5, 5.0, 10.0, 15.0, 20.0),
    "dilation": (0.8, 0.9, 0.95, 1.05, 1.1, 1.25),
}
KINDS = tuple(DEFAULTS)
_FINER = 3  # samples along each axis for one pixel; odd, so that pixels are among them


def defaults(kind: str, shape: Sequence[int]) -> tuple[float, ...]:
    """Amounts of a kind for images of (c, h, w): shifts by less than half the shorter side."""
    return tuple(a for a in DEFAULTS[kind] if kind != "shift" or a < min(shape[1:]) / 2)


def checked(kind: str, amounts: Sequence[float], shape: Sequence[int]) -> None:
    """Refuse what cannot be.

    Raises:
        ValueError: an amount out of range, or images that are too small for it.
    """
    if not len(amounts) or min(shape[1:]) < 2:
        raise ValueError(f"expected images of at least 2 x 2 pixels to move, got {shape[1]} x {shape[2]}")
    if kind == "shift" and not (amounts[0] > 0 and amounts[-1] < min(shape[1:])):
        raise ValueError(
            f"expected shifts above 0 and below the shorter side, {min(shape[1:])} pixels, got {[*amounts]}; take "
            f"smaller `amounts` or larger images"
        )
    if kind == "rotation" and not (amounts[0] > 0 and amounts[-1] <= 180):
        raise ValueError(f"expected rotations above 0 and up to 180 degrees, got {[*amounts]}; both ways are taken")
    if kind == "dilation" and (amounts[0] < 0.25 or amounts[-1] > 4 or 1 in amounts):
        raise ValueError(f"expected dilations from 0.25 to 4 without 1, got {[*amounts]}")


def moved(images: Tensor, kind: str, amount: float) -> list[Tensor]:
    """The images moved in every direction of a kind, in float32.

    Shift: down, and to the right. Rotation about the centre: both ways. Dilation about the centre: one. Between pixels
    an image is the trigonometric interpolation of itself and its mirror images, which is exact for shifts and
    dilations; where an image shrinks, frequencies that it cannot hold any more are taken out. Rotations interpolate
    bicubically between three times as many samples of it. Nothing is clipped.

    Args:
        images: (n, c, h, w) in [0, 1].
        kind: one of `KINDS`.
        amount: pixels, degrees, or the factor of size.
    """
    x = images.double()
    sides = [np.arange(n, dtype=np.float64) for n in x.shape[2:]]
    if kind == "shift":
        return [_sampled(x, axis, sides[axis - 2] - amount).float() for axis in (2, 3)]
    if kind == "dilation":
        for axis, at in zip((2, 3), sides, strict=True):
            centre = (len(at) - 1) / 2
            x = _sampled(x, axis, centre + (at - centre) / amount, below=min(1.0, amount) / 2)
        return [x.float()]
    for axis, at in zip((2, 3), sides, strict=True):
        x = _sampled(x, axis, (np.arange(_FINER * len(at)) + 0.5) / _FINER - 0.5)
    return [_rotated(x, images.shape[2:], math.radians(angle)) for angle in (amount, -amount)]


def _sampled(x: Tensor, axis: int, at: NDArray[np.float64], *, below: float = 0.5) -> Tensor:
    """Along an axis, the values at other places, in pixels, of what has frequencies below some cycles per pixel.

    x(s) = sum_k a_k cos(pi k (s + 1 / 2) / n), k / 2 n cycles per pixel: the inverse of the DCT-II, anywhere.
    """
    n = x.shape[axis]
    k = np.arange(n)
    weight = np.where(k == 0, 1, 2) / n * (k / (2 * n) < below)
    places, samples = (np.cos(np.pi * k * (s[:, None] + 0.5) / n) for s in (at, np.arange(n)))
    matrix = torch.from_numpy((places * weight) @ samples.T).to(x.device)
    return (x.movedim(axis, -1) @ matrix.T).movedim(-1, axis)


def _rotated(fine: Tensor, shape: Sequence[int], angle: float) -> Tensor:
    """Counter-clockwise about the centre, on a grid of pixels."""
    h, w = shape
    y, z = (torch.arange(n, dtype=fine.dtype, device=fine.device) - (n - 1) / 2 for n in (h, w))
    rows = math.cos(angle) * y[:, None] + math.sin(angle) * z[None, :]
    columns = math.cos(angle) * z[None, :] - math.sin(angle) * y[:, None]
    grid = torch.stack([columns * (2 / w), rows * (2 / h)], dim=-1).expand(len(fine), h, w, 2)
    return grid_sample(fine, grid, mode="bicubic", padding_mode="reflection", align_corners=False).float()
