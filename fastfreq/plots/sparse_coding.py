"""Coherence of layers' filters, and the non-zeros of their activations beside what theory allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import _frame

if TYPE_CHECKING:
    from fastfreq.features.sparse_coding import SparseCoding


def plot(result: SparseCoding, *, ax: Axes | None = None) -> Figure:
    """Above the mutual coherence of each layer, below the non-zeros in stripes and the bound, logarithmic.

    Raises:
        ValueError: `ax` is given; there are two panels.
    """
    _frame.several(ax)
    names, layers = list(result.layers), list(result.layers.values())
    x = np.arange(len(names))
    figure = _frame.new_figure(max(6.5, 0.34 * len(names) + 2.2), 6.4)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1.5))
    above.bar(x, [layer.coherence for layer in layers], color=_frame.COLOURS[0], width=0.7)
    above.set_ylim(0, 1)
    above.set_ylabel("mutual coherence")
    below.plot(x, [layer.stripe_size for layer in layers], "_", color="#444444", markersize=11, label="all in a stripe")
    coded = [i for i, layer in enumerate(layers) if len(layer.stripes)]
    if coded:
        least, most = (np.array([f(layers[i].stripes) for i in coded]) for f in (np.min, np.max))
        middle = np.array([layers[i].mean_stripes.mean() for i in coded])
        below.vlines(coded, np.maximum(least, 0.8), np.maximum(most, 0.8), color=_frame.COLOURS[1], linewidth=3,
                     label="most non-zeros of an image")  # fmt: skip
        below.plot(coded, np.maximum(middle, 0.8), "o", color=_frame.COLOURS[1], markersize=4, label="mean over places")
    bounds = np.array([layer.bound for layer in layers])
    shown = np.isfinite(bounds)
    below.plot(x[shown], bounds[shown], "v", color=_frame.COLOURS[2], markersize=6, label="fewer are unique")
    below.set_yscale("log")
    below.set_ylabel("non-zeros in a stripe")
    below.set_xticks(x, names, rotation=90, fontsize=7)
    for axes in (above, below):
        axes.grid(alpha=0.25, axis="y")
    below.legend(fontsize=8, frameon=False, ncols=2, loc="upper center", bbox_to_anchor=(0.5, 1.22))
    name = result.details.get("model", result.model)
    _frame.set_heading(figure, f"{name}: layers as dictionaries, {result.images:,} images", width=80)
    _frame.set_caption(
        figure,
        "A code is the only one of its layer if no stripe, all atoms that meet those of one place, has as many "
        "non-zeros as the triangle. Layers without dots: their output is added to another before the activation.",
        width=90,
    )
    return figure
