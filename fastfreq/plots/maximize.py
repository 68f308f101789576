"""Images that raise units, one beside the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from . import _frame, _pictures

if TYPE_CHECKING:
    from fastfreq.features.maximize import UnitImages

_MOST = 64  # pictures that can be told apart on a page


def plot(result: UnitImages, *, ax: object = None, most: int = _MOST) -> Figure:
    """The image of each unit with its activation.

    Args:
        result: what to draw.
        ax: not used, the figure has several panels.
        most: units that are drawn, in their order.

    Raises:
        ValueError: axes were given.
    """
    _frame.several(ax)
    units = sorted(result.units)[:most]
    rows, columns = _frame.grid(len(units), most=min(8, max(4, round(len(units) ** 0.5))))
    height = _frame.map_height(result.input_size[1:], 1.5)
    figure = _frame.new_figure(max(4.0, 1.5 * columns + 0.4), (height + 0.3) * rows + 0.7)
    panels = figure.subplots(rows, columns, squeeze=False).reshape(-1)
    for axes in panels:
        axes.set_axis_off()
    for axes, unit in zip(panels, units, strict=False):
        found = result.units[unit]
        said = "dead" if found.dead else f"{found.activation:.3g}"
        _pictures.show(axes, found.image, f"{unit}: {said}")
    width = 16 * columns
    _frame.set_heading(figure, f"What units of {result.layer} look for ({result.objective})", width=width)
    grey = "" if result.input_size[0] == 3 else " Grey: the mean of channels."
    left = len(result.units) - len(units)
    rest = f" {left} more units are not drawn." if left else ""
    _frame.set_caption(
        figure, f"Unit: its activation at this image, which was made to raise it.{grey}{rest}", width=width
    )
    return figure
