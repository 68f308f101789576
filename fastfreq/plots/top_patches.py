"""What raises units in real images: their patches, or without the images how steeply activations fall."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import _frame, _pictures

if TYPE_CHECKING:
    from fastfreq.features.top_patches import TopPatches

_MOST = 12  # units on a page


def plot(result: TopPatches, *, ax: Axes | None = None, images: Any = None, count: int = 9) -> Figure:
    """A row of patches for each unit, from `images`; without them the activations of images by their rank.

    Args:
        result: what to draw.
        ax: axes of yours for activations; None for a figure of its own.
        images: those that were measured, for patches.
        count: patches of each unit.

    Raises:
        ValueError: axes were given for patches, or images are others than were measured.
    """
    if images is None:
        return _ranks(result, ax)
    _frame.several(ax)
    units = [int(unit) for unit in result.units[:_MOST]]
    found = result.patches(images, count=count)
    figure = _frame.new_figure(1.2 * count + 0.8, 1.35 * len(units) + 0.8)
    panels = figure.subplots(len(units), count, squeeze=False)
    for row, unit in zip(panels, units, strict=True):
        for axes in row:
            axes.set_axis_off()
        for axes, pixels, patch in zip(row, found[unit], result.top(unit, count=count), strict=False):
            _pictures.show(axes, pixels, f"{patch.activation:.3g}", size=7)
        row[0].text(-0.1, 0.5, str(unit), transform=row[0].transAxes, ha="right", va="center", fontsize=9)
    field = f"{result.field.height} x {result.field.width} pixels"
    _frame.set_heading(figure, f"Patches that raise units of {result.layer} most, of {result.n_images:,} images")
    more = len(result.units) - len(units)
    rest = f" {more} more units are not drawn." if more else ""
    _frame.set_caption(
        figure, f"A row is a unit, over each patch its activation there. A place sees {field}.{rest}", width=12 * count
    )
    return figure


def _ranks(result: TopPatches, ax: Axes | None) -> Figure:
    panel = _frame.Panel(ax, 6.4, 4.4)
    for i, unit in enumerate(result.units[: len(_frame.COLOURS)]):
        values = np.sort(result.activations[i])[::-1]
        panel.axes.plot(
            np.arange(1, len(values) + 1), values, color=_frame.COLOURS[i], marker=".", label=f"unit {unit}"
        )
    panel.axes.set_xscale("log")
    panel.axes.set_xlabel("images by rank")
    panel.axes.set_ylabel("largest activation in the image")
    panel.axes.legend()
    panel.heading(f"What images make of units of {result.layer}, {result.n_images:,} images")
    panel.caption("The largest of a unit over all places. Steep: the unit answers to few images.")
    return panel.figure
