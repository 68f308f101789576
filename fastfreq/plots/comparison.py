"""Two models on the same images: where their heat maps differ, and where that may be chance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from numpy.typing import NDArray

from . import _frame
from ._frame import Panel
from .heatmap import grey_note, settings

if TYPE_CHECKING:
    from fastfreq.results.comparison import Comparison


def _outline(mask: NDArray[np.bool_]) -> Outline:
    """The cells of a centred mask as one path: a rectangle for every run of neighbours in a row."""
    left, _, _, top = _frame.extent((mask.shape[0], mask.shape[1]))
    edges = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    (rows, starts), (_, stops) = np.nonzero(edges == 1), np.nonzero(edges == -1)
    x0, x1, y0, y1 = starts + left, stops + left, rows + top, rows + top + 1
    corners = np.stack([[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]).transpose(2, 0, 1).reshape(-1, 2)
    codes = [Outline.MOVETO, Outline.LINETO, Outline.LINETO, Outline.LINETO, Outline.CLOSEPOLY] * len(rows)
    return Outline(corners, codes if len(rows) else None)


def _hatch(axes: Axes, mask: NDArray[np.bool_]) -> None:
    if mask.any():
        axes.add_patch(PathPatch(_outline(mask), fill=False, linewidth=0, hatch="/////", edgecolor="#666666"))


def plot(
    comparison: Comparison,
    *,
    names: tuple[str, str] = ("first model", "second model"),
    ax: Axes | None = None,
) -> Figure:
    """Error of the second model minus error of the first, cells that may be chance hatched.

    Args:
        comparison: from `first.compare(second)`.
        names: what to call the two models.
        ax: axes to draw into; a figure of its own if None.
    """
    result: Any = comparison.first
    if comparison.difference.ndim != 2 or not hasattr(result, "size"):
        raise ValueError(
            f"expected a comparison of two heat maps to draw, got one of {type(result).__name__}; its figures are "
            f".difference, .interval() and .p_value"
        )
    values = comparison.difference
    panel = Panel(ax, 6.0, _frame.map_height(result.size, 4.2) + 1.7)
    image = _frame.draw_map(panel.axes, values, limits=_frame.symmetric_limits(values), cmap=_frame.DIVERGING)
    panel.figure.colorbar(image, ax=panel.axes, shrink=0.9, label="difference of errors")
    chance = ~comparison.significant() & ~np.isnan(values)
    _hatch(panel.axes, chance)
    first, second = names
    panel.heading(f"error of {second}\nminus error of {first}\n{settings(result)}")
    panel.caption(
        f"Red: {first} is more robust. Blue: {second} is more robust. Hatched: may be chance "
        f"(McNemar's test, false discovery rate 5 %).{grey_note(values)}",
    )
    return panel.figure
