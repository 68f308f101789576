"""The gradient heat map: power of the loss's gradient, the share of each ring, the error it predicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import _frame

if TYPE_CHECKING:
    from fastfreq.inputs.gradient_heatmap import GradientHeatmap


def plot(result: GradientHeatmap, *, ax: Axes | None = None) -> Figure:
    """Mean power of the loss's gradient per frequency (log10), its radial share, and the predicted error if any.

    Raises:
        ValueError: `ax` is given; there are several panels.
    """
    panels = 2 if result.eps is None else 3
    _frame.several(ax)
    figure = _frame.new_figure(4.4 * panels, _frame.map_height(result.size, 3.2) + 1.8)
    axes = figure.subplots(1, panels, squeeze=False)[0]
    with np.errstate(divide="ignore"):
        power = np.log10(result.power)
    power[~np.isfinite(power)] = np.nan  # a frequency without any gradient has no logarithm
    image = _frame.draw_map(axes[0], power, limits=_frame.own_limits(power), ticks=5)
    figure.colorbar(image, ax=axes[0], shrink=0.85)
    _frame.set_title(axes[0], "log10 power of the loss gradient", width=40)
    _draw_shares(axes[1], result)
    if result.eps is not None:
        image = _frame.draw_map(axes[2], result.predicted_error, limits=(0.0, 1.0), ticks=5)
        figure.colorbar(image, ax=axes[2], shrink=0.85)
        title = f"error predicted at eps {result.eps:g}\nclean error {result.clean_error:.3f}"
        _frame.set_title(axes[2], title, width=40)
    grey = " Grey: no gradient." if np.isnan(power).any() else ""
    _frame.set_caption(figure, f"Gradients of {result.n_images:,} images.{grey}")
    return figure


def _draw_shares(axes: Axes, result: GradientHeatmap) -> None:
    share = result.radial
    low, high = result.radial_interval()
    radius = np.arange(len(share))
    colour = _frame.COLOURS[0]
    axes.plot(radius, share, color=colour, marker="o", markersize=4, markevery=max(1, len(share) // 12))
    axes.fill_between(radius, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.set_xlim(0, max(len(share) - 1, 1))
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    square = result.shape[1] == result.shape[2]
    axes.set_xlabel("radius, cycles per image" if square else "radius, cycles per shorter side of the image")
    axes.set_ylabel("share of the power")
    _frame.set_title(axes, "share of each ring, 95 % band", width=40)
