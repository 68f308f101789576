"""Smooth even functions of frequency: waves over a box of frequencies, and how much of each is expected."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from .fourier import FloatArray, IntArray, radius

_MOST = 400  # waves: those of a 17 x 17 map all, and of a 63 x 63 one down to five cells
_ROOM = 1.5  # periods over sides of the map: beyond it functions repeat
_CENTRES = (0.4, 1.2, 3.0)  # cycles per image: widths of the bumps around zero, where maps change fastest
_CENTRE = 1.0  # what a bump's height is expected to be
_LEVEL = 5.0  # what the level is expected to be


@dataclasses.dataclass(frozen=True, eq=False)
class EvenFunctions:
    """Products of cosines, and of sines, of both components of a frequency: all that do not change with its sign.

    A weighted sum with independent normal weights is a Gaussian process. With variances that fall as those of
    `variances` do it is h(k) + h(-k) of a stationary h of Gaussian covariance exp(-|k - k'|^2 / 2 l^2), made periodic.
    Products of cosines are the same for (ky, kx) and (ky, -kx), those of sines change sign: less of the latter are
    maps that look alike left and right, as those of networks do that learned from mirrored images.

    Attributes:
        values: (f, m) at each frequency; the first is constant, the last ones are not of this kind but `fixed`.
        squares: (w,) squared length of each wave's own frequency, per cycle and image, of the first w.
        odd: (w,) whether the mirror image has the other sign.
        counts: (w,) how many waves of the whole plane each stands for.
        fixed: (m - w,) variances of the others.
    """

    values: FloatArray
    squares: FloatArray
    odd: NDArray[np.bool_]
    counts: IntArray
    fixed: FloatArray

    @classmethod
    def over(cls, frequencies: IntArray, shape: tuple[int, int], columns: FloatArray | None = None) -> EvenFunctions:
        """Those over the box that holds `frequencies`.

        Args:
            frequencies: (f, 2), signed.
            shape: (h, w) of the image; lengths count in cycles per shorter side, as `fourier.radius` does.
            columns: (f, p) more functions, each brought to a range of 2 around 0.
        """
        sides, largest = np.asarray(shape), np.abs(frequencies).max(axis=0)
        period = np.minimum(sides, np.ceil(_ROOM * (2 * largest + 1))).astype(np.int64)
        waves = np.stack(np.meshgrid(*(np.arange(p // 2 + 1) for p in period), indexing="ij"), axis=-1).reshape(-1, 2)
        alone = (waves == 0) | (2 * waves == period)  # a sine of these is zero
        each = np.concatenate([waves, waves[~alone.any(axis=1)]])
        odd = np.arange(len(each)) >= len(waves)
        squares = np.sum((each * sides / (period * sides.min())) ** 2, axis=1)
        chosen = np.lexsort((np.arange(len(each)), squares))[:_MOST]
        each, odd, squares = each[chosen], odd[chosen], squares[chosen]
        angles = [2 * np.pi * ((frequencies[:, i : i + 1] * each[:, i]) % period[i]) / period[i] for i in (0, 1)]
        values = np.where(odd, np.sin(angles[0]) * np.sin(angles[1]), np.cos(angles[0]) * np.cos(angles[1]))
        counts = np.where((each == 0) | (2 * each == period), 1, 2).prod(axis=1)
        bumps = np.exp(-(radius(frequencies, shape)[:, None] ** 2) / (2 * np.array(_CENTRES) ** 2))
        fixed = [_CENTRE**2] * len(_CENTRES)
        if columns is not None and columns.shape[1]:
            centred = columns - columns.mean(axis=0)
            bumps = np.concatenate([bumps, centred / np.maximum(np.abs(centred).max(axis=0), 1e-9)], axis=1)
            fixed += [_LEVEL**2] * columns.shape[1]
        return cls(np.concatenate([values, bumps], axis=1), squares, odd, counts, np.array(fixed))

    def variances(self, *, length: float, size: float, mirrored: float) -> NDArray[np.floating]:
        """(m,) variances of the weights.

        Args:
            length: l, in cycles per shorter side of the image.
            size: standard deviation of the smooth part, mean over frequencies.
            mirrored: correlation of (ky, kx) and (ky, -kx) far from each other, in 0 .. 1.
        """
        # the largest is 1 before it is brought to size, so that long lengths do not vanish
        waves = self.counts * np.exp(-2 * math.pi**2 * length**2 * self.squares)
        waves = waves * np.where(self.odd, 1 - mirrored, 1 + mirrored)
        waves *= size**2 / float((self.values[:, : len(waves)] ** 2 @ waves).mean())
        waves[0] += _LEVEL**2
        return np.concatenate([waves, self.fixed])
