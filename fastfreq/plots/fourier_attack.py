"""What a single-frequency attack found: success over queries, and the frequencies that fool."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fastfreq.vocabulary import statistics

from . import _frame

if TYPE_CHECKING:
    from fastfreq.inputs.fourier_attack import FourierAttack


def plot(result: FourierAttack, *, ax: Axes | None = None) -> Figure:
    """The share of images fooled after so many queries with its 95 % Wilson band, and a map of what fooled them.

    Raises:
        ValueError: no image was right to begin with, or `ax`: there are two panels.
    """
    _frame.several(ax)
    if not result.n_attacked:
        raise ValueError(f"expected images that the model gets right to begin with, got none of {result.n_images}")
    height = _frame.map_height(result.size, 3.8)
    figure = _frame.new_figure(9.6, max(height + 1.3, 4.4))
    curve, panel = figure.subplots(1, 2)
    taken, rate = result.curve()
    low, high = statistics.wilson(np.rint(rate * result.n_attacked), result.n_attacked)
    curve.step(taken, rate, where="post", color=_frame.COLOURS[0])
    curve.fill_between(taken, low, high, step="post", color=_frame.COLOURS[0], alpha=0.2, linewidth=0)
    curve.set_xscale("symlog", linthresh=1)
    curve.set_xlim(0, taken[-1])
    curve.set_ylim(0, 1)
    curve.set_xlabel("queries per image")
    curve.set_ylabel("images fooled, share of those right before")
    counts = result.map
    image = _frame.draw_map(panel, counts, limits=(0, max(float(np.nanmax(counts)), 1.0)), ticks=7)
    figure.colorbar(image, ax=panel, shrink=0.85, label="images fooled first at k and -k")
    share = "{:.0%} ({:.0%} to {:.0%})".format(result.success_rate, *result.interval())
    _frame.set_heading(
        figure,
        f"{result.details.get('model', '')}: one wave of norm {result.eps:g} per channel fools {share} of "
        f"{result.n_attacked:,} images",
        width=100,
    )
    grey = " Grey: not tried." if np.isnan(counts).any() else ""
    _frame.set_caption(
        figure,
        f"{len(result.frequencies):,} queries ({result.convention.name}), the same order for every image: "
        f"{result.order}. Band: 95 % interval.{grey}",
        width=100,
    )
    return figure
