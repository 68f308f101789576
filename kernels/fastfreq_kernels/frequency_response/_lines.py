"""What structure frequencies have: parallel lines of evenly spaced ones, and grids of such lines.

Frequencies are compared with the structure in float64 and taken as one only where no phase k . x moves by more turns
than the result's type, or float64 products k . x, can tell: the answer does not depend on the route. float64
frequencies j p of a direction p pass, and integers; most evenly spaced float32 numbers are not that evenly spaced.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

TURNS = {torch.float32: 2e-8, torch.float64: 2e-16}  # that a phase may move: a sixth of an eps, and one
_EPS = torch.finfo(torch.float64).eps


@dataclass(frozen=True)
class Lines:
    """Frequencies starts[a] + j step, in the order a * count + j."""

    starts: Tensor  # (a, d) float64
    step: Tensor  # (d,) float64
    count: int


def lines_of(frequencies: Tensor, reach: Tensor, allowed: float) -> Lines | None:
    """The lines, of at least two frequencies each, that all of (K, d) float64 frequencies are on; None without.

    Args:
        frequencies: (K, d) float64.
        reach: (d,) float64, the largest |x| along each axis.
        allowed: turns that a phase may move.
    """
    if len(frequencies) < 2 or not torch.isfinite(frequencies.abs() @ reach).all():
        return None  # phases that overflow have no place on a line
    allowed += 2 * _EPS * float((frequencies.abs() @ reach).max())
    steps = frequencies.diff(dim=0)
    length = steps[0].abs() @ reach
    breaks = ((steps - steps[0]).abs() @ reach > allowed + length / 64).nonzero()  # loosely: held to it below
    count = int(breaks[0]) + 1 if len(breaks) else len(frequencies)
    if count < 2 or len(frequencies) % count:
        return None
    rows = frequencies.unflatten(0, (-1, count))
    step = (rows[:, -1] - rows[:, 0]).mean(dim=0) / (count - 1)
    along = torch.arange(count, dtype=torch.float64)[:, None] * step
    starts = (rows - along).mean(dim=1)
    moved = (starts[:, None] + along - rows).abs() @ reach
    return Lines(starts, step, count) if float(moved.max()) <= allowed else None


def from_zero(grid: list[Lines], reach: Tensor, allowed: float) -> list[int] | None:
    """The integers i, one per axis of a grid, for which its first frequency is sum_a i_a step_a; None without."""
    steps, start = torch.stack([axis.step for axis in grid]), grid[0].starts[0]
    if len(grid[0].starts) > 1 or torch.linalg.matrix_rank(steps) < len(grid):
        return None
    counted = (start @ torch.linalg.pinv(steps)).round()
    allowed += 2 * _EPS * float(start.abs() @ reach)
    return [int(i) for i in counted] if float((start - counted @ steps).abs() @ reach) <= allowed else None


def grid_of(lines: Lines, reach: Tensor, allowed: float) -> list[Lines] | None:
    """The lines that lines start on, outermost first and the given ones last, down to a single start; None without."""
    found = [lines]
    while len(found[0].starts) > 1:
        outer = lines_of(found[0].starts, reach, allowed)
        if outer is None:
            return None
        found.insert(0, outer)
    return found
