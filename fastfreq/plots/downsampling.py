"""How coarse the grid of each layer may be, and what it does to accuracy and time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import _frame

if TYPE_CHECKING:
    from fastfreq.layers.downsampling_result import Downsampling


def plot(suggestion: Downsampling, *, ax: Axes | None = None) -> Figure:
    """Above the loss of each layer at each stride beside what is allowed, below its output's grid and what it needs."""
    _frame.several(ax)
    names = list(suggestion.layers)
    figure = _frame.new_figure(min(22.0, max(7.2, 3.4 + 0.34 * len(names))), 6.6)
    losses, grids = figure.subplots(2, 1, sharex=True)
    _losses(losses, suggestion)
    places = np.arange(len(names))
    layers = list(suggestion.layers.values())
    grids.plot(places, [max(layer.size) for layer in layers], "_", color="0.4", markersize=9, label="now")
    grids.plot(places, [max(layer.crop) for layer in layers], "o", markersize=4, label="holds the energy")
    applied = [i for i, name in enumerate(names) if name in suggestion.strides]
    coarse = [-(-max(layers[i].size) // layers[i].stride) for i in applied]
    if applied:
        grids.plot(applied, coarse, "D", markersize=5, markerfacecolor="none", label="applied")
    grids.set_yscale("log", base=2)
    grids.yaxis.set_major_formatter("{x:g}")
    grids.set_ylabel("longer side of the\noutput's grid, pixels")
    for axes in (losses, grids):
        axes.grid(axis="y", alpha=0.25)
        axes.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0.0, 0.98), ncols=5, frameon=False)
    step = -(-len(names) // 60)
    grids.set_xticks(places[::step])
    grids.set_xticklabels(names[::step], rotation=60, ha="right", fontsize=7)
    grids.set_xlim(-0.6, len(names) - 0.4)
    shape = " x ".join(map(str, suggestion.input_size))
    _frame.set_heading(
        figure,
        f"{suggestion.details.get('model') or suggestion.model}, input {shape}: where it can be down-sampled",
        width=90,
    )
    _frame.set_caption(figure, suggestion.in_words(), width=int(11 * figure.get_size_inches()[0]))
    return figure


def _losses(axes: Axes, suggestion: Downsampling) -> None:
    strides = sorted({stride for layer in suggestion.layers.values() for stride in layer.losses})
    colours = matplotlib.colormaps[_frame.SEQUENTIAL](np.linspace(0, 0.85, len(strides)))
    for k, (stride, colour) in enumerate(zip(strides, colours, strict=True)):
        values = [layer.losses.get(stride, np.nan) for layer in suggestion.layers.values()]
        marker = _frame.MARKERS[k % len(_frame.MARKERS)]
        axes.plot(range(len(values)), values, marker, color=colour, markersize=4, label=f"every {stride} pixels")
    axes.axhline(1 - suggestion.energy, color=_frame.COLOURS[1], linewidth=1.4, label="allowed")
    axes.set_yscale("log")
    axes.set_ylabel("share of the\noutput's energy lost")
