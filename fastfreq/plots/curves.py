"""Curves over rings of frequencies: radial profiles of the error, shares of the gradient's power."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fastfreq.core.results import HeatmapResult
from fastfreq.core.sensitivity import SensitivityResult

from . import _frame


def _radius_label(shapes: set[tuple[int, int]]) -> str:
    square = all(h == w for h, w in shapes)
    return "radius, cycles per image" if square else "radius, cycles per shorter side of the image"


def plot_radial(results: Mapping[str, HeatmapResult]) -> Figure:
    """Error against radius, one curve per model with its 95 % interval, clean errors as thin dashed lines.

    Raises:
        ValueError: no results, or a map with cells that were not evaluated.
    """
    if not results:
        raise ValueError("expected at least one result, as in {'resnet50': result}, got none")
    figure = _frame.new_figure(6.6, 4.4 + 0.25 * len(results))
    axes = figure.add_subplot()
    handles = []
    farthest = 1.0
    for k, result in enumerate(results.values()):
        colour, marker = _frame.COLOURS[k % len(_frame.COLOURS)], _frame.MARKERS[k % len(_frame.MARKERS)]
        style = _frame.LINE_STYLES[k // len(_frame.COLOURS) % len(_frame.LINE_STYLES)]
        profile = result.radial()
        every = max(1, len(profile.radius) // 12)
        handles += axes.plot(
            profile.radius, profile.value, color=colour, linestyle=style, marker=marker, markevery=every, markersize=5
        )
        axes.fill_between(profile.radius, profile.low, profile.high, color=colour, alpha=0.2, linewidth=0)
        axes.axhline(result.clean_error, color=colour, linestyle="--", linewidth=0.8)
        farthest = max(farthest, float(profile.radius.max()))
    axes.set_xlim(0, farthest)
    axes.set_ylim(0, 1)
    axes.grid(alpha=0.25)
    axes.set_ylabel("error")
    axes.set_xlabel(_radius_label({result.shape[1:] for result in results.values()}))
    _legend(figure, handles, list(results))
    return figure


def _legend(figure: Figure, handles: list[Line2D], names: list[str]) -> None:
    """Names above the axes, one per line; set after the fact, since a legend drops names that start with "_"."""
    clean = Line2D([], [], color="#444444", linestyle="--", linewidth=0.8)
    labels = [f"{k}" for k in range(len(names))]
    legend = figure.legend(
        [*handles, clean], [*labels, "same colour: clean error"], loc="outside upper left", frameon=False
    )
    for text, name in zip(legend.get_texts(), names, strict=False):
        _frame.plain(text).set_text(name if len(name) <= 70 else name[:67] + "...")


def plot_sensitivity(result: SensitivityResult) -> Figure:
    """Mean power of the loss's gradient per frequency (log10), its radial share, and the predicted error if any."""
    panels = 2 if result.eps is None else 3
    figure = _frame.new_figure(4.4 * panels, _frame.map_height(result.size, 3.2) + 1.8)
    axes = figure.subplots(1, panels, squeeze=False)[0]
    with np.errstate(divide="ignore"):
        power = np.log10(result.power)
    power[~np.isfinite(power)] = np.nan  # a frequency without any gradient has no logarithm
    image = _frame.draw_map(axes[0], power, limits=_frame.own_limits(power), ticks=5)
    figure.colorbar(image, ax=axes[0], shrink=0.85)
    _frame.set_title(axes[0], "log10 power of the loss gradient", width=40)
    _draw_shares(axes[1], result)
    if result.eps is not None:
        image = _frame.draw_map(axes[2], result.predicted_error, limits=(0.0, 1.0), ticks=5)
        figure.colorbar(image, ax=axes[2], shrink=0.85)
        clean = result.clean_wrong / result.count
        _frame.set_title(axes[2], f"error predicted at eps {result.eps:g}\nclean error {clean:.3f}", width=40)
    grey = " Grey: no gradient." if np.isnan(power).any() else ""
    _frame.set_caption(figure, f"Gradients of {result.count:,} images.{grey}")
    return figure


def _draw_shares(axes: Axes, result: SensitivityResult) -> None:
    share = result.radial
    low, high = result.radial_interval()
    radius = np.arange(len(share))
    colour = _frame.COLOURS[0]
    axes.plot(radius, share, color=colour, marker="o", markersize=4, markevery=max(1, len(share) // 12))
    axes.fill_between(radius, np.maximum(low, 0), high, color=colour, alpha=0.2, linewidth=0)
    axes.set_xlim(0, max(len(share) - 1, 1))
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    axes.set_xlabel(_radius_label({result.shape[1:]}))
    axes.set_ylabel("share of the power")
    _frame.set_title(axes, "share of each ring, 95 % band", width=40)
