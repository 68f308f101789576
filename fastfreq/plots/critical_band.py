"""Critical-band masking: psychometric functions by band, and the channel that fits the bands' sensitivities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import _frame

if TYPE_CHECKING:
    from fastfreq.inputs.critical_band import Channel, CriticalBand
    from fastfreq.inputs.critical_band.result import Scale


def plot(result: CriticalBand, *, criterion: float = 0.5, scale: Scale = "octaves", ax: Axes | None = None) -> Figure:
    """Accuracy against noise for each band; sensitivity against frequency with the fitted Gaussian channel.

    Args:
        result: what was measured.
        criterion: accuracy that defines the thresholds.
        scale: of the fit, see `CriticalBand.channel`.
        ax: refused: there are two panels.

    Where there is no channel, since clean images do not reach the criterion or no noise does, the picture says so.
    """
    _frame.several(ax)
    figure = _frame.new_figure(11.2, 4.6)
    left, right = figure.subplots(1, 2)
    _psychometric(left, result, criterion)
    try:
        channel = result.channel(criterion=criterion, scale=scale)
    except ValueError as error:
        right.set_axis_off()
        _frame.set_title(right, f"no channel: {error}", width=60, size=9)
    else:
        _channel(right, result, criterion, channel)
    what = "grey" if result.grayscale else "colour"
    contrast = "" if result.contrast == 1 else f", contrast {result.contrast:g}"
    name = result.details.get("model", "")
    _frame.set_heading(
        figure,
        f"{name}: Gaussian noise in octave bands, {result.n_images:,} {what} images{contrast}, "
        f"clean accuracy {result.clean_accuracy:.3f}",
        width=110,
    )
    return figure


def _psychometric(axes: Axes, result: CriticalBand, criterion: float) -> None:
    colours = matplotlib.colormaps[_frame.SEQUENTIAL](np.linspace(0, 0.9, len(result.bands)))
    low, high = result.interval()
    for k, band in enumerate(result.bands):
        marker = _frame.MARKERS[k % len(_frame.MARKERS)]
        label = f"{band:.3g}"
        # side by side, so that the intervals of different bands can be told apart
        at = result.deviations * 2 ** (0.12 * ((k + 0.5) / len(result.bands) - 0.5))
        value = result.accuracy[k]
        axes.errorbar(
            at,
            value,
            yerr=np.maximum([value - low[k], high[k] - value], 0),
            color=colours[k],
            marker=marker,
            markersize=4,
            linewidth=1.3,
            elinewidth=0.8,
            label=label,
        )
    axes.axhline(result.clean_accuracy, color="#444444", linestyle="--", linewidth=0.8)
    axes.axhline(criterion, color="#444444", linestyle=":", linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.set_xticks(result.deviations, [f"{d:g}" for d in result.deviations])
    axes.minorticks_off()
    axes.set_ylim(0, 1)
    axes.set_xlabel("standard deviation of the noise, pixels of [0, 1]")
    axes.set_ylabel("accuracy")
    axes.grid(alpha=0.25)
    beside = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "borderaxespad": 0.0}  # curves may be anywhere
    axes.legend(title="band, cycles\nper image", fontsize=8, title_fontsize=8, frameon=False, **beside)
    _frame.set_title(axes, "dashed: without noise; dotted: criterion; bars: 95 %", width=60, size=9)


def _channel(axes: Axes, result: CriticalBand, criterion: float, channel: Channel) -> None:
    thresholds = result.thresholds(criterion=criterion)
    floor = 1 / channel.ceiling
    least = result.deviations[0] / 2  # where a bar ends that has no end
    ends = (thresholds.deviation, thresholds.high, np.maximum(thresholds.low, least))
    value, low, high = (np.maximum(1 / d, floor / 1.5) for d in ends)
    seen = np.isfinite(thresholds.deviation)
    axes.errorbar(
        result.bands[seen],
        value[seen],
        yerr=np.maximum([value[seen] - low[seen], high[seen] - value[seen]], 0),
        color=_frame.COLOURS[0],
        marker="o",
        linestyle="none",
        label="threshold of a band, 95 %",
    )
    if not seen.all():
        axes.plot(
            result.bands[~seen],
            np.full(np.sum(~seen), floor),
            color=_frame.COLOURS[0],
            marker="v",
            fillstyle="none",
            linestyle="none",
            label="above the criterion at every deviation",
        )
    curve = np.geomspace(result.bands[0] / np.sqrt(2), result.bands[-1] * np.sqrt(2), 200)
    axes.plot(curve, np.maximum(channel.sensitivity(curve), floor / 4), color=_frame.COLOURS[1], label="fitted channel")
    axes.axvspan(channel.centre.low, channel.centre.high, color=_frame.COLOURS[1], alpha=0.15, linewidth=0)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xticks(result.bands, [f"{b:.3g}" for b in result.bands])
    axes.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axes.minorticks_off()
    axes.set_ylim(bottom=floor / 1.6)
    axes.set_xlabel("cycles per image")
    axes.set_ylabel("sensitivity, 1 / threshold deviation")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, framealpha=0.8)
    centre, width = channel.centre, channel.bandwidth
    where = f"centre {centre.value:.3g} ({centre.low:.3g} .. {centre.high:.3g})"
    if channel.edge is not None:
        where = f"centre at or {'below' if channel.edge == 'lower' else 'above'} {centre.value:.3g}"
    _frame.set_title(
        axes,
        f"{where} cycles per image\nbandwidth {width.value:.2g} ({width.low:.2g} .. {width.high:.2g}) octaves",
        width=62,
        size=9,
    )
