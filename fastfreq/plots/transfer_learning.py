"""Accuracy of a last layer on several first layers, by the number of samples that it learned from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import _frame

if TYPE_CHECKING:
    from fastfreq.training.transfer_learning import TransferLearning


def plot(result: TransferLearning, *, ax: Axes | None = None) -> Figure:
    """Mean accuracy on other images over samples, one line per stem; dots are seeds.

    Args:
        result: what to draw.
        ax: axes of yours to draw into; None for a figure of its own.
    """
    panel = _frame.Panel(ax, 6.6, 4.6)
    axes, values = panel.axes, result.accuracy
    places = np.arange(len(result.samples))
    shift = np.linspace(-0.12, 0.12, len(result.stems)) if len(result.stems) > 1 else np.zeros(1)
    for index, stem in enumerate(result.stems):
        colour = _frame.COLOURS[index % len(_frame.COLOURS)]
        marker = _frame.MARKERS[index % len(_frame.MARKERS)]
        x = places + shift[index]
        axes.plot(x, values[:, index].mean(axis=0), color=colour, marker=marker, linewidth=1.2,
                  label=f"{stem} ({result.features[index]:,})")  # fmt: skip
        for row in values[:, index] if len(values) > 1 else ():
            axes.plot(x, row, color=colour, marker=".", markersize=4, linestyle="none", alpha=0.6)
    axes.set_xticks(places, [f"{count:,}" for count in result.samples])
    axes.set_xlabel("samples that the last layer learned from")
    axes.set_ylabel("accuracy")
    axes.grid(alpha=0.25)
    axes.legend(title="first layer (features)", fontsize=8, title_fontsize=8, frameon=False, loc="lower right")
    panel.heading("The last layer alone is trained")
    many = f"{len(result.seeds)} seed{'s' if len(result.seeds) > 1 else ''}"
    panel.caption(
        f"Mean of {many}, dots one each, on {result.tested:,} images; the learned first layer is from "
        f"{result.source[0]:,} images of {result.source[1]} other classes."
    )
    return panel.figure
