"""The convolution bottleneck: singular values against the layer, coloured by frequency, explained below."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from . import _frame

if TYPE_CHECKING:
    from fastfreq.layers.bottleneck_result import Bottleneck, Frequency
    from fastfreq.layers.layer_singular_values import LayerSingularValues

_POINTS = 1500  # of a layer: more are not seen and make files large
_WIDTH = 0.8  # of a layer's strip


def plot(result: Bottleneck, *, ax: Axes | None = None) -> Figure:
    """All singular values in one strip per layer, and how many channels the middle layers keep at each frequency.

    Within a strip low frequencies lie left and dark, high ones right and bright; a bar marks the layer's gap.
    """
    names = list(result.spectrum)
    if ax is not None:  # the strips alone
        panel = _frame.Panel(ax, 0, 0)
        points = _strips(panel.axes, result, names)
        panel.figure.colorbar(points, ax=panel.axes, label="frequency, cycles per pixel of the layer")
        return panel.figure
    kept = result.network_kept
    drawn_map = _is_two_dimensional(result) and len(kept) > 0 and _found_share(result) > 0.5
    width = min(22.0, max(6.4, 2.4 + 0.42 * len(names)))
    figure = _frame.new_figure(width + (3.6 if drawn_map else 0), 5.6)
    panels = figure.subplots(1, 2 if drawn_map else 1, squeeze=False, width_ratios=[width, 3.6][: 1 + drawn_map])[0]
    points = _strips(panels[0], result, names)
    figure.colorbar(points, ax=panels[0], label="frequency, cycles per pixel of the layer", pad=0.01, aspect=30)
    if drawn_map:
        _kept_map(panels[1], result, kept)
    shape = " x ".join(map(str, result.spectrum.input_size))
    _frame.set_heading(
        figure,
        f"{result.details.get('model') or result.spectrum.model}, input {shape}: what each layer keeps",
        width=90,
    )
    _frame.set_caption(figure, _caption(result), width=int(13 * (width + 3.6 * drawn_map)))
    return figure


def describe_kept(kept: dict[Frequency, int], *, most: int = 6) -> str:
    """Kept channels in words, of k and -k one: "6 channels at (0, 0), 1 at +-(0, 1)"."""
    pairs = [(k, count) for k, count in kept.items() if k >= tuple(-i for i in k) or tuple(-i for i in k) not in kept]
    parts = []
    for k, count in pairs[:most]:
        sign = "" if tuple(-i for i in k) == k or tuple(-i for i in k) not in kept else "±"
        text = ", ".join(map(str, k))
        parts.append(f"{count}{' channels' if not parts and count != 1 else ''} at {sign}({text})")
    if len(pairs) > most:
        parts.append(f"and at {len(pairs) - most} more frequencies")
    return ", ".join(parts) or "nothing"


def _strips(axes: Axes, result: Bottleneck, names: list[str]) -> PathCollection:
    spectra = [result.spectrum[name] for name in names]
    limit = max(float(spectrum.radius.max()) for spectrum in spectra) or 0.5
    places, values, radii = [], [], []
    for place, spectrum in enumerate(spectra):
        value, radius = _points(spectrum)
        places.append(place + _WIDTH * (radius / limit - 0.5))
        values.append(value)
        radii.append(radius)
    every = np.concatenate(values)
    colours = np.concatenate(radii)
    points = axes.scatter(
        np.concatenate(places), every, c=colours, s=7, cmap="viridis", vmin=0, vmax=limit, linewidths=0, rasterized=True
    )
    for place, name in enumerate(names):
        kept = result.kept[name]
        if kept.found:
            axes.plot([place - 0.47, place + 0.47], [kept.threshold] * 2, color=_frame.COLOURS[1], linewidth=1.6)
        if place % 2:
            axes.axvspan(place - 0.5, place + 0.5, color="#f2f2f2", zorder=-1, linewidth=0)
    tops = [spectrum.norm for spectrum in spectra]
    if max(tops) > 20 * float(np.median(tops)) > 0:
        axes.set_yscale("log")
        axes.set_ylim(max(every.max() * 1e-4, every[every > 0].min()) / 1.5, every.max() * 1.5)
    else:
        axes.set_ylim(0, max(tops) * 1.06 or 1.0)
    step = -(-len(names) // 60)
    axes.set_xticks(range(0, len(names), step))
    axes.set_xticklabels(names[::step], rotation=60, ha="right", fontsize=7)
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.set_ylabel("singular value")
    axes.grid(axis="y", alpha=0.25)
    return points


def _points(spectrum: LayerSingularValues) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(value, radius) of at most `_POINTS` values: the largest half of them, and an even choice of the rest."""
    at = tuple((spectrum.frequencies % np.asarray(spectrum.grid)).T)
    radius = np.repeat(spectrum.radius[at], spectrum.distinct.shape[1])
    values = spectrum.distinct.reshape(-1)
    if len(values) > _POINTS:
        order = np.argsort(-values, kind="stable")
        rest = np.linspace(_POINTS // 2, len(order) - 1, _POINTS - _POINTS // 2).round().astype(int)
        chosen = order[np.concatenate([np.arange(_POINTS // 2), rest])]
        values, radius = values[chosen], radius[chosen]
    return values, radius


def _kept_map(axes: Axes, result: Bottleneck, kept: dict[Frequency, int]) -> None:
    """Channels kept at each frequency, in the window of frequencies that hold them."""
    reach = [max(2, *(abs(k[axis]) for k in kept)) for axis in (0, 1)]
    counts = np.zeros((2 * reach[0] + 1, 2 * reach[1] + 1))
    for (row, column), count in kept.items():
        counts[row + reach[0], column + reach[1]] = count
    _frame.draw_map(axes, counts, limits=(0, counts.max()), cmap="Blues")
    if len(kept) <= 60:
        for (row, column), count in kept.items():
            dark = count > counts.max() / 2
            axes.text(column, row, str(count), ha="center", va="center", color="white" if dark else "black", fontsize=9)
    text = f"channels kept by most middle layers\nrank {result.rank_cbn:.4g}"
    _frame.set_title(axes, text, width=40, size=9)


def _is_two_dimensional(result: Bottleneck) -> bool:
    return all(len(result.spectrum[name].grid) == 2 for name in result.spectrum)


def _found_share(result: Bottleneck) -> float:
    return float(np.mean([result.kept[name].found for name in result.middle]))


def _caption(result: Bottleneck) -> str:
    text = (
        "Each dot is a singular value of one layer at one frequency: how strongly the layer passes on one pattern of "
        "channels at that frequency. In a layer's strip low frequencies are left and dark, high ones right and bright; "
        "a 1 x 1 kernel treats all alike and stands at zero. "
        "The bar sits in the largest gap: dots above it are kept, dots below it are suppressed. "
    )
    without = [name for name in result.spectrum if not result.kept[name].found]
    if len(without) == len(result.spectrum):
        return text + "No layer here has such a gap: their values fall off gradually, there is no bottleneck."
    share = _found_share(result)
    if share > 0.5:
        gaps = [result.kept[name].gap for name in result.middle if result.kept[name].found]
        middle = float(np.median(gaps))
        size = f"a median gap of {middle:.3g} times" if math.isfinite(middle) else "nothing below the gap"
        text += (
            f"A few dots far above the bar in the middle layers are a bottleneck; here most of these keep "
            f"{describe_kept(result.network_kept)} (cycles per image; {size})."
        )
    else:
        few = f"Only {share:.0%}" if share > 0 else "None"
        text += f"{few} of the middle layers have a gap: there is no bottleneck common to them."
    if without:
        text += (
            f" {len(without)} layers have no gap and no bar; all values above a tenth of their largest count as kept."
        )
    return text
