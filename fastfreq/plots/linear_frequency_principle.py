"""The prediction of the linear frequency principle beside the trained network."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import _frame

if TYPE_CHECKING:
    from fastfreq.training.linear_frequency_principle import LinearFrequencyPrinciple


def plot(result: LinearFrequencyPrinciple, *, ax: Axes | None = None) -> Figure:
    """Curves over the input in one dimension; in more, trained over predicted at all points, or predicted by x0, x1.

    Raises:
        ValueError: several dimensions, three or more of them, without a trained network: nothing to draw.
    """
    panel = _frame.Panel(ax, 6.4, 4.4)
    if result.inputs.shape[1] == 1:
        _curves(panel.axes, result)
    elif result.trained.size:
        _scatter(panel.axes, result)
    elif result.inputs.shape[1] == 2:
        _map(panel, result)
    else:
        raise ValueError("expected one or two dimensions, or a result with `trained`, to draw; use .table()")
    panel.heading(f"Linear frequency principle: {len(result.inputs)} samples")
    panel.caption(result.headline())
    return panel.figure


def _curves(axes: Axes, result: LinearFrequencyPrinciple) -> None:
    order = np.argsort(result.points[:, 0])
    x = result.points[order, 0]
    shades = matplotlib.colormaps[_frame.SEQUENTIAL](np.linspace(0.85, 0.1, len(result.times)))
    for values, time, shade in zip(result.predicted, result.times, shades, strict=True):
        label = "predicted, in the end" if math.isinf(time) else f"predicted, t = {time:.3g}"
        axes.plot(x, values[order], color=_frame.COLOURS[0] if math.isinf(time) else shade, linewidth=2.2, label=label)
    if result.trained.size:
        axes.plot(x, result.trained[order], "--", color=_frame.COLOURS[1], linewidth=1.4, label="trained network")
    axes.plot(result.inputs[:, 0], result.targets, "o", color=_frame.COLOURS[6], markersize=5, label="samples")
    axes.set_xlabel("input")
    axes.set_ylabel("output")
    axes.legend(fontsize=8, frameon=False)
    axes.grid(alpha=0.25)


def _scatter(axes: Axes, result: LinearFrequencyPrinciple) -> None:
    predicted = result.predicted[-1]
    ends = _frame.own_limits(np.concatenate([predicted, result.trained]))
    axes.plot(ends, ends, color="0.6", linewidth=1)
    axes.plot(predicted, result.trained, "o", color=_frame.COLOURS[0], markersize=3, alpha=0.7, label="points")
    axes.plot(result.targets, result.targets, "s", color=_frame.COLOURS[1], markersize=5, label="samples")
    axes.set_xlabel("predicted")
    axes.set_ylabel("trained network")
    axes.set_aspect("equal")
    axes.legend(fontsize=8, frameon=False)


def _map(panel: _frame.Panel, result: LinearFrequencyPrinciple) -> None:
    x, y = result.points.T
    shown = panel.axes.scatter(x, y, c=result.predicted[-1], cmap=_frame.SEQUENTIAL, s=14)
    panel.axes.scatter(*result.inputs.T, c=result.targets, cmap=_frame.SEQUENTIAL, edgecolors="black", s=60)
    panel.axes.set_xlabel("input 0")
    panel.axes.set_ylabel("input 1")
    panel.figure.colorbar(shown, ax=panel.axes, label="predicted output")
