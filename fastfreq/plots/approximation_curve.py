"""Best n-term approximation: squared error over the number of terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import _frame

if TYPE_CHECKING:
    from fastfreq.features.approximation_curve import ApproximationCurve


def plot(result: ApproximationCurve, *, ax: Axes | None = None) -> Figure:
    """Mean squared error over terms, on log axes, with its interval and the fitted rate.

    Args:
        result: what to draw.
        ax: axes of yours to draw into; None for a figure of its own.
    """
    if ax is not None:
        _draw(ax, result, _frame.COLOURS[0], result.frame)
        _finish(ax)
        return _frame.Panel(ax, 0, 0).figure
    return plot_many({result.frame: result})


def plot_many(results: Mapping[str, ApproximationCurve]) -> Figure:
    """Several frames on one pair of axes.

    Raises:
        ValueError: no results.
    """
    if not results:
        raise ValueError("expected at least one curve to draw, got none")
    figure = _frame.new_figure(6.4, 4.8)
    axes = figure.subplots()
    for i, (name, result) in enumerate(results.items()):
        _draw(axes, result, _frame.COLOURS[i % len(_frame.COLOURS)], name)
    _finish(axes)
    first = next(iter(results.values()))
    _frame.set_heading(
        figure, f"Best n-term approximation, {first.n_images:,} images of {first.shape[1]} x {first.shape[2]}"
    )
    _frame.set_caption(
        figure,
        "Mean squared error that the n largest coefficients leave. Band: 95 % interval over images. Dashed: the fitted "
        "rate. Theory for smooth pictures with smooth edges: 1/2 for Fourier, 1 for wavelets, 2 for curvelets.",
    )
    return figure


def _draw(axes: Axes, result: ApproximationCurve, colour: str, name: str) -> None:
    terms, error = result.counts, result.error
    shown = error > 0
    try:
        rate = result.rate()
        name = f"{name}: n^-{rate.alpha:.2f}"
        inside = (terms >= rate.lowest) & (terms <= rate.highest) & shown
        x = np.log(terms[inside])
        line = np.exp(np.log(error[inside]).mean() - rate.alpha * (x - x.mean()))
        axes.plot(terms[inside], line, linestyle="--", color=colour, linewidth=1)
    except ValueError:
        pass
    axes.plot(terms[shown], error[shown], color=colour, marker=".", label=name)
    low, high = result.interval()
    if np.isfinite(low).all():
        axes.fill_between(terms[shown], np.maximum(low, error.min() / 10)[shown], high[shown], color=colour, alpha=0.2)


def _finish(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("terms n")
    axes.set_ylabel("mean squared error")
    axes.legend()
