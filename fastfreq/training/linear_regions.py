"""The regions of a plane on which a network is affine, exactly: the window, cut by the knots of unit after unit."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from .piecewise_linear import Affine, FloatArray, Step

_ON = 1e-12  # of a unit's range over the window: a corner this close to its line is on it
INSIDE = -1  # label of an edge that is no part of the window's boundary


@dataclasses.dataclass(frozen=True)
class Region:
    """A convex polygon on which f(s) = slopes^T s + offset.

    Attributes:
        corners: (v, 2) counter-clockwise.
        labels: (v,) the edge of the window that the edge from corner i to corner i + 1 is on, or `INSIDE`.
        slopes: (2, m).
        offset: (m,).
    """

    corners: FloatArray
    labels: NDArray[np.int64]
    slopes: FloatArray
    offset: FloatArray

    @property
    def area(self) -> float:
        """Of the polygon."""
        return area_of(self.corners)


def area_of(corners: FloatArray) -> float:
    """Of a polygon (v, 2); negative if its corners go clockwise."""
    x, y = corners.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def linear_regions(
    steps: list[Step], origin: FloatArray, directions: FloatArray, window: FloatArray, *, most: int
) -> list[Region]:
    """The regions of f(origin + s @ directions) for s in a convex window.

    Args:
        steps: of `piecewise_linear.steps_of`.
        origin: (d,).
        directions: (2, d).
        window: (v, 2) corners, counter-clockwise.
        most: regions at most.

    Raises:
        ValueError: there are more regions.
    """
    size = float(np.ptp(window, axis=0).max())
    waiting = [(window, np.arange(len(window)), 0, directions.T, origin)]
    found: list[Region] = []
    while waiting:
        corners, labels, i, M, c = waiting.pop()
        while i < len(steps):
            step = steps[i]
            if isinstance(step, Affine):
                M, c, i = step.weight @ M, step.weight @ c + step.bias, i + 1
                continue
            z = corners @ M.T + c
            near = _ON * (np.abs(M).sum(axis=1) * size + np.abs(c))
            halves = None
            for knot in step.knots:
                off = z - knot
                off[np.abs(off) <= near + _ON * abs(knot)] = 0
                crossed = np.flatnonzero((off.max(axis=0) > 0) & (off.min(axis=0) < 0))
                if len(crossed):
                    halves = _cut(corners, labels, off[:, crossed[0]])
                    break
            if halves is not None:
                (corners, labels), other = halves
                waiting.append((*other, i, M, c))
                continue
            piece = step.pieces(M @ corners.mean(axis=0) + c)
            M, c, i = step.slopes[piece, None] * M, step.slopes[piece] * c + step.offsets[piece], i + 1
        found.append(Region(corners, labels, M.T, c))
        if len(found) + len(waiting) > most:
            raise ValueError(f"expected at most {most} regions in the window, got more; take a smaller window")
    return found


def _cut(corners: FloatArray, labels: NDArray[np.int64], off: FloatArray) -> list[tuple[FloatArray, NDArray[np.int64]]]:
    """The two parts of a convex polygon on both sides of a line, from its corners' signed distances."""
    parts = []
    for side in (off, -off):
        kept, marks = [], []
        for i in range(len(corners)):
            j = (i + 1) % len(corners)
            if side[i] >= 0:
                kept.append(corners[i])
                # from a corner on the line the edge goes along it unless the next corner is on this side
                leaves = side[i] == 0 and side[j] < 0
                marks.append(INSIDE if leaves else labels[i])
            if np.sign(side[i]) * np.sign(side[j]) < 0:  # a product of small ones is 0
                share = side[i] / (side[i] - side[j])
                kept.append(corners[i] + share * (corners[j] - corners[i]))
                marks.append(INSIDE if side[i] > 0 else labels[i])
        parts.append((np.array(kept), np.array(marks)))
    return parts
