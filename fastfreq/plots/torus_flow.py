"""Rates at which frequencies decay on the torus, and the errors over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import _frame

if TYPE_CHECKING:
    from fastfreq.training.torus_flow import TorusFlow

_MOST = 8  # frequencies drawn over time


def plot(result: TorusFlow, *, ax: Axes | None = None) -> Figure:
    """Left the rates over |k|, right the relative error of the target's largest frequencies over time."""
    _frame.several(ax)
    figure = _frame.new_figure(9.2, 4.2)
    rates, errors = figure.subplots(1, 2)
    radius, mean = result.by_radius()
    seen = mean > 0
    rates.loglog(radius[seen], mean[seen], "o-", color=_frame.COLOURS[0], markersize=3)
    rates.set_xlabel("|k|")
    rates.set_ylabel("rate of decay")
    positive = result.times[result.times > 0]
    wide = len(positive) > 1 and bool(positive[-1] > 50 * positive[0])
    shown = result.times > 0 if wide else np.ones(len(result.times), dtype=bool)
    size = np.linalg.norm(result.frequencies, axis=1)
    half = result.frequencies @ np.array([1e6**i for i in range(result.frequencies.shape[1])]) >= 0  # one of k and -k
    energy = np.where(half & (size > 0), np.abs(result.target), 0.0)
    chosen = [i for i in np.argsort(energy)[::-1][:_MOST] if energy[i] > 1e-9 * energy.max()]
    chosen.sort(key=lambda i: size[i])
    for i, colour in zip(
        chosen, matplotlib.colormaps[_frame.SEQUENTIAL](np.linspace(0, 0.85, len(chosen))), strict=True
    ):
        label = ", ".join(map(str, result.frequencies[i]))
        errors.plot(result.times[shown], result.errors[shown, i], color=colour, label=f"k = {label}")
    errors.set_xlabel("time")
    errors.set_ylabel("relative error")
    errors.set_yscale("log")
    errors.set_ylim(1e-6, 2 * max(1.0, *(float(result.errors[:, i].max()) for i in chosen)) if chosen else 2.0)
    if wide:
        errors.set_xscale("log")
    if chosen:
        errors.legend(fontsize=8, frameon=False)
    for axes in (rates, errors):
        axes.grid(alpha=0.25)
    _frame.set_heading(figure, f"Flow on the torus under a loss of order {result.order:g}")
    _frame.set_caption(figure, result.headline(), width=100)
    return figure
