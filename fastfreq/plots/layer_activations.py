"""What the layers' inputs hold by frequency, beside what the layers keep of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from . import _frame

if TYPE_CHECKING:
    from fastfreq.layers.bottleneck_result import Bottleneck
    from fastfreq.layers.layer_activations import LayerActivations

_BINS = 24


def plot(result: Bottleneck, *, ax: Axes | None = None) -> Figure:
    """Energy by frequency, shares of energy kept, principal angles and effective rank, layer by layer.

    Raises:
        ValueError: a result that was measured without images.
    """
    _frame.several(ax)
    if not result.activations:
        raise ValueError("expected a result measured with images, as in bottleneck(model, ..., images=x)")
    names = list(result.activations)
    seen = list(result.activations.values())
    figure = _frame.new_figure(min(22.0, max(7.2, 3.0 + 0.34 * len(names))), 9.6)
    panels = figure.subplots(4, 1, sharex=True, height_ratios=[1.2, 1, 0.8, 0.8])
    _profile(figure, panels[0], result)
    _shares(panels[1], seen)
    places = np.arange(len(names))
    for values, marker, label in (
        ([np.degrees(s.mean_angle) for s in seen], "o", "mean over frequencies, weighted by energy"),
        ([np.degrees(s.largest_angle) for s in seen], "^", "largest at any frequency"),
    ):
        panels[2].plot(places, values, marker, markersize=4, label=label)
    panels[2].set_ylim(-3, 93)
    panels[2].set_yticks([0, 30, 60, 90])
    panels[2].set_ylabel("principal angle,\ndegrees")
    panels[3].plot(
        places, [s.mean_effective_rank for s in seen], "o", markersize=4, label="effective rank of the input"
    )
    panels[3].plot(places, [s.eigenvalues.shape[1] for s in seen], "_", color="0.5", label="most that it could be")
    panels[3].set_yscale("log", base=2)
    panels[3].yaxis.set_major_formatter(ScalarFormatter())
    panels[3].set_ylabel("directions\nat a frequency")
    for axes in panels[1:]:
        axes.grid(axis="y", alpha=0.25)
        axes.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0.0, 0.98), ncols=3, frameon=False)
    step = -(-len(names) // 60)
    panels[3].set_xticks(places[::step])
    panels[3].set_xticklabels(names[::step], rotation=60, ha="right", fontsize=7)
    panels[3].set_xlim(-0.6, len(names) - 0.4)
    count = seen[0].images
    _frame.set_heading(
        figure,
        f"{result.details.get('model') or result.spectrum.model}: what the layers' inputs hold, {count} images",
        width=90,
    )
    _frame.set_caption(figure, _caption(seen), width=int(11 * figure.get_size_inches()[0]))
    return figure


def _profile(figure: Figure, axes: Axes, result: Bottleneck) -> None:
    """Share of the input's energy within each radius: reads as the part that a low-pass filter would leave."""
    columns = []
    for name, seen in result.activations.items():
        columns.append(np.cumsum(seen.profile(result.spectrum[name].grid, _BINS)))
    top = max(np.sqrt(len(result.spectrum[name].grid)) / 2 for name in result.activations)
    image = axes.imshow(
        np.stack(columns, axis=1),
        extent=(-0.5, len(columns) - 0.5, 0, top),
        origin="lower",
        aspect="auto",
        cmap=_frame.colour_map(_frame.SEQUENTIAL),
        vmin=0,
        vmax=1,
        interpolation="nearest",
    )
    axes.set_ylabel("radius, cycles per\npixel of the layer")
    figure.colorbar(image, ax=axes, label="energy within it", pad=0.01, aspect=14)


def _shares(axes: Axes, seen: list[LayerActivations]) -> None:
    places = np.arange(len(seen))
    for values, marker, label in (
        ([s.top_share for s in seen], "_", "input, in as many best directions"),
        ([s.kept_share for s in seen], "o", "input, in what the layer keeps"),
        ([s.output_share for s in seen], "x", "output, in what the layer keeps"),
    ):
        axes.plot(places, values, marker, markersize=5, label=label)
    axes.set_ylim(-0.03, 1.03)
    axes.set_ylabel("share of energy")


def _caption(seen: list[LayerActivations]) -> str:
    text = (
        "Top: bright where most of the energy lies within the radius; a layer whose column is bright from low radii on "
        "could work on a coarser grid. Below: shares near 1 and small angles mean that the images live where the layer "
        "looks. Outputs are those of the convolution, without bias."
    )
    some = [s for s in seen if not s.measured.all()]
    if some:
        text += f" {len(some)} layers were measured at a part of their frequencies, evenly spread."
    return text
