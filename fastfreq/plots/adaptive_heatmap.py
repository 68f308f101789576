"""The heat map to a stated precision: errors, and how many images each cell took."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import _frame

if TYPE_CHECKING:
    from fastfreq.inputs.adaptive_heatmap import AdaptiveHeatmap


def plot(result: AdaptiveHeatmap, *, ax: Axes | None = None) -> Figure:
    """The error of every frequency on the scale 0 .. 1, and the images that each cell was evaluated on.

    Raises:
        ValueError: `ax` is given; there are two panels.
    """
    _frame.several(ax)
    figure = _frame.new_figure(9.6, _frame.map_height(result.size, 3.4) + 1.9)
    left, right = figure.subplots(1, 2)
    image = _frame.draw_map(left, result.error, limits=(0.0, 1.0), ticks=5)
    figure.colorbar(image, ax=left, shrink=0.85)
    goal = f"± {result.half_width:.3g}" + (" (all cells at once)" if result.whole_map else "")
    _frame.set_title(left, f"error at eps {result.eps:g}, {goal}\nclean error {result.clean_error:.3f}", width=44)
    counts = result.count.astype(np.float64)
    image = _frame.draw_map(right, counts, limits=(0.0, float(counts.max())), ticks=5, labels=(False, True))
    figure.colorbar(image, ax=right, shrink=0.85)
    _frame.set_title(
        right, f"images per cell, of {result.n_images:,}\n{result.share_of_passes:.0%} of all passes", width=44
    )
    _frame.set_caption(figure, f'Method "{result.method}", {result.convention.name}, 95 % intervals.')
    return figure
