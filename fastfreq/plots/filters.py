"""Filters as images, their Fourier magnitudes, the Gabor functions fitted to them, and where those lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import _frame
from ._frame import FloatArray

if TYPE_CHECKING:
    from fastfreq.features.filters import Filters
    from fastfreq.features.layer_filters import LayerFilters

_MOST_TILES = 64
_GABOR_LIKE = 0.25  # of the energy is left: as the table counts


def plot(result: Filters, *, max_layers: int = 8, ax: Axes | None = None) -> Figure:
    """One row per layer: filters, their Fourier magnitudes, their Gabor functions, and the waves of those.

    Args:
        result: what to draw.
        max_layers: rows; the first layers where there are more.
        ax: refused: there are several panels.

    Raises:
        ValueError: no layers, or `max_layers` below 1.
    """
    _frame.several(ax)
    if not result.layers or max_layers < 1:
        raise ValueError(
            f"expected at least one layer to draw, got {len(result.layers)} and max_layers={max_layers}; "
            f"skipped: {list(result.skipped[:5])}"
        )
    drawn = list(result.layers.items())[:max_layers]
    figure = _frame.new_figure(13.0, 3.45 * len(drawn) + 0.9)
    panels = figure.subplots(len(drawn), 4, squeeze=False)
    for row, (name, layer) in zip(panels, drawn, strict=True):
        _draw_row(row, name, layer)
    left = len(result.layers) - len(drawn)
    more = f" {left} more layers are not drawn." if left else ""
    _frame.set_heading(figure, f"{result.details.get('model', result.model)}: filters", width=120)
    _frame.set_caption(
        figure,
        "Each filter on its own scale, grey is zero; filters of other than 3 channels by their leading pattern. "
        "Fourier magnitude: zero frequency in the centre, to the Nyquist frequency. Gabor functions are fitted to the "
        "leading pattern; dots are those that leave at most a quarter of the energy, crosses the others. Filters "
        f"behind activations are those of the network without them: what is named was left out.{more}",
        width=150,
    )
    return figure


def _draw_row(row: Sequence[Axes], name: str, layer: LayerFilters) -> None:
    units = _drawn_units(layer)
    filters = layer.filters[units]
    shown = filters.transpose(0, 2, 3, 1) if filters.shape[1] == 3 else layer.patterns[units][..., None]
    h, w = layer.size
    _mosaic(row[0], _signed(shown))
    ignored = f"without {', '.join(layer.ignored)}" if layer.ignored else "its weights"
    _frame.set_title(row[0], f"{name}: {len(units)} of {layer.channels}, {h} x {w}\n{ignored}", width=44, size=9)
    spectra = np.fft.fftshift(layer.spectra[units], axes=(1, 2))
    _mosaic(row[1], spectra / np.maximum(spectra.max(axis=(1, 2), keepdims=True), 1e-300))
    _frame.set_title(row[1], "Fourier magnitude", width=40, size=9)
    if np.isfinite(layer.gabors.residual).any():
        fitted = np.nan_to_num(layer.gabors.drawn(layer.size)[units])
        _mosaic(row[2], _signed(fitted[..., None]))
        _frame.set_title(
            row[2], f"Gabor functions, median residual {np.nanmedian(layer.gabor_residual):.2f}", width=44, size=9
        )
        _waves(row[3], layer)
    else:
        row[2].set_axis_off()
        row[3].set_axis_off()
        row[2].text(0.5, 0.5, "too small for\nGabor functions", ha="center", va="center", transform=row[2].transAxes)


def _drawn_units(layer: LayerFilters) -> list[int]:
    count = len(layer.units)
    return np.unique(np.linspace(0, count - 1, min(count, _MOST_TILES)).round().astype(int)).tolist()


def _signed(tiles: FloatArray) -> FloatArray:
    """Each in [0, 1] with zero at a half."""
    largest = np.abs(tiles).max(axis=(1, 2, 3), keepdims=True)
    return 0.5 + 0.5 * tiles / np.maximum(largest, 1e-300)


def _mosaic(axes: Axes, tiles: FloatArray) -> None:
    """Tiles (u, h, w) or (u, h, w, 1 or 3) beside each other, a thin white line between."""
    tiles = tiles[..., None] if tiles.ndim == 3 else tiles
    count, h, w, channels = tiles.shape
    columns = math.ceil(math.sqrt(count * h / w))
    rows = math.ceil(count / columns)
    gap = max(1, round(min(h, w) / 12))
    sheet = np.ones((rows * (h + gap) - gap, columns * (w + gap) - gap, channels))
    for i, tile in enumerate(tiles):
        y, x = i // columns * (h + gap), i % columns * (w + gap)
        sheet[y : y + h, x : x + w] = tile
    axes.imshow(sheet if channels == 3 else sheet[..., 0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_axis_off()


def _waves(axes: Axes, layer: LayerFilters) -> None:
    """Wave vectors of the Gabor functions, both of each pair."""
    angle, f = np.deg2rad(layer.gabors.orientation), layer.gabors.frequency
    good = layer.gabor_residual <= _GABOR_LIKE
    for chosen, marker, colour, size in (
        (~good & np.isfinite(f), "x", _frame.NOT_EVALUATED, 14), (good, "o", _frame.COLOURS[0], 18)
    ):  # fmt: skip
        kx, ky = f[chosen] * np.cos(angle[chosen]), f[chosen] * np.sin(angle[chosen])
        both = np.concatenate([kx, -kx]), np.concatenate([ky, -ky])
        axes.scatter(*both, s=size, marker=marker, color=colour, linewidths=0.8)
    reach = 1.08 * max(0.02, float(np.nanmax(f)))
    axes.set_xlim(-reach, reach)
    axes.set_ylim(reach, -reach)  # ky downwards, as in images
    axes.set_aspect("equal")
    axes.axhline(0, color="#cccccc", linewidth=0.6, zorder=0)
    axes.axvline(0, color="#cccccc", linewidth=0.6, zorder=0)
    axes.set_xlabel("kx, cycles per pixel", fontsize=8)
    axes.set_ylabel("ky, cycles per pixel", fontsize=8)
    axes.tick_params(labelsize=7)
    row = layer.row("")
    said = f"{row['gabor_like']:.0%} Gabor-like"
    if np.isfinite(row["bandwidth"]):
        said += f", {row['bandwidth']:.1f} octaves wide"
    _frame.set_title(axes, said, width=44, size=9)
