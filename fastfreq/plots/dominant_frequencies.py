"""Class-wise maps of the loss increase when a frequency is removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from . import _frame

if TYPE_CHECKING:
    from fastfreq.inputs.dominant_frequencies import DominantFrequencies

_MOST = 12  # classes drawn


def plot(
    result: DominantFrequencies,
    *,
    share: float | None = 0.05,
    names: dict[int, str] | None = None,
    ax: Axes | None = None,
) -> Figure:
    """One map per class on one symmetric scale, red where removing the frequency raises the loss.

    Args:
        result: what was measured.
        share: outline the dominant frequencies, this share of the cells; None outlines nothing.
        names: of classes, by label.
        ax: refused; there is a panel for each class.

    At most twelve classes are drawn, the first ones.

    Raises:
        ValueError: `ax` is given.
    """
    labels = result.classes[:_MOST].tolist()
    _frame.several(ax)
    maps = [result.loss_increase(label) for label in labels]
    # one cell, mostly zero frequency, may dwarf all others: it saturates rather than fading them
    largest = float(np.quantile(np.abs(np.stack(maps)), 0.995)) or float(np.abs(np.stack(maps)).max()) or 1.0
    rows, columns = _frame.grid(len(labels), most=4)
    height = _frame.map_height(result.size, 2.3)
    figure = _frame.new_figure(2.6 * columns + 1.4, (height + 0.35) * rows + 1.3)
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
            _draw_border(panels[k], result.dominant(label, share=share))
        name = str(label) if names is None else names.get(label, str(label))
        count = int(result.class_count[k])
        seen = f"{count:,} image{'s' if count > 1 else ''}, error {result.wrong_counts(label)[1] / count:.2f}"
        _frame.set_title(panels[k], f"{name}: {seen}", width=34, size=9)
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


def _draw_border(axes: Axes, mask: NDArray[np.bool_]) -> None:
    """Lines between the cells of a centred mask and the others."""
    left, _, _, top = _frame.extent((mask.shape[0], mask.shape[1]))
    inside = np.pad(mask, 1)
    rows, columns = np.nonzero(inside[1:, 1:-1] != inside[:-1, 1:-1])
    lines = [((c + left, r + top), (c + left + 1, r + top)) for r, c in zip(rows, columns, strict=True)]
    rows, columns = np.nonzero(inside[1:-1, 1:] != inside[1:-1, :-1])
    lines += [((c + left, r + top), (c + left, r + top + 1)) for r, c in zip(rows, columns, strict=True)]
    axes.add_collection(LineCollection(lines, colors="#000000", linewidths=0.6), autolim=False)
