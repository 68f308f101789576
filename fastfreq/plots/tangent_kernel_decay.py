"""Rates at which a network forgets waves, and how far each is an eigenfunction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import _frame

if TYPE_CHECKING:
    from fastfreq.training.tangent_kernel import TangentKernelDecay


def plot(result: TangentKernelDecay, *, ax: Axes | None = None) -> Figure:
    """Above the rate by |k|, with the eigenvalues at the frequency that each holds most of; below the alignment."""
    _frame.several(ax)
    figure = _frame.new_figure(6.4, 5.6)
    rates, alignment = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    order = np.argsort(result.radius, kind="stable")
    radius = result.radius[order]
    rates.plot(radius, result.rates[order], "o-", color=_frame.COLOURS[0], markersize=4, label="rate of the wave")
    if len(result.eigenvalues):
        held = result.radius[result.eigen_frequencies]
        rates.plot(held, result.eigenvalues, "_", color=_frame.COLOURS[1], markersize=14, label="eigenvalue")
        rates.legend(fontsize=8, frameon=False)
    rates.set_yscale("log")
    rates.set_ylabel("rate of decay")
    alignment.plot(radius, result.alignment[order], "o-", color=_frame.COLOURS[2], markersize=4)
    alignment.set_ylim(0, 1.05)
    alignment.set_ylabel("alignment")
    alignment.set_xlabel("|k|, cycles per unit")
    for axes in (rates, alignment):
        axes.grid(alpha=0.25)
    _frame.set_heading(figure, f"{result.details.get('model', 'network')}: how fast each frequency is forgotten")
    _frame.set_caption(figure, result.headline(), width=80)
    return figure
