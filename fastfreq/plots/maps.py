"""Maps over the frequency plane: error, difference, comparison, hidden layers, norm after clipping."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from numpy.typing import NDArray

from fastfreq.core.comparison import Comparison
from fastfreq.core.results import LAYER_KINDS, HeatmapResult

from . import _frame
from ._frame import FloatArray


def _settings(result: HeatmapResult) -> str:
    return f"eps {result.eps:g} per channel, {result.convention.name}, {result.n_images:,} images"


def _grey_note(values: FloatArray) -> str:
    return " Grey: not evaluated." if np.isnan(values).any() else ""


def _half_width(result: HeatmapResult, metric: str) -> float:
    """Median half-width of the 95 % interval over the evaluated cells; NaN without one."""
    low, high = result.interval(metric)
    half = (high - low) / 2
    finite = half[np.isfinite(half)]
    return float(np.median(finite)) if finite.size else float("nan")


def plot_heatmap(result: HeatmapResult, *, metric: str = "error", difference: bool = False) -> Figure:
    """One map, kx to the right and ky downwards in cycles per image, zero frequency in the centre.

    Args:
        result: what was measured.
        metric: one of `result.metrics`. Errors are always drawn on the scale 0 .. 1, others on their own.
        difference: subtract the clean value, on a symmetric scale around 0.

    Raises:
        KeyError: a metric that was not measured.
    """
    values, clean = result.metric(metric), result.clean_metric(metric)
    if difference:
        values = values - clean
        limits, cmap = _frame.symmetric_limits(values), _frame.DIVERGING
    else:
        limits, cmap = ((0.0, 1.0) if metric == "error" else _frame.own_limits(values)), _frame.SEQUENTIAL
    figure = _frame.new_figure(6.0, _frame.map_height(result.size, 4.2) + 1.4)
    axes = figure.add_subplot()
    image = _frame.draw_map(axes, values, limits=limits, cmap=cmap)
    label = f"{metric} minus clean {metric}" if difference else metric
    bar = figure.colorbar(image, ax=axes, shrink=0.9, label=label)
    _frame.plain(bar.ax.yaxis.label)
    _frame.set_heading(figure, f"{label} per frequency\n{_settings(result)}, clean {metric} {clean:.3f}")
    half = _half_width(result, metric)
    _frame.set_caption(figure, f"95 % interval of a cell: typically ± {half:.2g}.{_grey_note(values)}")
    return figure


def plot_heatmaps(results: Mapping[str, HeatmapResult]) -> Figure:
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


def _expect_some(results: Mapping[str, HeatmapResult]) -> None:
    if not results:
        raise ValueError("expected at least one result, as in {'resnet50': result}, got none")


def _hide(panels: NDArray[np.object_]) -> None:
    for axes in panels:
        axes.set_axis_off()


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


def plot_comparison(comparison: Comparison, *, names: tuple[str, str] = ("first model", "second model")) -> Figure:
    """Error of the second model minus error of the first, cells that may be chance hatched.

    Args:
        comparison: from `first.compare(second)`.
        names: what to call the two models.
    """
    values = comparison.difference
    figure = _frame.new_figure(6.0, _frame.map_height(comparison.first.size, 4.2) + 1.7)
    axes = figure.add_subplot()
    image = _frame.draw_map(axes, values, limits=_frame.symmetric_limits(values), cmap=_frame.DIVERGING)
    figure.colorbar(image, ax=axes, shrink=0.9, label="difference of errors")
    chance = ~comparison.significant() & ~np.isnan(values)
    _hatch(axes, chance)
    first, second = names
    _frame.set_heading(figure, f"error of {second}\nminus error of {first}\n{_settings(comparison.first)}")
    _frame.set_caption(
        figure,
        f"Red: {first} is more robust. Blue: {second} is more robust. Hatched: may be chance "
        f"(McNemar's test, false discovery rate 5 %).{_grey_note(values)}",
    )
    return figure


def plot_layers(result: HeatmapResult, *, kind: str = "relative") -> Figure:
    """How much each hidden layer changes at each frequency, every layer on its own scale.

    Args:
        result: measured with ``layers=[...]``.
        kind: "relative", "absolute" or "cosine", see `HeatmapResult.layer`.

    Raises:
        ValueError: no layers were measured.
        KeyError: an unknown kind.
    """
    if not result.layers:
        raise ValueError("expected hidden layers, none were measured; call heatmap(..., layers=[...])")
    what = {"relative": "relative change", "absolute": "change (L2)", "cosine": "cosine"}.get(kind)
    if what is None:
        raise KeyError(f"expected a kind of {list(LAYER_KINDS)}, got {kind!r}")
    maps = {name: result.layer(name, kind) for name in result.layers}
    return _own_scales(maps, f"{what} of hidden layers; {_settings(result)}", size=result.size)


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


def plot_effective_eps(result: HeatmapResult) -> Figure:
    """The norm that clipping to [0, 1] left of `eps`, per channel, mean over sampled images."""
    values = result.effective_eps
    low, _ = _frame.own_limits(values)
    limits = (min(low, 0.9 * result.eps), result.eps)
    figure = _frame.new_figure(6.0, _frame.map_height(result.size, 4.2) + 1.4)
    axes = figure.add_subplot()
    image = _frame.draw_map(axes, values, limits=limits)
    figure.colorbar(image, ax=axes, shrink=0.9, label="L2 norm per channel")
    _frame.set_heading(figure, f"perturbation left after clipping\n{_settings(result)}")
    finite = values[np.isfinite(values)]
    mean = f"Mean over cells: {finite.mean():.3g} of {result.eps:g}." if finite.size else "Not sampled."
    _frame.set_caption(figure, mean + _grey_note(values))
    return figure
