"""Heat maps: error, difference, rings, hidden layers, norm after clipping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from . import _frame
from ._frame import FloatArray, Panel

if TYPE_CHECKING:
    from fastfreq.inputs.heatmap import Heatmap


_KINDS = {"relative": "relative change", "absolute": "change (L2)", "cosine": "cosine"}


def settings(result: Heatmap) -> str:
    """What was measured, in a line."""
    return f"eps {result.eps:g} per channel, {result.convention.name}, {result.n_images:,} images"


def grey_note(values: FloatArray) -> str:
    """What grey means, where there is any."""
    return " Grey: not evaluated." if np.isnan(values).any() else ""


def _half_width(result: Heatmap, metric: str) -> float:
    """Median half-width of the 95 % interval over the evaluated cells; NaN without one."""
    low, high = result.interval(metric)
    half = (high - low) / 2
    finite = half[np.isfinite(half)]
    return float(np.median(finite)) if finite.size else float("nan")


def plot(result: Heatmap, *, metric: str = "error", difference: bool = False, ax: Axes | None = None) -> Figure:
    """One map, kx to the right and ky downwards in cycles per image, zero frequency in the centre.

    Args:
        result: what was measured.
        metric: one of `result.metrics`. Errors are always drawn on the scale 0 .. 1, others on their own.
        difference: subtract the clean value, on a symmetric scale around 0.
        ax: axes to draw into; a figure of its own if None.

    Raises:
        KeyError: a metric that was not measured.
    """
    values, clean = result.metric(metric), result.clean_metric(metric)
    if difference:
        values = values - clean
        limits, cmap = _frame.symmetric_limits(values), _frame.DIVERGING
    else:
        limits, cmap = ((0.0, 1.0) if metric == "error" else _frame.own_limits(values)), _frame.SEQUENTIAL
    panel = Panel(ax, 6.0, _frame.map_height(result.size, 4.2) + 1.4)
    image = _frame.draw_map(panel.axes, values, limits=limits, cmap=cmap)
    label = f"{metric} minus clean {metric}" if difference else metric
    bar = panel.figure.colorbar(image, ax=panel.axes, shrink=0.9, label=label)
    _frame.plain(bar.ax.yaxis.label)
    panel.heading(f"{label} per frequency\n{settings(result)}, clean {metric} {clean:.3f}")
    half = _half_width(result, metric)
    panel.caption(f"95 % interval of a cell: typically ± {half:.2g}.{grey_note(values)}")
    return panel.figure


def plot_many(results: Mapping[str, Heatmap]) -> Figure:
    """The error maps of several models side by side, on one scale from 0 to 1.

    Raises:
        ValueError: no results.
    """
    _expect_some(results)
    rows, columns = _frame.grid(len(results), most=3)
    height = max(_frame.map_height(result.size, 3.2) for result in results.values())
    figure = _frame.new_figure(3.5 * columns + 1.0, (height + 1.2) * rows)
    grid = figure.subplots(rows, columns, squeeze=False)
    panels = grid.reshape(-1)
    image = None
    for k, (name, result) in enumerate(results.items()):
        below = k + columns >= len(results)
        image = _frame.draw_map(panels[k], result.error, limits=(0.0, 1.0), ticks=5, labels=(k % columns == 0, below))
        _frame.set_title(panels[k], f"{name}\nclean error {result.clean_error:.3f}", width=34)
    _hide(panels[len(results) :])
    assert image is not None
    figure.colorbar(image, ax=grid, shrink=0.9 if rows == 1 else 0.6, label="error")
    return figure


def _expect_some(results: Mapping[str, Heatmap]) -> None:
    if not results:
        raise ValueError("expected at least one result, as in {'resnet50': result}, got none")


def _hide(panels: NDArray[np.object_]) -> None:
    for axes in panels:
        axes.set_axis_off()


def plot_layers(result: Heatmap, *, kind: str = "relative") -> Figure:
    """How much each hidden layer changes at each frequency, every layer on its own scale.

    Args:
        result: measured with ``layers=[...]``.
        kind: "relative", "absolute" or "cosine", see `Heatmap.layer`.

    Raises:
        ValueError: no layers were measured.
        KeyError: an unknown kind.
    """
    if not result.layers:
        raise ValueError("expected hidden layers, none were measured; call heatmap(..., layers=[...])")
    if kind not in _KINDS:
        raise KeyError(f"expected a kind of {list(_KINDS)}, got {kind!r}")
    maps = {name: result.layer(name, kind) for name in result.layers}
    return _own_scales(maps, f"{_KINDS[kind]} of hidden layers; {settings(result)}", size=result.size)


def _own_scales(maps: Mapping[str, FloatArray], caption: str, *, size: tuple[int, int]) -> Figure:
    rows, columns = _frame.grid(len(maps), most=3)
    figure = _frame.new_figure(max(3.9 * columns, 5.0), (_frame.map_height(size, 2.9) + 1.1) * rows + 0.4)
    panels = figure.subplots(rows, columns, squeeze=False).reshape(-1)
    for k, (name, values) in enumerate(maps.items()):
        below = k + columns >= len(maps)
        image = _frame.draw_map(
            panels[k], values, limits=_frame.own_limits(values), ticks=5, labels=(k % columns == 0, below)
        )
        figure.colorbar(image, ax=panels[k], shrink=0.85)
        _frame.set_title(panels[k], name, width=34)
    _hide(panels[len(maps) :])
    _frame.set_caption(figure, caption, width=30 * columns + 20)
    return figure


def plot_effective_eps(result: Heatmap) -> Figure:
    """The norm that clipping to [0, 1] left of `eps`, per channel, mean over sampled images."""
    values = result.effective_eps
    low, _ = _frame.own_limits(values)
    limits = (min(low, 0.9 * result.eps), result.eps)
    figure = _frame.new_figure(6.0, _frame.map_height(result.size, 4.2) + 1.4)
    axes = figure.add_subplot()
    image = _frame.draw_map(axes, values, limits=limits)
    figure.colorbar(image, ax=axes, shrink=0.9, label="L2 norm per channel")
    _frame.set_heading(figure, f"perturbation left after clipping\n{settings(result)}")
    finite = values[np.isfinite(values)]
    mean = f"Mean over cells: {finite.mean():.3g} of {result.eps:g}." if finite.size else "Not sampled."
    _frame.set_caption(figure, mean + grey_note(values))
    return figure


def radius_label(shapes: set[tuple[int, int]]) -> str:
    """What a radius is counted in."""
    square = all(h == w for h, w in shapes)
    return "radius, cycles per image" if square else "radius, cycles per shorter side of the image"


def plot_radial(results: Mapping[str, Heatmap]) -> Figure:
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
    axes.set_xlabel(radius_label({result.shape[1:] for result in results.values()}))
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
