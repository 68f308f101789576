"""Accuracy under corruptions, and what it gains over a baseline against the frequencies that corruptions change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from . import _frame

if TYPE_CHECKING:
    from fastfreq.inputs.corruption_report import CorruptionReport


def plot(report: CorruptionReport, *, ax: Axes | None = None) -> Figure:
    """A table of accuracies, and each corruption at its share of high-frequency energy.

    With a baseline the second panel is Figure 6 of Yin et al. 2019: accuracy minus the baseline's against the share,
    with 95 % intervals over images and the least-squares line; without one it shows the accuracy.

    Raises:
        ValueError: `ax`: there are two panels.
    """
    _frame.several(ax)
    k = len(report.corruptions)
    width = 2.6 + 0.62 * len(report.severities)
    figure = _frame.new_figure(width + 5.4, max(4.2, 1.6 + 0.27 * k))
    left, right = figure.subplots(1, 2, width_ratios=(width, 5.4))
    _draw_table(left, report)
    if report.has_baseline:
        _draw_gain(right, report)
    else:
        _draw_accuracy(right, report)
    right.axvline(report.white_noise_fraction, color="#444444", linestyle=":", linewidth=0.9)
    right.set_xlim(-0.05, 1.0)
    right.set_xlabel("share of energy at high frequencies (dotted: white noise)")
    right.grid(alpha=0.25)
    names = [name for name in (report.details.get("model", ""), report.baseline_name) if name]
    _frame.set_heading(figure, f"{' against '.join(names)} under corruptions ({report.source})", width=110)
    _frame.set_caption(
        figure, f"{report.n_images:,} images, mean over severities on the right. Clean: {report.clean_accuracy:.3f}."
    )
    return figure


def _draw_table(axes: Axes, report: CorruptionReport) -> None:
    accuracy = report.accuracy
    axes.imshow(accuracy, cmap=_frame.SEQUENTIAL, vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(accuracy):
        colour = "black" if value > 0.6 else "white"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)
    names = [f"{name}  {row + 1}" for row, name in enumerate(report.corruptions)]
    for label in axes.set_yticks(range(len(names)), names, fontsize=8):
        _frame.plain(label.label1)
    axes.set_xticks(range(len(report.severities)), [str(s) for s in report.severities])
    axes.set_xlabel("severity")
    _frame.set_title(axes, "accuracy", width=30)


def _draw_gain(axes: Axes, report: CorruptionReport) -> None:
    gain, (low, high) = report.gain, report.gain_interval()
    x = report.high_fraction
    axes.axhline(0, color="#444444", linewidth=0.8)
    axes.errorbar(
        x, gain, yerr=[gain - low, high - gain], fmt="o", markersize=4, linewidth=0.9, color=_frame.COLOURS[0]
    )
    _number(axes, x, gain)
    known = x[np.isfinite(x)]
    title = "accuracy minus the baseline's"
    if len(np.unique(known)) > 1:
        fit = report.fit()
        ends = np.array([known.min(), known.max()])
        axes.plot(ends, fit.intercept + fit.slope * ends, color=_frame.COLOURS[1])
        title += f"\nslope k = {fit.slope:.3f} [{fit.low:.3f}, {fit.high:.3f}], residual r = {fit.residual:.3f}"
    _frame.set_title(axes, title, width=60)


def _draw_accuracy(axes: Axes, report: CorruptionReport) -> None:
    mean = report.accuracy.mean(axis=1)
    axes.plot(report.high_fraction, mean, "o", markersize=4, color=_frame.COLOURS[0])
    axes.axhline(report.clean_accuracy, color="#444444", linestyle="--", linewidth=0.8)
    axes.set_ylim(0, 1)
    _number(axes, report.high_fraction, mean)
    _frame.set_title(axes, "accuracy (dashed: clean)", width=60)


def _number(axes: Axes, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
    """The table's row numbers beside the points, each on the side that is farthest from everything placed before."""
    rows = np.flatnonzero(np.isfinite(x))
    spread = max(float(np.ptp(y[rows])), 1e-9) if len(rows) else 1.0
    points = np.stack([x[rows], (y[rows] - y[rows].min()) / spread], axis=1)
    angles = np.array([0, 4, 1, 7, 3, 5]) * np.pi / 4  # not up or down, where the bars of intervals are
    sides = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    taken = [*points]
    for row, point in zip(rows, points, strict=True):
        candidates = point + 0.035 * sides
        others = np.array([other for other in taken if other is not point])
        room = np.array([np.inf if not len(others) else np.hypot(*(others - c).T).min() for c in candidates])
        best = int(room.argmax())
        taken.append(candidates[best])
        axes.annotate(
            str(row + 1), (x[row], y[row]), tuple(10 * sides[best]), textcoords="offset points", fontsize=8,
            ha="center", va="center", zorder=5, bbox={"pad": 0.3, "fc": "white", "ec": "none", "alpha": 0.7},
        )  # fmt: skip
