"""Which frequency is learnt when, and the norms of the layers meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import _frame

if TYPE_CHECKING:
    from fastfreq.training.spectral_bias.sinusoid_learning import SinusoidLearning


def plot(result: SinusoidLearning, *, ax: Axes | None = None) -> Figure:
    """Left: share of each frequency's amplitude by step; right: the largest singular value of each layer.

    Raises:
        ValueError: `ax` is given; there are two panels.
    """
    _frame.several(ax)
    figure = _frame.new_figure(11.0, 4.4)
    left, right = figure.subplots(1, 2)
    by_step(left, result)
    image = left.images[0] if left.images else left.collections[0]
    figure.colorbar(image, ax=left, label="amplitude / target's, cut to 0 .. 1")
    norms = result.mean_norms
    colours = matplotlib.colormaps[_frame.SEQUENTIAL](np.linspace(0, 0.9, norms.shape[1]))
    for index, (name, colour) in enumerate(zip(result.layers, colours, strict=True)):
        right.plot(result.steps, norms[:, index], color=colour, label=name)
    right.set_xlabel("step")
    right.set_ylabel("spectral norm of the layer")
    right.grid(alpha=0.25)
    if len(result.layers):
        right.legend(title="layer", fontsize=8, frameon=False)
    amplitudes = result.target_amplitudes
    equal = np.ptp(amplitudes) < 1e-6 * amplitudes.max()
    said = "equal amplitudes" if equal else f"amplitudes {amplitudes[0]:.2g} to {amplitudes[-1]:.2g}"
    _frame.set_heading(figure, f"{result.details.get('model', '')}: a sum of sinusoids with {said}", width=100)
    many = f"{len(result.seeds)} network{'s' if len(result.seeds) > 1 else ''}"
    _frame.set_caption(figure, f"Mean of {many}; {result.headline()}.", width=110)
    return figure


def by_step(axes: Axes, result: SinusoidLearning) -> None:
    """The heat map, steps downwards as in the paper."""
    k, steps = result.frequencies, result.steps
    axes.pcolormesh(edges(k), edges(steps), result.mean_amplitude, cmap=_frame.SEQUENTIAL, vmin=0, vmax=1)
    axes.set_ylim(float(steps[-1]), 0)
    axes.set_xlabel("frequency k, cycles on [0, 1)")
    axes.set_ylabel("step")
    if len(k) <= 12:
        axes.set_xticks(k)


def edges(centres: np.ndarray) -> np.ndarray:
    """Borders of cells about ascending centres."""
    c = np.asarray(centres, dtype=np.float64)
    if len(c) == 1:
        return np.array([c[0] - 0.5, c[0] + 0.5])
    middle = (c[1:] + c[:-1]) / 2
    return np.concatenate([[c[0] - (middle[0] - c[0])], middle, [c[-1] + (c[-1] - middle[-1])]])
