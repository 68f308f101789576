"""How far codes move when the image does: pixels, fixed codes, layers by depth and the output on one axis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import _frame

if TYPE_CHECKING:
    from fastfreq.features.invariance import Invariance

_UNITS = {"shift": "shift, pixels", "rotation": "rotation, degrees", "dilation": "dilation, factor"}
_LEGEND = 12  # layers named; of more, the first and the last and some between
_SIDES = {
    "norm": "distance / norm of the code",
    "contrast": "distance / distance from the mean colour's code",
}


def plot(result: Invariance, *, ax: Axes | None = None) -> Figure:
    """Mean relative distance over the amount, one curve per code: over its norm, and over its contrast.

    Raises:
        ValueError: `ax` is given; there are two panels.
    """
    _frame.several(ax)
    figure = _frame.new_figure(11.4, 4.9)
    panels = figure.subplots(1, 2)
    layers = [code for code in result.sizes if code not in ("pixels", "output") and code not in result.fixed]
    colours = matplotlib.colormaps["plasma"](np.linspace(0, 0.9, max(1, len(layers))))
    named = set(np.linspace(0, len(layers) - 1, min(_LEGEND, len(layers))).round().astype(int))
    for axes, to in zip(panels, _SIDES, strict=True):
        _curve(axes, result, "pixels", to, color="#444444", linestyle="--", label="pixels")
        for i, code in enumerate(result.fixed):
            style = {"linestyle": ":", "marker": _frame.MARKERS[i % len(_frame.MARKERS)]}
            _curve(axes, result, code, to, color=_frame.COLOURS[2 + i % 4], label=code, **style)
        for i, (code, colour) in enumerate(zip(layers, colours, strict=True)):
            _curve(axes, result, code, to, color=colour, label=_short(code) if i in named else None)
        _curve(axes, result, "output", to, color="black", linewidth=2, label="output")
        _finish(axes, result, to)
    handles, labels = panels[0].get_legend_handles_labels()
    legend = figure.legend(handles, labels, loc="outside right upper", fontsize=8, frameon=False)
    for text in legend.get_texts():
        _frame.plain(text)
    _frame.set_heading(
        figure, f"{result.details.get('model', '')}: codes under {result.motion}, {result.n_images:,} images", width=100
    )
    _frame.set_caption(
        figure,
        "Mean over images, band: 95 % interval. 0: invariant. Layers: from dark to bright.",
        width=100,
    )
    return figure


def plot_many(results: Mapping[str, Invariance], *, to: str = "contrast") -> Figure:
    """The output of several models or fixed layers on one pair of axes, beside the pixels.

    Raises:
        ValueError: no results, or of several motions.
    """
    motions = {result.motion for result in results.values()}
    if len(motions) != 1:
        raise ValueError(f"expected results of one motion, got {sorted(motions)}")
    figure = _frame.new_figure(6.8, 4.8)
    axes = figure.subplots()
    first = next(iter(results.values()))
    _curve(axes, first, "pixels", to, color="#444444", linestyle="--", label="pixels")
    for i, (name, result) in enumerate(results.items()):
        style = {"color": _frame.COLOURS[i % len(_frame.COLOURS)], "marker": _frame.MARKERS[i % len(_frame.MARKERS)]}
        _curve(axes, result, "output", to, label=name, markersize=4, **style)
    _finish(axes, first, to)
    axes.legend(fontsize=8, frameon=False)
    _frame.set_heading(figure, f"Codes under {first.motion}, {first.n_images:,} images")
    _frame.set_caption(figure, "Mean over images, band: 95 % interval. 0: invariant.")
    return figure


def _curve(axes: Axes, result: Invariance, code: str, to: str, **style: Any) -> None:
    value = result.curve(code, to=to)
    if not np.isfinite(value).any():  # a code that is 0 for every image
        return
    amounts, curves = result.amounts, [value, *result.interval(code, to=to)]
    if result.motion == "dilation":  # by 1 nothing moves
        at = int(np.searchsorted(amounts, 1))
        amounts, curves = np.insert(amounts, at, 1), [np.insert(curve, at, 0) for curve in curves]
    axes.plot(amounts, curves[0], **{"linewidth": 1.3, "markersize": 4, **style})
    axes.fill_between(amounts, curves[1], curves[2], color=style["color"], alpha=0.12, linewidth=0)


def _finish(axes: Axes, result: Invariance, to: str) -> None:
    if result.motion == "dilation":
        axes.axvline(1, color="0.8", linewidth=0.8, zorder=0)
    else:
        axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(_UNITS[result.motion])
    axes.set_ylabel(_SIDES[to])
    axes.grid(alpha=0.25)


def _short(name: str) -> str:
    return name if len(name) <= 24 else "..." + name[-21:]
