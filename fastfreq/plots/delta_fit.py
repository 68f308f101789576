"""How much of a delta function's flat spectrum networks fit, by depth, width and weight clip."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import _frame

if TYPE_CHECKING:
    from fastfreq.training.spectral_bias.delta_fit import DeltaFit


def plot(result: DeltaFit, *, ax: Axes | None = None) -> Figure:
    """One panel for each thing varied: amplitude over the delta's against frequency, one line per value.

    Raises:
        ValueError: `ax` is given; there are several panels.
    """
    _frame.several(ax)
    varied = list(dict.fromkeys(result.varied))
    figure = _frame.new_figure(1.2 + 3.4 * len(varied), 4.2)
    panels = figure.subplots(1, len(varied), squeeze=False, sharey=True)[0]
    reach = result.reach.mean(axis=0)
    for axes, name in zip(panels, varied, strict=True):
        at = result.of(name)
        colours = matplotlib.colormaps[_frame.SEQUENTIAL](np.linspace(0, 0.88, len(at)))
        for index, colour in zip(at, colours, strict=True):
            label = f"{result.values[index]:g} ({reach[index]:.2f})"
            axes.plot(result.frequencies, result.mean_amplitude[index], color=colour, linewidth=1.2, label=label)
        axes.axhline(1, color="#444444", linestyle="--", linewidth=0.8)
        axes.set_ylim(0, 1.3)
        axes.set_xlabel("frequency k")
        axes.grid(alpha=0.25)
        axes.legend(title=f"{name} (share fitted)", fontsize=8, frameon=False, loc="upper right")
    panels[0].set_ylabel("amplitude / delta's")
    depth, width, clip = result.base
    held = f"depth {depth}, width {width}, {'no clip' if math.isinf(clip) else f'clip {clip:g}'}"
    _frame.set_heading(figure, f"What of a delta function is fitted; what is not varied is of {held}", width=100)
    many = f"{len(result.seeds)} network{'s' if len(result.seeds) > 1 else ''}"
    said = f"Mean of {many} for each line, {result.samples} samples, {result.training.steps:,} steps."
    _frame.set_caption(figure, said, width=100)
    return figure
