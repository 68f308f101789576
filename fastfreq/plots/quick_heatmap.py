"""The quick heat map: the map that is predicted, how uncertain it is, and what was counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import _frame

if TYPE_CHECKING:
    from fastfreq.inputs.quick_heatmap import QuickHeatmap


def plot(result: QuickHeatmap, *, ax: Axes | None = None) -> Figure:
    """The error predicted at every frequency, half of its 95 % interval, and the share counted, on scales from 0.

    Raises:
        ValueError: `ax` is given; there are three panels.
    """
    _frame.several(ax)
    figure = _frame.new_figure(13.2, _frame.map_height(result.size, 3.2) + 1.9)
    left, middle, right = figure.subplots(1, 3)
    low, high = result.interval()
    half = (high - low) / 2
    image = _frame.draw_map(left, result.error, limits=(0.0, 1.0), ticks=5)
    figure.colorbar(image, ax=left, shrink=0.85)
    _frame.set_title(
        left, f"error predicted at eps {result.eps:g}\nclean error {_number(result.clean_error)}", width=44
    )
    largest = max(float(half.max()), 1e-3)
    image = _frame.draw_map(middle, half, limits=(0.0, largest), ticks=5, labels=(False, True))
    figure.colorbar(image, ax=middle, shrink=0.85)
    _frame.set_title(middle, f"half of its 95 % interval\ntypically {np.median(half):.2g}", width=44)
    image = _frame.draw_map(right, result.pilot, limits=(0.0, 1.0), ticks=5, labels=(False, True))
    figure.colorbar(image, ax=right, shrink=0.85)
    each = result.drawn.sum(axis=1).mean()
    _frame.set_title(right, f"share of errors as counted\n{each:.3g} images a frequency, other ones each", width=44)
    grey = " Grey: no image." if np.isnan(result.pilot).any() else ""
    _frame.set_caption(
        figure,
        f"{result.n_images:,} images, {result.convention.name}. {result.passes:,} forward passes, "
        f"{result.share_of_passes:.1%} of the whole map's {result.whole_passes:,}.{grey}",
        width=110,
    )
    return figure


def _number(value: float) -> str:
    return "unknown" if np.isnan(value) else f"{value:.3f}"
