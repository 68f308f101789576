"""How the figures of a measurement move during training: a heat map of many rows, curves of a few."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import _frame
from .frequency_history import edges_of

if TYPE_CHECKING:
    from fastfreq.training.measurement_history import MeasurementHistory

_CURVES = 6  # rows up to which curves are told apart
_TICKS = 16


def plot(result: MeasurementHistory, *, column: str | None = None, ax: Axes | None = None) -> Figure:
    """One column of the results' summaries over steps: a curve for each row, or a heat map of more than six.

    Args:
        result: at least one step of it.
        column: of `result.columns()`; None for the first that moves.
        ax: to draw into.

    Raises:
        ValueError: nothing was measured, no figures to follow, or no such column.
    """
    if not len(result.steps):
        raise ValueError("expected a history with at least one step, nothing was measured")
    name = result.main_column() if column is None else column
    labels, values = result.series(name)
    panel = _frame.Panel(ax, 8.2, 4.4)
    axes = panel.axes
    axes.set_xlabel("step of training")
    if len(labels) <= _CURVES:
        for k, label in enumerate(labels):
            style: Any = {"color": _frame.COLOURS[k % len(_frame.COLOURS)], "marker": _frame.MARKERS[k % 7]}
            axes.plot(result.steps, values[:, k], markersize=4, label=label, **style)
        axes.legend(frameon=False, fontsize=8, loc="best", title=result.row_name(), title_fontsize=8)
        axes.grid(alpha=0.25)
        axes.set_ylabel(name)
    else:
        _map(panel, result.steps.astype(float), values, labels, name)
        axes.set_ylabel(result.row_name())
    model = result.details.get("model", "")
    of = f"{model}: " if model else ""
    panel.heading(f"{of}{result.name} ({result.measured.replace('_', ' ')}) during training")
    panel.caption(f"{len(result.steps)} steps from {result.steps[0]} to {result.steps[-1]}.")
    return panel.figure


def _map(panel: _frame.Panel, steps: np.ndarray, values: np.ndarray, labels: list[str], name: str) -> None:
    axes = panel.axes
    mesh = axes.pcolormesh(
        edges_of(steps), np.arange(len(labels) + 1) - 0.5, np.ma.masked_invalid(values.T),
        cmap=_frame.colour_map(_frame.SEQUENTIAL),
    )  # fmt: skip
    panel.figure.colorbar(mesh, ax=axes, label=name, pad=0.01)
    shown = np.unique(np.rint(np.linspace(0, len(labels) - 1, min(len(labels), _TICKS))).astype(int))
    axes.set_yticks(shown, [labels[k] for k in shown], fontsize=8)
