"""What share of the loss's decrease lies above each frequency, stage by stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import _frame

if TYPE_CHECKING:
    from fastfreq.training.high_frequency_share import HighFrequencyShare

_LOWEST = 1e-30  # shares below are rounding
_STAGES = {"initial": "at the start", "intermediate": "until half the loss", "final": "at the end"}


def plot(result: HighFrequencyShare, *, ax: Axes | None = None) -> Figure:
    """Shares over cutoffs, one curve per stage, both axes logarithmic: powers are straight."""
    panel = _frame.Panel(ax, 6.4, 4.4)
    trained = len(result.steps) > 1
    for i, (stage, label) in enumerate(_STAGES.items()):
        if trained or stage == "initial":
            _curve(panel.axes, result.cutoffs, result.stages[stage], i, label)
    _dress(panel.axes)
    panel.heading(f"{result.details.get('model', 'network')}: what high frequencies have of the decrease")
    panel.caption(result.headline())
    return panel.figure


def plot_many(results: Mapping[str, HighFrequencyShare], *, stage: str = "initial") -> Figure:
    """One stage of several networks, such as one per activation."""
    panel = _frame.Panel(None, 6.8, 4.6)
    for i, (name, result) in enumerate(results.items()):
        _curve(panel.axes, result.cutoffs, result.stages[stage], i, name)
    _dress(panel.axes)
    panel.heading(f"What high frequencies have of the decrease of the loss, {_STAGES.get(stage, stage)}")
    panel.caption("Straight lines are powers of the cutoff; what bends down falls faster than any power.")
    return panel.figure


def _curve(axes: Axes, cutoffs: np.ndarray, share: np.ndarray, i: int, label: str) -> None:
    shown = np.where(share > _LOWEST, share, np.nan)
    colour, marker = _frame.COLOURS[i % len(_frame.COLOURS)], _frame.MARKERS[i % len(_frame.MARKERS)]
    style = _frame.LINE_STYLES[i // len(_frame.COLOURS) % len(_frame.LINE_STYLES)]
    axes.plot(cutoffs, shown, style, color=colour, marker=marker, markersize=4, label=label)


def _dress(axes: Axes) -> None:
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("cutoff frequency, cycles per unit")
    axes.set_ylabel("share of the decrease above it")
    axes.legend(fontsize=8, frameon=False)
    axes.grid(alpha=0.25)
