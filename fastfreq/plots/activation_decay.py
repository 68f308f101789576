"""Fourier transforms of activations: powers of k on the left, exponentials on the right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import _frame

if TYPE_CHECKING:
    from fastfreq.training.activation_decay import ActivationDecay


def plot(result: ActivationDecay, *, ax: Axes | None = None) -> Figure:
    """|sigma^(k)| where it is above rounding, with the measured constants."""
    _frame.several(ax)
    figure = _frame.new_figure(9.6, 4.6)
    panels = figure.subplots(1, 2)
    groups = ([i for i, law in enumerate(result.laws) if law == "power"], [])
    groups[1].extend(i for i in range(len(result.names)) if i not in groups[0])
    for axes, group, title in zip(panels, groups, ("powers of k", "exponentials"), strict=True):
        for place, i in enumerate(group):
            seen = result.seen[i]
            count = len(_frame.COLOURS)
            style = _frame.LINE_STYLES[place // count % len(_frame.LINE_STYLES)]
            amplitude = np.where(seen, result.amplitudes[i], np.nan)
            label = f"{result.names[i]}: {_law(result.laws[i], result.measured[i], result.oscillations[i])}"
            axes.plot(
                result.frequencies,
                amplitude,
                style,
                color=_frame.COLOURS[place % count],
                label=label,
                linewidth=1.2,
                alpha=0.85,
            )
        axes.set_yscale("log")
        axes.set_xlabel("k, radians per unit")
        axes.grid(alpha=0.25)
        _frame.set_title(axes, title, width=40)
        if group:
            axes.legend(fontsize=8, frameon=False)
    if groups[0]:
        panels[0].set_xscale("log")
    panels[0].set_ylabel("|σ̂(k)|")
    shown = np.flatnonzero(result.seen[groups[1]].any(axis=0)) if groups[1] else []
    if len(shown):
        panels[1].set_xlim(0, 1.05 * result.frequencies[shown].max())
    _frame.set_heading(figure, "How fast activations decay in frequency, measured")
    return figure


def _law(law: str, constant: float, oscillation: float) -> str:
    """The law with its measured constant, as formula."""
    if law == "none":
        return "no law"
    if law == "power":
        return f"k^-{constant:.2f}"
    swing = f" cos({oscillation:.3g} k)" if oscillation else ""
    return f"exp(-{constant:.3f} {'k²' if law == 'Gaussian' else 'k'}){swing}"
