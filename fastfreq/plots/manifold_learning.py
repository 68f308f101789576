"""Which frequency along a curve is learnt when, for curves of different shape."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import _frame
from .sinusoid_learning import edges

if TYPE_CHECKING:
    from fastfreq.training.spectral_bias.manifold_learning import ManifoldLearning


def plot(result: ManifoldLearning, *, ax: Axes | None = None) -> Figure:
    """One heat map per shape: share of each frequency's amplitude by step.

    Raises:
        ValueError: `ax` is given; there are several panels.
    """
    _frame.several(ax)
    rows, columns = _frame.grid(len(result.shapes))
    figure = _frame.new_figure(1.2 + 2.9 * columns, 0.8 + 3.2 * rows)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    mesh = None
    for index, axes in enumerate(panels.flat):
        if index >= len(result.shapes):
            axes.set_axis_off()
            continue
        values = result.mean_amplitude[index]
        k, steps = edges(result.frequencies), edges(result.steps)
        mesh = axes.pcolormesh(k, steps, values, cmap=_frame.SEQUENTIAL, vmin=0, vmax=1)
        axes.set_ylim(float(result.steps[-1]), 0)
        loss = result.late_loss[:, index].mean()
        _frame.set_title(axes, f"L = {result.shapes[index]:g}, late loss {loss:.2g}", width=40)
        if index // columns == rows - 1:
            axes.set_xlabel("frequency along the curve")
        if index % columns == 0:
            axes.set_ylabel("step")
    if mesh is not None:
        figure.colorbar(mesh, ax=panels, label="amplitude / target's, cut to 0 .. 1")
    _frame.set_heading(figure, f"{result.details.get('model', '')}: one target along curves of L petals", width=100)
    many = f"{len(result.seeds)} network{'s' if len(result.seeds) > 1 else ''}"
    _frame.set_caption(figure, f"Mean of {many} for each curve, {result.samples} points.", width=110)
    return figure
