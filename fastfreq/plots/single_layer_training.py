"""Accuracy of networks of which one layer was trained, by which one it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import _frame

if TYPE_CHECKING:
    from fastfreq.training.single_layer_training import SingleLayerTraining


def plot(result: SingleLayerTraining, *, ax: Axes | None = None) -> Figure:
    """Left on the samples trained on, right on others: one line per variance, one thin line per seed.

    Raises:
        ValueError: `ax` is given; there are two panels.
    """
    _frame.several(ax)
    figure = _frame.new_figure(9.6, 4.4)
    panels = figure.subplots(1, 2, sharey=True)
    ranks = result.rank_correlation().mean(axis=0)
    for axes, test in zip(panels, (False, True), strict=True):
        values = result.accuracy(test=test)
        for index, variance in enumerate(result.variances):
            colour = _frame.COLOURS[index % len(_frame.COLOURS)]
            marker = _frame.MARKERS[index % len(_frame.MARKERS)]
            if len(values) > 1:
                axes.plot(result.layers, values[:, index].T, color=colour, linewidth=0.6, alpha=0.5)
            label = f"variance {variance:g}, rank correlation {ranks[index]:+.2f}"
            axes.plot(result.layers, values[:, index].mean(axis=0), color=colour, marker=marker, label=label)
        axes.set_xticks(result.layers.tolist())
        axes.set_xlabel("layer trained")
        axes.set_title("other samples" if test else "samples trained on", fontsize=10)
        axes.grid(alpha=0.25)
    panels[0].set_ylabel("accuracy")
    panels[0].legend(fontsize=8, frameon=False)
    _frame.set_heading(figure, f"{result.details.get('model', '')}: exactly one layer is trained", width=100)
    many = f"{len(result.seeds)} network{'s' if len(result.seeds) > 1 else ''}"
    said = f"Mean of {many}, thin lines one each; {result.samples[0]:,} samples, {result.training.steps:,} steps. "
    _frame.set_caption(figure, said + "All other layers stay as they were drawn; layer 0 is the first.", width=110)
    return figure
