"""Spectra of images: the map, the radial profile with its fitted power law, several of them side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from . import _frame
from ._frame import FloatArray

if TYPE_CHECKING:
    from fastfreq.inputs.spectra import Spectrum


def _label(result: Spectrum) -> str:
    return "mean |F|" if result.statistic == "magnitude" else "mean |F|²"


def _log(values: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore"):
        logs = np.log10(values)
    logs[~np.isfinite(logs)] = np.nan  # nothing there: drawn grey
    return logs


def plot(result: Spectrum, *, ax: Axes | None = None) -> Figure:
    """The map on a log10 scale, where all images had one shape, and the radial profile on log axes.

    The band is the 95 % interval over images; the dashed line is the fitted power law over the rings it was fitted to.

    Args:
        result: what to draw.
        ax: axes of yours for the profile of images of several sizes; None for a figure of its own.

    Raises:
        ValueError: no image entered the spectrum; or `ax` where there is a map too.
    """
    with_map = result.shape is not None
    if ax is not None:
        if with_map:
            _frame.several(ax)
        _draw_profile(ax, result, colour=_frame.COLOURS[0])
        _draw_slope(ax, result)
        _finish(ax, _label(result))
        return _frame.Panel(ax, 0, 0).figure
    height = _frame.map_height((result.shape[1], result.shape[2]), 3.6) + 1.3 if result.shape is not None else 4.6
    figure = _frame.new_figure(9.6 if with_map else 6.0, max(height, 4.6))
    panels = figure.subplots(1, 2 if with_map else 1, squeeze=False)[0]
    logs = np.zeros(0)
    if with_map:
        logs = _log(result.map)
        image = _frame.draw_map(panels[0], logs, limits=_frame.own_limits(logs), ticks=7)
        figure.colorbar(image, ax=panels[0], shrink=0.85, label=f"log10 of {_label(result)}")
    _draw_profile(panels[-1], result, colour=_frame.COLOURS[0])
    fitted = _draw_slope(panels[-1], result)
    _finish(panels[-1], _label(result))
    seen = f" of {result.seen:,}" if result.seen != result.count else ""
    model = f"{result.details['model']}: " if "model" in result.details else ""
    heading = f"{model}spectrum of {result.subject}, {result.count:,}{seen} images\n{fitted}"
    _frame.set_heading(figure, heading, width=100 if with_map else 64)
    grey = " Grey: nothing there." if np.isnan(logs).any() else ""
    edge = (
        "" if result.shape is None else f" Dotted: half a cycle per pixel; beyond it lie the corners of the map.{grey}"
    )
    _frame.set_caption(figure, f"Orthonormal DFT per channel, averaged over channels. Band: 95 % interval.{edge}")
    return figure


def plot_many(results: Mapping[str, Spectrum]) -> Figure:
    """Maps of several spectra of one kind on one log10 scale, as in Yin et al. 2019, Figure 2, and their profiles.

    Raises:
        ValueError: no results, or results of both kinds.
    """
    if not results:
        raise ValueError("expected at least one result, as in {'natural': result}, got none")
    kinds = {result.statistic for result in results.values()}
    if len(kinds) > 1:
        raise ValueError("expected spectra of one kind, got magnitudes and powers")
    maps = {name: _log(result.map) for name, result in results.items() if result.shape is not None}
    rows, columns = _frame.grid(len(maps) + 2, most=4 if len(maps) < 12 else 5)
    tallest = max((_frame.map_height((m.shape[0], m.shape[1]), 2.8) for m in maps.values()), default=2.8)
    figure = _frame.new_figure(3.2 * columns + 1.2, (tallest + 0.9) * rows)
    panels = figure.subplots(rows, columns, squeeze=False).reshape(-1)
    limits = _frame.own_limits(np.concatenate([m.reshape(-1) for m in maps.values()] or [np.zeros(0)]))
    first = next(iter(results.values()))
    image = None
    for k, (name, values) in enumerate(maps.items()):
        image = _frame.draw_map(panels[k], values, limits=limits, ticks=5, labels=(k % columns == 0, True))
        _frame.set_title(panels[k], name, width=30)
    if image is not None:
        figure.colorbar(image, ax=panels[: len(maps)], shrink=0.8, label=f"log10 of {_label(first)}")
    handles: list[Line2D] = []
    for k, result in enumerate(results.values()):
        colour, style = _frame.COLOURS[k % len(_frame.COLOURS)], _frame.LINE_STYLES[k // len(_frame.COLOURS) % 3]
        handles += _draw_profile(panels[len(maps)], result, colour=colour, style=style)
    _finish(panels[len(maps)], _label(first))
    panels[len(maps)].set_box_aspect(1)
    for axes in panels[len(maps) + 1 :]:
        axes.set_axis_off()
    names = [str(k) for k in range(len(handles))]  # set below, since a legend drops names that start with "_"
    legend = panels[len(maps) + 1].legend(handles, names, frameon=False, fontsize=8, loc="center left")
    for text, name in zip(legend.get_texts(), results, strict=True):
        _frame.plain(text).set_text(name)
    return figure


def _draw_profile(axes: Axes, result: Spectrum, *, colour: str, style: str = "-") -> list[Line2D]:
    """Value against frequency, ring 0 left out: it has no place on a log axis."""
    profile, frequency = result.radial(), result.frequency
    shown = (frequency > 0) & (profile.value > 0)
    lines = axes.plot(frequency[shown], profile.value[shown], color=colour, linestyle=style, linewidth=1.4)
    if result.count > 1:
        low = np.maximum(profile.low, 1e-3 * profile.value)  # a log axis has no zero
        axes.fill_between(frequency[shown], low[shown], profile.high[shown], color=colour, alpha=0.2, linewidth=0)
    return lines


def _draw_slope(axes: Axes, result: Spectrum) -> str:
    """The fitted law as a dashed line, and in words; why there is none where it cannot be fitted."""
    try:
        fit = result.slope()
    except ValueError:
        return "no power law: too few rings with power in them"
    x = np.array([fit.lowest, fit.highest])
    axes.plot(x, fit.constant * x**-fit.alpha, color=_frame.COLOURS[1], linestyle="--", linewidth=1.2)
    interval = "" if np.isnan(fit.low) else f" (95 % interval {fit.low:.3f} to {fit.high:.3f})"
    return f"{_label(result)} falls as 1 / f^alpha, alpha {fit.alpha:.3f}{interval}, dashed"


def _finish(axes: Axes, label: str) -> None:
    axes.set_xscale("log")
    if any(np.size(line.get_xdata()) for line in axes.lines):  # a log axis needs something above zero
        axes.set_yscale("log")
    first, last = axes.get_xlim()
    steps = [base * 10.0**power for power in range(-5, 1) for base in (1, 2, 5)]
    axes.set_xticks([step for step in steps if first <= step <= last])
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.axvline(0.5, color="#888888", linestyle=":", linewidth=1.0)
    axes.grid(alpha=0.25)
    axes.set_xlabel("frequency, cycles per pixel")
    axes.set_ylabel(label)
