"""The Fourier transform of a network over |k|: its own bends' part, the whole, and what the Lipschitz bound allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from . import _frame

if TYPE_CHECKING:
    from fastfreq.training.relu_transform import ReLUTransform

_MOST = len(_frame.COLOURS)  # directions drawn
_DIGITS = 6  # of a direction: rays that differ by less are one


def plot(result: ReLUTransform, *, output: int = 0, ax: Axes | None = None) -> Figure:
    """|facets| as dots and |transform| as thin lines for each direction of k, with the measured exponents."""
    panel = _frame.Panel(ax, 6.8, 4.6)
    axes = panel.axes
    rays = _rays(result)
    for (name, chosen), colour in zip(list(rays.items())[:_MOST], _frame.COLOURS, strict=False):
        k = result.radius[chosen]
        order = np.argsort(k)
        whole = np.abs(result.transform[chosen, output])[order]
        own = np.abs(result.facets[chosen, output])[order]
        if not np.allclose(whole, own, rtol=1e-6, atol=0):
            axes.plot(k[order], whole, color=colour, linewidth=0.6, alpha=0.5)
        axes.plot(k[order], own, ".", color=colour, markersize=1.8, label=name + _exponent(result, chosen, output))
    k = np.sort(result.radius[result.radius > 0])
    if len(k):
        bounds = 2 * result.lipschitz * result.facet_length / (2 * np.pi * k) ** 2
        axes.plot(k, bounds, "--", color="#888888", linewidth=1, label="Lipschitz bound on bends")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.legend(fontsize=8, frameon=False, markerscale=4)
    axes.set_xlabel("|k|, cycles per unit")
    axes.set_ylabel("|F(k)|")
    axes.grid(alpha=0.25)
    panel.heading(f"{result.details.get('model', 'network')}: {result.headline()}")
    hidden = f" The first {_MOST} of {len(rays)} directions." if len(rays) > _MOST else ""
    panel.caption(
        "Dots: what bends of the network make. Thin lines: the whole, where the window's ends add to it." + hidden
    )
    return panel.figure


def _rays(result: ReLUTransform) -> dict[str, NDArray[np.bool_]]:
    """Which frequencies are along which direction, by its name; k and -k are one."""
    moving = result.radius > 0
    if result.frequencies.shape[1] == 1:
        return {"bends": moving}
    unit = result.frequencies / np.where(moving, result.radius, 1)[:, None]
    angle = np.round(np.degrees(np.arctan2(unit[:, 1], unit[:, 0])) % 180, _DIGITS) % 180
    return {f"{value:.4g}°": moving & (angle == value) for value in np.unique(angle[moving])}


def _exponent(result: ReLUTransform, chosen: NDArray[np.bool_], output: int) -> str:
    """The measured exponent, where there are frequencies enough."""
    from fastfreq.training.relu_transform import envelope_slope  # plots know results, and this one's arithmetic

    amplitude = np.abs(result.facets[chosen, output])
    seen = amplitude > 0
    try:
        return f": {envelope_slope(result.radius[chosen][seen], amplitude[seen]):.2f}"
    except ValueError:
        return ""
