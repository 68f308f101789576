"""Errors by step and frequency as heat maps, low and high part as curves, spectral bias below."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from . import _frame

if TYPE_CHECKING:
    from fastfreq.training.frequency_history import FrequencyHistory

_NAMES = {"dft": "exact DFT", "projection": "projection", "filtering": "filtering"}
_LIMITS = (0.1, 1.0)  # of errors, as the authors clip them
_ROWS = 16  # names of rows that fit beside a map
_LOW, _HIGH = _frame.COLOURS[0], _frame.COLOURS[1]


def plot(result: FrequencyHistory, *, measure: str | None = None, ax: Axes | None = None) -> Figure:
    """Errors over (step, row) and beside them curves, a pair of panels for each measure, means over runs.

    Curves of filters: the low part blue, the high part red. Of others: some rows, from blue to red, and spectral bias.

    Marks are the first steps from which on a row stays below 0.2.

    Args:
        result: at least one step of it.
        measure: this one alone.
        ax: for the map of one measure alone.

    Raises:
        ValueError: nothing was recorded, or `ax` is given for several measures.
        KeyError: no such measure.
    """
    if not len(result.steps):
        raise ValueError("expected a history with at least one step, nothing was recorded")
    if measure is not None and measure not in result.measures:
        raise KeyError(f"expected a measure of {list(result.measures)}, got {measure!r}")
    names = list(result.measures) if measure is None else [measure]
    if ax is not None:
        if len(names) > 1:
            raise ValueError(f"expected one `measure` of {names} with `ax`, which is one panel")
        panel = _frame.Panel(ax, 0, 0)
        _scale(panel.figure, panel.axes, _map(panel.axes, result, names[0]))
        return panel.figure
    figure = _frame.new_figure(10.6, 0.8 + 3.2 * len(names))
    panels = figure.subplots(len(names), 2, squeeze=False, width_ratios=[1.25, 1])
    for (left, right), name in zip(panels, names, strict=True):
        _scale(figure, left, _map(left, result, name))
        _frame.set_title(left, f"{_NAMES.get(name, name)}: error by step and frequency", width=60)
        if len(result.widths[name]):
            _curves(right, result, name)
        else:
            _lines(right, result, name)
        right.set_xlabel("step of training")
        right.grid(alpha=0.25)
        right.legend(frameon=False, fontsize=8, loc="best")
    name = result.details.get("model", "")
    _frame.set_heading(figure, f"{name}: what it has learned, from low frequencies (below) to high ones", width=100)
    count = len(result.run_ids)
    runs = f"means over {count} runs" if count > 1 else "one run"
    _frame.set_caption(figure, f"{runs}; outputs as {result.response}; marks: below 0.2 from here on.", width=110)
    return figure


def _map(axes: Axes, result: FrequencyHistory, name: str) -> Any:
    errors = result.errors[name].mean(axis=2)
    values = np.clip(errors, *_LIMITS).T
    steps = result.steps.astype(float)
    rows = len(values)
    mesh = axes.pcolormesh(
        edges_of(steps), np.arange(rows + 1) - 0.5, values, cmap=_frame.DIVERGING, norm=LogNorm(*_LIMITS)
    )
    hits = _hits(result, name).mean(axis=1)  # none where one of the runs has none
    known = np.isfinite(hits)
    mark: Any = {
        "marker": "D",
        "markersize": 4,
        "markeredgecolor": "black",
        "markeredgewidth": 0.7,
        "linestyle": "none",
    }
    axes.plot(hits[known], np.flatnonzero(known), color="white", **mark)
    shown = np.unique(np.rint(np.linspace(0, rows - 1, min(rows, _ROWS))).astype(int))
    axes.set_yticks(shown, [result.labels[name][k] for k in shown], fontsize=8)
    axes.set_xlabel("step of training")
    axes.set_ylabel({"dft": "cycles per grid", "projection": "cycles per range"}.get(name, "part and width"))
    return mesh


def _scale(figure: Figure, axes: Axes, mesh: Any) -> None:
    bar = figure.colorbar(mesh, ax=axes, label="relative error", pad=0.01)
    ticks = (0.1, 0.2, 0.5, 1.0)
    bar.set_ticks(ticks, labels=["≤ 0.1", *(f"{tick:g}" for tick in ticks[1:-1]), "≥ 1"])
    bar.minorticks_off()


def _hits(result: FrequencyHistory, name: str) -> Any:
    return result.first_hit(name, hold=min(10, max(1, len(result.steps) // 10)))


def edges_of(steps: Any) -> Any:
    """(s + 1,) edges of cells around s steps."""
    if len(steps) == 1:
        return np.array([steps[0] - 0.5, steps[0] + 0.5])
    middles = (steps[1:] + steps[:-1]) / 2
    return np.concatenate([[2 * steps[0] - middles[0]], middles, [2 * steps[-1] - middles[-1]]])


def _curves(axes: Axes, result: FrequencyHistory, name: str) -> None:
    """e_low and e_high: the width that halves the target thick, others thin."""
    low, high = (part.mean(axis=2) for part in result.low_high(name))
    half = int(np.argmin(np.abs(np.square(result.high_shares[name]) - 0.5)))
    for j, delta in enumerate(result.widths[name]):
        style: Any = {"linewidth": 2.0 if j == half else 0.7, "alpha": 1.0 if j == half else 0.5}
        for part, values, colour in (("low", low, _LOW), ("high", high, _HIGH)):
            label = f"{part} part, δ = {delta:g}" if j == half else None
            axes.plot(result.steps, values[:, j], color=colour, label=label, **style)
    axes.set_ylabel("relative error")
    axes.set_ylim(bottom=0)


def _lines(axes: Axes, result: FrequencyHistory, name: str) -> None:
    """Errors of a few rows, and the spectral bias."""
    errors = result.errors[name].mean(axis=2)
    shown = np.unique(np.rint(np.linspace(0, errors.shape[1] - 1, 5)).astype(int))
    for j, k in enumerate(shown):
        shade = (len(shown) - 1 - j) / max(1, len(shown) - 1)
        colour = tuple(shade * a + (1 - shade) * b for a, b in zip(_rgb(_LOW), _rgb(_HIGH), strict=True))
        axes.plot(result.steps, errors[:, k], color=colour, label=result.labels[name][k])
    bias = result.spectral_bias(name)
    if np.isfinite(bias).any():
        axes.plot(result.steps, bias.mean(axis=1), color="#888888", linewidth=0.6, label="spectral bias", zorder=1)
    axes.set_ylabel("relative error")


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
