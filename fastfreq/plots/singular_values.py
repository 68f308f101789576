"""Singular values of layers: descending curves coloured by frequency, maps of the largest value, whole models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator, StrMethodFormatter

from . import _frame
from ._frame import FloatArray

if TYPE_CHECKING:
    from fastfreq.layers.layer_singular_values import LayerSingularValues
    from fastfreq.layers.singular_values import SingularValues

_SLIVERS = 24  # frequencies drawn at each rank
_ONE_MATRIX = "#aaaaaa"  # of curves without a frequency; in no colour map
_RADIUS = "radius of the frequency, cycles per pixel"
_LOG_ABOVE = 30.0  # ratio of largest to smallest value from which a logarithmic scale is easier to read
_DECADES = 8  # below the norm that a curve shows
_DECADES_OF_ALL = 4  # below the largest norm that small multiples show


def plot_layer(spectrum: LayerSingularValues, *, ax: Axes | None = None) -> Figure:
    """All values in descending order, coloured by frequency; beside it the largest value of every frequency.

    Under each part of the curve the frequencies of its values are stacked from low to high, so that colours show which
    frequencies are found at which rank.
    The second panel is a map with zero frequency in the centre (2-D), a curve (1-D) or a radial profile (3-D). It is
    left out where all frequencies share one matrix, as in a 1 x 1 kernel.
    """
    _frame.several(ax)
    alone = len(spectrum.distinct) == 1
    figure = _frame.new_figure(6.4 if alone else 11.5, 5.0)
    panels = figure.subplots(1, 1 if alone else 2, squeeze=False)[0]
    _set_scale(panels[0], _floor(spectrum), spectrum.norm)
    _draw_curve(panels[0], spectrum, columns=160, end=spectrum.count)
    panels[0].xaxis.set_major_locator(MaxNLocator(5, integer=True))
    panels[0].xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    panels[0].set_xlabel("rank")
    panels[0].set_ylabel("singular value")
    if spectrum.smallest < spectrum.guaranteed_error:
        panels[0].axhline(spectrum.guaranteed_error, color="#444444", linestyle=":", linewidth=1)
    if not alone:
        figure.colorbar(_colours(spectrum), ax=panels[0], label=_RADIUS)
        figure.set_layout_engine("constrained", wspace=0.06)  # the labels of both panels meet in the middle
        _draw_largest(figure, panels[1], spectrum)
    _frame.set_heading(figure, _heading(spectrum), width=72 if alone else 120)
    _frame.set_caption(figure, _caption(spectrum), width=80 if alone else 140)
    return figure


def plot(spectrum: SingularValues, *, max_layers: int = 72, ax: Axes | None = None) -> Figure:
    """Norm and median by layer, then the descending values of each layer, all on one scale, in order of execution.

    Args:
        spectrum: of a model.
        max_layers: layers drawn one by one; the first, the last and others at even distances where there are more.
        ax: refused: there are several panels.

    Raises:
        ValueError: no layers, or `max_layers` below 1.
    """
    _frame.several(ax)
    if not spectrum.layers or max_layers < 1:
        raise ValueError(
            f"expected at least one layer to draw, got {len(spectrum.layers)} and max_layers={max_layers}; "
            f"skipped: {[name for name, _, _ in spectrum.skipped[:5]]}"
        )
    layers = list(spectrum.layers.values())
    count = min(max_layers, len(layers))
    drawn = [layers[i] for i in np.linspace(0, len(layers) - 1, count).round().astype(int)]
    rows, columns = _frame.grid(count, most=9)
    width, below = max(7.0, 1.6 * columns + 1.2), 1.5 * rows + 0.9
    labels = 0.25 + 0.07 * max(len(_short(layer.name, 24)) for layer in layers)
    height = below + labels + 3.4
    figure = _frame.new_figure(width, height)
    # laid out by hand: looking for room around dozens of panels took twice as long as drawing them
    figure.set_layout_engine("none")
    _draw_summary(_axes(figure, (0.75, below + labels, width - 0.95, 2.5)), layers, width)
    _draw_multiples(figure, drawn, rows, columns, below)
    circular = sum(layer.other_padding for layer in layers)
    bounds = sum(not layer.exact for layer in layers) - circular
    kind = {0: "exact", len(layers): "upper bounds (zero padding)"}.get(bounds, f"{bounds} of them upper bounds")
    if circular:
        kind = "taken as circular" if not bounds else f"{kind}, {circular} taken as circular"
    shown = "" if count == len(layers) else f"; {count} drawn below"
    size = " x ".join(map(str, spectrum.input_size))
    counted = "1 layer" if len(layers) == 1 else f"{len(layers)} layers"
    _frame.set_heading(
        figure,
        f"{spectrum.details.get('model') or spectrum.model}, input {size}: singular values of {counted}, {kind}{shown}",
        width=int(14 * width),
    )
    return figure


def _axes(figure: Figure, inches: tuple[float, float, float, float]) -> Axes:
    """Axes at (left, bottom, width, height)."""
    width, height = figure.get_size_inches()
    left, bottom, wide, high = inches
    return figure.add_axes((left / width, bottom / height, wide / width, high / height))


# ---------------------------------------------------------------- text
def _heading(spectrum: LayerSingularValues) -> str:
    shape = " x ".join(map(str, spectrum.weight_shape))
    size = f", input {' x '.join(map(str, spectrum.input_size))}" if spectrum.input_size else ""
    name = f"{spectrum.name}: " if spectrum.name else ""
    kind = "exact" if spectrum.exact else "taken as circular" if spectrum.other_padding else "upper bound"
    return f"{name}{spectrum.layer_type} {shape}{size}, {kind}"


def _caption(spectrum: LayerSingularValues) -> str:
    parts = [f"{spectrum.count:,} values, norm {spectrum.norm:.4g}, effective rank {spectrum.effective_rank:,.0f}."]
    if len(spectrum.distinct) > 1:
        parts.append("Under the curve: the frequencies of the values at each rank, sorted by radius.")
    if spectrum.smallest < spectrum.guaranteed_error:
        parts.append("Dotted: values below are not told from zero.")
    if len(spectrum.distinct) == 1:
        parts.append("One matrix for all frequencies.")
    folded = _folded(spectrum)
    if folded > 1:
        parts.append(f"The stride folds {folded} frequencies of the finer side into each.")
    if spectrum.note:
        parts.append(f"{spectrum.note[0].upper()}{spectrum.note[1:]}.")
    return " ".join(parts)


def _folded(spectrum: LayerSingularValues) -> int:
    """Frequencies of the finer side that one of the grid stands for."""
    return int(np.prod([max(1, round(n / m)) for n, m in zip(spectrum.input_size, spectrum.grid, strict=False)]))


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else "..." + name[3 - most :]


# ---------------------------------------------------------------- descending curves
def _descending(spectrum: LayerSingularValues, columns: int) -> tuple[FloatArray, FloatArray]:
    """Values (columns + 1) at even distances of their rank, and radii (columns, _SLIVERS), ascending, between them.

    Ranks count values with their multiplicities, and each of the frequencies that share one keeps its own radius.
    """
    values = spectrum.distinct.reshape(-1)
    order = np.argsort(-values, kind="stable")
    ends = np.cumsum(spectrum.weights.reshape(-1)[order])
    count = int(ends[-1])
    edges = np.linspace(0, count - 1, columns + 1).astype(np.int64)
    samples = columns * _SLIVERS
    ranks = ((np.arange(samples) + 0.5) * count / samples).astype(np.int64)
    at = np.searchsorted(ends, ranks, side="right")
    row = order[at] // spectrum.distinct.shape[1]
    member = ranks - ends[at] + spectrum.multiplicity[row]  # which of the frequencies that share the value
    by_row = np.argsort(spectrum.cells.reshape(-1), kind="stable")
    first = np.cumsum(spectrum.multiplicity) - spectrum.multiplicity
    radius = spectrum.radius.reshape(-1)[by_row[first[row] + member]]
    return values[order[np.searchsorted(ends, edges, side="right")]], np.sort(radius.reshape(columns, -1), axis=1)


def _draw_curve(axes: Axes, spectrum: LayerSingularValues, *, columns: int, end: float) -> None:
    """The descending values over 0 .. `end`; below them, the frequencies at each rank as a stack of colours."""
    values, radius = _descending(spectrum, columns)
    x = np.linspace(0, end, columns + 1)
    low, high = axes.get_ylim()
    heights = np.linspace(0, 1, _SLIVERS + 1)[:, None]
    top = np.clip(values, low, high)
    log = axes.get_yscale() == "log"
    y = low * (top / low) ** heights if log else low + (top - low) * heights
    if len(spectrum.distinct) > 1:
        grid = np.broadcast_to(x, y.shape)
        limit = _largest_radius(spectrum)
        axes.pcolormesh(grid, y, radius.T, cmap=_frame.SEQUENTIAL, vmin=0, vmax=limit, rasterized=True)
    else:
        axes.fill_between(x, low, top, color=_ONE_MATRIX, linewidth=0)
    axes.plot(x, np.where(values >= low, values, np.nan), color="black", linewidth=1)
    axes.set_xlim(0, end)
    axes.set_ylim(low, high)
    axes.grid(alpha=0.25)


def _largest_radius(spectrum: LayerSingularValues) -> float:
    return 0.5 * len(spectrum.grid) ** 0.5


def _colours(spectrum: LayerSingularValues) -> ScalarMappable:
    return ScalarMappable(Normalize(0, _largest_radius(spectrum)), _frame.SEQUENTIAL)


def _floor(spectrum: LayerSingularValues) -> float:
    """The smallest value worth drawing: below are zeros and what the accuracy does not resolve."""
    return max(spectrum.smallest, spectrum.guaranteed_error, spectrum.norm * 10.0**-_DECADES)


def _set_scale(axes: Axes, bottom: float, top: float) -> None:
    if bottom > 0 and top > _LOG_ABOVE * bottom:
        axes.set_yscale("log")
        axes.set_ylim(bottom / 1.5, top * 1.5)
    else:
        axes.set_ylim(0, 1.05 * top if top > 0 else 1.0)


# ---------------------------------------------------------------- by frequency
def _draw_largest(figure: Figure, axes: Axes, spectrum: LayerSingularValues) -> None:
    if len(spectrum.grid) == 2:
        largest = np.fft.fftshift(spectrum.distinct[:, 0][spectrum.cells])
        low, high = _frame.own_limits(largest)
        left, right, bottom, top = _frame.extent((largest.shape[0], largest.shape[1]))
        rows, columns = largest.shape
        image = axes.imshow(
            largest,
            extent=(left / columns, right / columns, bottom / rows, top / rows),
            interpolation="nearest",
            cmap=_frame.SEQUENTIAL,
            vmin=low,
            vmax=high,
        )
        axes.set_xlabel("kx, cycles per pixel")
        axes.set_ylabel("ky, cycles per pixel")
        figure.colorbar(image, ax=axes, label="largest singular value")
        return
    profile = spectrum.profile()
    axes.plot(profile.radius, profile.largest, color=_frame.COLOURS[1], label="largest")
    axes.plot(profile.radius, profile.median, color=_frame.COLOURS[0], linestyle="-.", label="median")
    axes.set_xlabel(_RADIUS)
    axes.set_ylabel("singular value")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)


# ---------------------------------------------------------------- whole models
def _draw_summary(axes: Axes, layers: Sequence[LayerSingularValues], width: float) -> None:
    place = np.arange(len(layers))
    norms = np.array([layer.norm for layer in layers])
    medians = np.array([layer.median for layer in layers])
    if norms.max() > _LOG_ABOVE * norms.min() > 0:
        _set_scale(axes, max(float(medians.min()), float(norms.min()) * 1e-2), float(norms.max()))
    else:
        axes.set_ylim(0, 1.05 * (float(norms.max()) or 1.0))
    axes.plot(place, norms, marker="o", markersize=4, color=_frame.COLOURS[1], label="norm")
    axes.plot(place, medians, marker="s", markersize=4, linestyle="-.", color=_frame.COLOURS[0], label="median")
    step = -(-len(layers) // int(6 * width))
    axes.set_xticks(place[::step], [_short(layer.name, 24) for layer in layers[::step]], rotation=90, fontsize=7)
    for label in axes.get_xticklabels():
        _frame.plain(label)
    axes.set_xlim(-0.7, len(layers) - 0.3)
    axes.set_ylabel("singular value")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)


def _draw_multiples(figure: Figure, layers: Sequence[LayerSingularValues], rows: int, columns: int, top: float) -> None:
    """A small panel for each layer, in the lowest `top` inches, all on one scale."""
    width, height = figure.get_size_inches()
    cells = figure.add_gridspec(
        rows, columns, left=0.75 / width, right=1 - 0.95 / width, bottom=0.6 / height, top=(top - 0.3) / height,
        wspace=0.12, hspace=0.32,
    )  # fmt: skip
    largest = max(layer.norm for layer in layers)
    floor = max(min(map(_floor, layers)), largest * 10.0**-_DECADES_OF_ALL)
    for k, layer in enumerate(layers):
        axes = figure.add_subplot(cells[divmod(k, columns)])
        _set_scale(axes, floor, largest)
        axes.yaxis.set_minor_locator(NullLocator())  # minor ticks took a third of the time
        _draw_curve(axes, layer, columns=60, end=1)
        _frame.plain(axes.set_title(_short(layer.name or layer.layer_type, 22), fontsize=7, pad=3))
        axes.set_xticks([0, 0.5, 1], ["0", "½", "1"])
        axes.tick_params(labelsize=7, labelleft=k % columns == 0, labelbottom=k + columns >= len(layers))
    bar = _axes(figure, (width - 0.8, 0.6, 0.12, top - 0.9))
    figure.colorbar(_colours(max(layers, key=lambda layer: len(layer.grid))), cax=bar, label=_RADIUS)
    what = "rank, as a share of all values of the layer; grey: one matrix for all frequencies"
    figure.text(0.5, 0.12 / height, what, ha="center", fontsize=9)
    figure.text(0.12 / width, top / 2 / height, "singular value", va="center", rotation=90, fontsize=9)
