"""Singular values of layers: descending curves coloured by frequency, maps of the largest value, whole models."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PathCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fastfreq.core.spectrum import LayerSpectrum, ModelSpectrum

from . import _frame

_POINTS = 4000  # of a curve: more are not seen and make files large
_CMAP = "viridis"
_COLOUR_LABEL = "frequency, cycles per pixel"


def plot_layer_spectrum(spectrum: LayerSpectrum) -> Figure:
    """All values in descending order, coloured by frequency; beside it the largest value of every frequency.

    The second panel is a map with zero frequency in the centre (2-D), a curve (1-D) or a radial profile (3-D), and is
    left out where all frequencies share one matrix.
    """
    alone = len(spectrum.distinct) == 1
    figure = _frame.new_figure(5.6 if alone else 10.4, 4.6)
    panels = figure.subplots(1, 1 if alone else 2, squeeze=False)[0]
    points = _descending(panels[0], spectrum)
    panels[0].set_ylabel("singular value")
    panels[0].set_xlabel("share of all singular values")
    if not alone:
        figure.colorbar(points, ax=panels[0], label=_COLOUR_LABEL, pad=0.03)
        figure.set_layout_engine("constrained", w_pad=0.12)  # the labels of both panels meet in the middle
        _largest(figure, panels[1], spectrum)
    _frame.set_heading(figure, _title(spectrum), width=60 if alone else 110)
    return figure


def plot_model_spectrum(spectrum: ModelSpectrum, *, max_layers: int = 60) -> Figure:
    """Norm and median of every layer in order of execution, then the descending values of each layer.

    Args:
        spectrum: of a model.
        max_layers: layers drawn one by one; the first and last and those between them at even distances.

    Raises:
        ValueError: no layers.
    """
    if not spectrum.layers:
        raise ValueError("expected at least one layer with singular values, got none")
    names = list(spectrum.layers)
    drawn = [
        names[i] for i in np.unique(np.linspace(0, len(names) - 1, min(max_layers, len(names))).round().astype(int))
    ]
    columns = min(6, len(drawn))
    rows = -(-len(drawn) // columns)
    figure = _frame.new_figure(max(6.4, 2.1 * columns), 3.2 + 1.7 * rows)
    above, below = np.asarray(figure.subfigures(2, 1, height_ratios=[2.6, 1.7 * rows])).flat
    _by_layer(above.subplots(), spectrum)
    panels = np.asarray(below.subplots(rows, columns, squeeze=False))
    for axes, name in zip(panels.flat, drawn, strict=False):
        _descending(axes, spectrum.layers[name], size=4)
        _frame.plain(axes.set_title(_short(name, 24), fontsize=7))
        axes.tick_params(labelsize=6)
        axes.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
    for axes in panels.flat[len(drawn) :]:
        axes.set_axis_off()
    mappable = ScalarMappable(Normalize(0, _radius_limit(spectrum.layers[names[0]])), _CMAP)
    below.colorbar(mappable, ax=panels, label=_COLOUR_LABEL, aspect=40, fraction=0.03)
    below.supxlabel("share of all singular values of the layer", fontsize=8)
    _frame.set_heading(figure, f"{spectrum.model}: singular values of {len(names)} layers", width=90)
    return figure


def _title(spectrum: LayerSpectrum) -> str:
    shape = " x ".join(map(str, spectrum.weight_shape))
    size = " x ".join(map(str, spectrum.input_size)) or "1"
    name = f"{spectrum.name}: " if spectrum.name else ""
    return f"{name}{spectrum.kind} {shape}, input {size}, {spectrum.note or 'exact'}"


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else "..." + name[3 - most :]


def _radius_limit(spectrum: LayerSpectrum) -> float:
    return 0.5 * np.sqrt(len(spectrum.grid))


def _descending(axes: Axes, spectrum: LayerSpectrum, *, size: float = 9) -> PathCollection:
    """Values in descending order against their rank as a share of all, coloured by the radius of their frequency."""
    share, values, radius = _curve(spectrum)
    points = axes.scatter(
        share, values, c=radius, s=size, cmap=_CMAP, vmin=0, vmax=_radius_limit(spectrum), linewidths=0, rasterized=True
    )
    positive = values[values > 0]
    if positive.size and values.max() > 30 * positive.min():
        axes.set_yscale("log")
        axes.set_ylim(max(positive.min(), values.max() * 1e-8) / 1.5, values.max() * 1.5)
    else:
        axes.set_ylim(0, (float(values.max()) or 1.0) * 1.08)
    axes.grid(alpha=0.25)
    return points


def _curve(spectrum: LayerSpectrum) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(share of rank, value, radius) of at most `_POINTS` values, evenly spaced in rank."""
    values = spectrum.distinct.reshape(-1)
    order = np.argsort(-values, kind="stable")
    if len(order) > _POINTS:
        order = order[np.linspace(0, len(order) - 1, _POINTS).round().astype(int)]
    at = tuple((spectrum.frequencies % np.asarray(spectrum.grid)).T)
    radius = np.repeat(spectrum.radius[at], spectrum.distinct.shape[1])
    weights = spectrum.weights.reshape(-1)[order]
    rank = np.cumsum(weights) - weights / 2
    return rank / weights.sum(), values[order], radius[order]


def _largest(figure: Figure, axes: Axes, spectrum: LayerSpectrum) -> None:
    largest = spectrum.distinct[:, 0][spectrum.cells]
    if largest.ndim == 2:
        image = _frame.draw_map(axes, np.fft.fftshift(largest), limits=_frame.own_limits(largest))
        if any(n > 1 for n in _strides(spectrum)):
            axes.set_xlabel("kx, cycles per image (folded by the stride)")
        figure.colorbar(image, ax=axes, label="largest singular value")
        return
    axes.grid(alpha=0.25)
    axes.set_ylabel("singular value")
    axes.set_xlabel(_COLOUR_LABEL)
    if largest.ndim == 1:
        half = len(largest) // 2 + 1
        axes.plot(spectrum.radius[:half], largest[:half], color=_frame.COLOURS[0])
    else:
        profile = spectrum.profile()
        axes.plot(profile.radius, profile.largest, color=_frame.COLOURS[0], label="largest")
        axes.plot(profile.radius, profile.median, color=_frame.COLOURS[1], linestyle="-.", label="median")
        axes.legend(frameon=False)
    axes.set_ylim(bottom=0)


def _strides(spectrum: LayerSpectrum) -> list[int]:
    return [max(1, round(n / m)) for n, m in zip(spectrum.input_size, spectrum.grid, strict=False)]


def _by_layer(axes: Axes, spectrum: ModelSpectrum) -> None:
    layers = list(spectrum.layers.values())
    place = np.arange(len(layers))
    axes.plot(place, [layer.norm for layer in layers], marker="o", markersize=4, color=_frame.COLOURS[1], label="norm")
    medians = [layer.median for layer in layers]
    axes.plot(place, medians, marker="s", markersize=4, linestyle="-.", color=_frame.COLOURS[0], label="median")
    if min(medians) > 0:
        axes.set_yscale("log")
    step = -(-len(layers) // 30)
    axes.set_xticks(place[::step], [_short(layer.name, 22) for layer in layers[::step]], rotation=60, ha="right")
    axes.tick_params(axis="x", labelsize=6)
    axes.set_ylabel("singular value")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8)
