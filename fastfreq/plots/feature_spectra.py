"""Spectra of feature maps: every layer's profile in cycles per image, the highest frequencies by depth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure

from . import _frame

if TYPE_CHECKING:
    from fastfreq.inputs.feature_spectra import FeatureSpectra

_CMAP = "plasma"
_LIGHTEST = 0.9  # of the colour map: its last tenth vanishes on white


def plot(spectra: FeatureSpectra, *, ax: Axes | None = None) -> Figure:
    """Delta log amplitude against cycles per image, one curve per layer coloured by depth; and by depth.

    Curves run to each layer's own highest frequency (lighter from there to its corner) with 95 % bands over images.
    Beside them the value at each layer's highest ring and at the highest ring that all layers reach.

    Raises:
        ValueError: no layer with maps larger than a pixel, or `ax` is given: there are several panels.
    """
    _frame.several(ax)
    figure = _frame.new_figure(11.0, 4.9)
    left, right = figure.subplots(1, 2)
    names = [name for name in spectra.facts if name != "input" and spectra.nyquist(name) >= 1]
    if not names:
        raise ValueError("expected at least one layer with maps larger than a pixel, got none")
    colours = matplotlib.colormaps[_CMAP](np.linspace(0, _LIGHTEST, len(names)))
    for name, colour in zip(names, colours, strict=True):
        _profile(left, spectra, name, colour)
    if "input" in spectra.facts:
        _profile(left, spectra, "input", "#444444", style="--")
    left.set_xscale("log", base=2)
    farthest = max(spectra.nyquist(name) for name in spectra.facts)
    ticks = 2 ** np.arange(int(np.log2(farthest)) + 1)
    left.set_xticks(ticks, [str(t) for t in ticks])
    left.set_xlim(0.9, farthest * 1.5)
    left.set_xlabel(
        "cycles per image" if spectra.shape[1] == spectra.shape[2] else "cycles per shorter side of the image"
    )
    left.set_ylabel("log amplitude minus that of zero frequency")
    left.grid(alpha=0.25)
    shades = ListedColormap(colours)
    bar = figure.colorbar(
        ScalarMappable(Normalize(0, len(names)), shades), ax=left, label="layer, in order of execution"
    )
    bar.set_ticks([0.5, len(names) - 0.5], labels=["first", "last"])
    _frame.set_title(left, "bands: 95 % over images; dashed: the network's input", width=60, size=9)
    _by_depth(right, spectra, names)
    sizes = sorted({spectra[name].size for name in names}, reverse=True)
    shown = ", ".join(f"{rows} x {columns}" for rows, columns in sizes[:6])
    _frame.set_heading(
        figure,
        f"{spectra.details.get('model', '')}: spectra of {len(names)} layers ({shown}), {spectra.n_images:,} images",
        width=110,
    )
    return figure


def _profile(axes: Axes, spectra: FeatureSpectra, name: str, colour: object, *, style: str = "-") -> None:
    profile = spectra.radial(name)
    own = (profile.radius >= 1) & (profile.radius <= spectra.nyquist(name))
    beyond = profile.radius >= spectra.nyquist(name)
    marker = "o" if own.sum() < 8 else ""
    axes.plot(profile.radius[own], profile.value[own], style, color=colour, linewidth=1.3, marker=marker, markersize=3)
    axes.plot(profile.radius[beyond], profile.value[beyond], style, color=colour, linewidth=0.6, alpha=0.5)
    axes.fill_between(profile.radius[own], profile.low[own], profile.high[own], color=colour, alpha=0.15, linewidth=0)


def _by_depth(axes: Axes, spectra: FeatureSpectra, names: list[str]) -> None:
    common = min(spectra.nyquist(name) for name in names)
    curves = {
        "at the layer's own highest ring": spectra.high_frequency(),
        f"at {common} cycle{'s' if common > 1 else ''} per image": spectra.high_frequency(at=common),
    }
    for k, (label, found) in enumerate(curves.items()):
        at = np.array([i for i, name in enumerate(names) if name in found])
        value, low, high = np.array([found[name] for name in names if name in found]).T
        axes.errorbar(
            at,
            value,
            yerr=np.maximum([value - low, high - value], 0),
            color=_frame.COLOURS[k],
            marker=_frame.MARKERS[k],
            markersize=4,
            linestyle=_frame.LINE_STYLES[k],
            label=label,
        )
    step = -(-len(names) // 24)
    shown = [name if len(name) <= 20 else "..." + name[-17:] for name in names[::step]]
    axes.set_xticks(np.arange(len(names))[::step], shown, rotation=60, ha="right", fontsize=7)
    for text in axes.get_xticklabels():
        _frame.plain(text)
    axes.set_ylabel("log amplitude minus that of zero frequency")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, framealpha=0.8)
