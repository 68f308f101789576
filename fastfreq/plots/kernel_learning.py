"""How much of each bin of a kernel's eigenvectors is in the outputs, by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import _frame
from .sinusoid_learning import edges

if TYPE_CHECKING:
    from fastfreq.training.spectral_bias.kernel_learning import KernelLearning

_CURVES = 7


def plot(result: KernelLearning, *, ax: Axes | None = None) -> Figure:
    """Left the outputs' coefficients over the target's at some steps, right the error of every bin by step.

    Raises:
        ValueError: `ax` is given; there are two panels.
    """
    _frame.several(ax)
    figure = _frame.new_figure(11.2, 4.4)
    left, right = figure.subplots(1, 2)
    shown = np.unique(np.rint(np.geomspace(1, len(result.steps) - 1, _CURVES)).astype(int))
    colours = matplotlib.colormaps[_frame.SEQUENTIAL](np.linspace(0, 0.9, len(shown)))
    bins = np.arange(len(result.bins) - 1)
    relative = result.mean_relative
    for index, colour in zip(shown, colours, strict=True):
        left.plot(bins, relative[index], color=colour, linewidth=1.1, label=f"step {result.steps[index]:,}")
    left.axhline(1, color="#444444", linestyle="--", linewidth=0.8)
    left.set_ylim(0, max(1.2, float(np.nanquantile(relative[shown], 0.98))))
    left.set_xlabel(f"eigenvectors, {result.bins[1]} to a bin, smooth ones first")
    left.set_ylabel("mean |coefficient| / target's")
    left.legend(fontsize=8, frameon=False)
    left.grid(alpha=0.25)
    error = np.clip(result.mean_error, 0, 1)
    mesh = right.pcolormesh(edges(bins), edges(result.steps), error, cmap=f"{_frame.SEQUENTIAL}_r", vmin=0, vmax=1)
    right.set_ylim(float(result.steps[-1]), 0)
    right.set_xlabel(f"eigenvectors, {result.bins[1]} to a bin")
    right.set_ylabel("step")
    figure.colorbar(mesh, ax=right, label="relative error, cut at 1")
    name = result.details.get("model", "")
    _frame.set_heading(figure, f"{name}: the fit by eigenvectors of {result.kernel}, noise: {result.noise}", width=100)
    many = f"{len(result.seeds)} network{'s' if len(result.seeds) > 1 else ''}"
    said = f"Mean of {many}, {len(result.eigenvalues):,} samples; {result.headline()}."
    _frame.set_caption(figure, said, width=110)
    return figure
