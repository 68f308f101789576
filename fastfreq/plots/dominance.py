"""Class-wise maps of the loss increase when a frequency is removed."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch

from fastfreq.core.dominance import DominantFrequencyResult

from . import _frame
from .maps import _outline

_MOST = 12  # classes drawn


def plot_dominant_frequencies(
    result: DominantFrequencyResult, *, share: float | None = 0.05, names: dict[int, str] | None = None
) -> Figure:
    """One map per class on one symmetric scale, red where removing the frequency raises the loss.

    Args:
        result: what was measured.
        share: outline the dominant frequencies, this share of the cells; None outlines nothing.
        names: of classes, by label.

    At most twelve classes are drawn, the first ones.
    """
    labels = result.classes[:_MOST].tolist()
    maps = [result.loss_increase(label) for label in labels]
    # one cell, mostly zero frequency, may dwarf all others: it saturates rather than fading them
    largest = float(np.quantile(np.abs(np.stack(maps)), 0.995)) or float(np.abs(np.stack(maps)).max()) or 1.0
    rows, columns = _frame.grid(len(labels), most=4)
    height = _frame.map_height(result.size, 2.6)
    figure = _frame.new_figure(2.9 * columns + 1.2, (height + 0.9) * rows + 0.9)
    grid = figure.subplots(rows, columns, squeeze=False)
    panels = grid.reshape(-1)
    image = None
    for k, (label, values) in enumerate(zip(labels, maps, strict=True)):
        image = _frame.draw_map(
            panels[k],
            values,
            limits=(-largest, largest),
            cmap=_frame.DIVERGING,
            ticks=5,
            labels=(k % columns == 0, k + columns >= len(labels)),
        )
        if share is not None:
            chosen = result.dominant(label, share=share)
            panels[k].add_patch(PathPatch(_outline(chosen), fill=False, linewidth=0.4, edgecolor="#000000"))
        name = str(label) if names is None else names.get(label, str(label))
        error = result.clean_wrong[k] / result.class_count[k]
        _frame.set_title(panels[k], f"{name}: {result.class_count[k]:,} images, error {error:.2f}", width=34, size=9)
    for axes in panels[len(labels) :]:
        axes.set_axis_off()
    assert image is not None
    figure.colorbar(image, ax=grid, shrink=0.8, label="increase of the cross entropy", extend="both")
    what = "frequency" if result.patch == 1 else f"{result.patch} x {result.patch} patch of frequencies"
    more = f", {len(labels)} of {len(result.classes)} classes" if len(result.classes) > len(labels) else ""
    _frame.set_heading(
        figure,
        f"{result.details.get('model', '')}: loss increase when a {what} is removed, by true class{more}",
        width=30 * columns + 15,
    )
    if share is not None:
        _frame.set_caption(figure, f"Outlined: the {share:.0%} of the cells that matter most.", width=30 * columns + 15)
    return figure
