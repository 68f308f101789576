"""What is left of each frequency after a random step in parameter space."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import _frame

if TYPE_CHECKING:
    from fastfreq.training.spectral_bias.parameter_robustness import ParameterRobustness


def plot(result: ParameterRobustness, *, ax: Axes | None = None) -> Figure:
    """Mean amplitude over the unperturbed network's against frequency, one line per delta, each network's behind."""
    panel = _frame.Panel(ax, 7.2, 4.6)
    axes = panel.axes
    colours = matplotlib.colormaps[_frame.SEQUENTIAL](np.linspace(0, 0.88, len(result.deltas)))
    for index, (delta, colour) in enumerate(zip(result.deltas, colours, strict=True)):
        if len(result.seeds) > 1:
            for seed in result.seeds:
                axes.plot(result.frequencies, result.runs[seed].ratio[index], color=colour, alpha=0.3, linewidth=0.8)
        axes.plot(result.frequencies, result.mean_ratio[index], "o-", color=colour, markersize=4, label=f"{delta:g}")
    axes.axhline(1, color="#444444", linestyle="--", linewidth=0.8)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("frequency k, cycles on [0, 1)")
    axes.set_ylabel("amplitude / unperturbed network's")
    axes.grid(alpha=0.25)
    axes.legend(title="length of step", fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    panel.heading(f"{result.details.get('model', '')}: all parameters moved in random directions")
    many = f"{len(result.seeds)} network{'s' if len(result.seeds) > 1 else ''}"
    panel.caption(f"Mean of {result.directions} directions and {many}; {result.headline()}.")
    return panel.figure
