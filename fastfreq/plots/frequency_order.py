"""The error at each frequency over training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import _frame

if TYPE_CHECKING:
    from fastfreq.training.frequency_order import FrequencyOrder


def plot(result: FrequencyOrder, *, ax: Axes | None = None) -> Figure:
    """Errors over time, one curve per frequency, and the threshold."""
    panel = _frame.Panel(ax, 6.4, 4.2)
    _draw(panel.axes, result)
    panel.heading(f"{result.setting}: {result.order()}")
    found = ", ".join(f"k = {k}: {t:g}" for k, t in zip(result.frequencies, result.hits(), strict=True))
    panel.caption(f"Learned at {found}. Expected of the frequency principle: {result.case}.")
    return panel.figure


def plot_many(results: Sequence[FrequencyOrder]) -> Figure:
    """Cases in pairs, those that hold above those that fail."""
    rows = [[r for r in results if r.case == case] for case in ("holds", "fails")]
    rows = [row for row in rows if row]
    columns = max(map(len, rows))
    figure = _frame.new_figure(3.4 * columns, 3.1 * len(rows))
    panels = figure.subplots(len(rows), columns, squeeze=False)
    for i, row in enumerate(rows):
        for j in range(columns):
            if j >= len(row):
                panels[i, j].set_axis_off()
                continue
            _draw(panels[i, j], row[j])
            _frame.set_title(panels[i, j], f"{row[j].setting}: {row[j].order()}", width=38, size=8)
    _frame.set_heading(figure, "Where low frequencies are learned first, and where not", width=100)
    return figure


def _draw(axes: Axes, result: FrequencyOrder) -> None:
    for i, k in enumerate(result.frequencies):
        axes.plot(result.times, result.watched[:, i], color=_frame.COLOURS[i % 7], label=f"k = {k}")
    axes.axhline(result.threshold, color="0.5", linestyle="--", linewidth=1)
    axes.set_yscale("log")
    axes.set_ylim(1e-3, 2 * max(1.0, float(np.nanmax(result.watched))))
    axes.set_xscale("log")  # leaves out what is before the first step
    axes.set_xlabel("time" if result.mode == "density" else "step")
    axes.set_ylabel(f"{result.criterion} error")
    axes.legend(fontsize=8, frameon=False)
    axes.grid(alpha=0.25)
