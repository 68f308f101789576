"""Accuracy on the low and on the high part of images, and which images flip between them, against the radius."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import _frame

if TYPE_CHECKING:
    from fastfreq.inputs.component_curves import ComponentCurves

_NAMES = {
    "low": "low part",
    "high": "high part",
    "only_low": "right on low, wrong on high",
    "only_high": "right on high, wrong on low",
    "like_low": "predicted like low, unlike high",
    "like_high": "predicted like high, unlike low",
}


def plot(result: ComponentCurves, *, ax: Axes | None = None) -> Figure:
    """Accuracy on both parts, the whole image's dashed, and the label-flip curves, each with its 95 % interval.

    Raises:
        ValueError: `ax` is given; there are two panels.
    """
    _frame.several(ax)
    figure = _frame.new_figure(10.4, 4.6)
    left, right = figure.subplots(1, 2)
    _draw(left, result, ("low", "high"))
    left.axhline(result.accuracy, color="#444444", linestyle="--", linewidth=0.8, label="whole image")
    left.set_ylim(0, 1)
    left.set_ylabel("accuracy")
    _draw(right, result, ("only_low", "only_high", "like_low", "like_high"))
    right.set_ylim(bottom=0)
    right.set_ylabel("share of the images")
    for axes in (left, right):
        axes.legend(frameon=False, fontsize=8, loc="best")
    name = result.details.get("model", "")
    _frame.set_heading(figure, f"{name}: images split into a low and a high part at radius r", width=110)
    rule = "<=" if result.inclusive else "<"
    clipped = ", both parts clipped to [0, 1]" if result.clip else ""
    _frame.set_caption(figure, f"{result.n_images:,} images; low part: frequencies {rule} r{clipped}.", width=90)
    return figure


def _draw(axes: Axes, result: ComponentCurves, shares: tuple[str, ...]) -> None:
    for k, share in enumerate(shares):
        colour, style = _frame.COLOURS[k % 2], _frame.LINE_STYLES[k // 2]
        low, high = result.interval(share)
        axes.plot(
            result.radii,
            result.curve(share),
            color=colour,
            linestyle=style,
            marker=_frame.MARKERS[k],
            markersize=4,
            label=_NAMES[share],
        )
        axes.fill_between(result.radii, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set_xlim(0, max(result.radii))
    axes.grid(alpha=0.25)
    square = result.shape[1] == result.shape[2]
    axes.set_xlabel("radius r, cycles per image" if square else "radius r, cycles per shorter side of the image")
