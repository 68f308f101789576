"""Accuracy of a model averaged over points around its input, clean and attacked, against the radius."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import _frame

if TYPE_CHECKING:
    from fastfreq.inputs.post_averaging_curve import PostAveragingCurve

_NAMES = {"clean": "clean images", "attacked": "attacked images", "recovered": "images fooled without averaging"}


def plot(result: PostAveragingCurve, *, ax: Axes | None = None) -> Figure:
    """Shares that the average gets right with 95 % intervals; dashed the model without averaging.

    Args:
        result: what to draw.
        ax: axes of yours; None for a figure of its own, with a caption.
    """
    panel = _frame.Panel(ax, 7.0, 4.8)
    figure, axes = panel.figure, panel.axes
    for k, (share, name) in enumerate(_NAMES.items()):
        low, high = result.interval(share)
        style = {"color": _frame.COLOURS[k], "marker": _frame.MARKERS[k], "markersize": 4}
        axes.plot(result.radii, result.curve(share), label=name, **style)
        axes.fill_between(result.radii, low, high, color=_frame.COLOURS[k], alpha=0.15, linewidth=0)
    for k, (value, name) in enumerate(((result.accuracy, "clean"), (result.attacked_accuracy, "attacked"))):
        colour = _frame.COLOURS[k]
        axes.axhline(value, color=colour, linestyle="--", linewidth=0.9, label=f"{name}, without averaging")
    axes.set_xlim(0, float(result.radii.max()))
    axes.set_ylim(-0.02, 1.02)
    axes.grid(alpha=0.25)
    unit = "normalised input" if result.normalised else "pixels of [0, 1]"
    axes.set_xlabel(f"radius R, L2 length over all channels in {unit}")
    axes.set_ylabel("share that the average gets right")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    if ax is not None:
        return figure
    against = "attacks each average itself" if result.adaptive else "attacks the model without averaging"
    _frame.set_caption(
        figure,
        f"{result.details.get('model', '')}, {result.n_images:,} images, {int(result.fooled.sum()):,} of them fooled; "
        f"{result.attack_name} {against}. {result.points}: {result.forwards} forward passes. Bands: 95 % intervals.",
        width=95,
    )
    return figure
