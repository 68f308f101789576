"""The spectrum of a network and those of nearest neighbours through the same points."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import _frame

if TYPE_CHECKING:
    from fastfreq.training.spectral_bias.neighbour_spectra import NeighbourSpectra


def plot(result: NeighbourSpectra, *, ax: Axes | None = None) -> Figure:
    """Amplitude by radius, logarithmic; the band whose decay is measured is grey."""
    panel = _frame.Panel(ax, 7.0, 4.6)
    axes = panel.axes
    own, others = result.exponents()
    band = result.radius[result.band]
    axes.axvspan(float(band[0]), float(band[-1]), color="0.92", zorder=0)
    axes.plot(result.radius, result.mean_network, color=_frame.COLOURS[1], label=f"network: radius^-{own.mean():.2f}")
    rows = zip(result.neighbours, result.mean_neighbours, others.mean(axis=0), strict=True)
    for index, (k, amplitude, exponent) in enumerate(rows):
        style = _frame.LINE_STYLES[index % len(_frame.LINE_STYLES)]
        label = f"{k}-NN: radius^-{exponent:.2f}"
        axes.plot(result.radius, amplitude, color=_frame.COLOURS[0], linestyle=style, label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("radius, cycles per side")
    axes.set_ylabel("root mean square amplitude")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, frameon=False)
    panel.heading(f"{result.details.get('model', '')}: random labels of {result.points} points")
    sets = f"{len(result.seeds)} set{'s' if len(result.seeds) > 1 else ''} of points"
    panel.caption(f"{sets}, grid {result.grid} x {result.grid} under Hann's window; grey: where the decay is measured.")
    return panel.figure
