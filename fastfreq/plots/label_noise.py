"""Losses while networks are trained on labels with noise of one frequency each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import _frame

if TYPE_CHECKING:
    from fastfreq.training.spectral_bias.label_noise import LabelNoise


def plot(result: LabelNoise, *, ax: Axes | None = None) -> Figure:
    """Left the loss on other images with clean labels, right that on the noisy ones, by step; logarithmic.

    Raises:
        ValueError: `ax` is given; there are two panels.
    """
    _frame.several(ax)
    figure = _frame.new_figure(10.8, 4.4)
    left, right = figure.subplots(1, 2, sharex=True)
    for axes, curves, label in (
        (left, result.mean_validation_loss, "validation loss, clean labels"),
        (right, result.mean_training_loss, "training loss, noisy labels"),
    ):
        for index, (k, curve) in enumerate(zip(result.frequencies, curves, strict=True)):
            colour = _frame.COLOURS[index % len(_frame.COLOURS)]
            style = _frame.LINE_STYLES[index // len(_frame.COLOURS) % len(_frame.LINE_STYLES)]
            name = "no noise" if k == 0 else f"k = {k:g}"
            axes.plot(result.steps, curve, color=colour, linestyle=style, linewidth=1.3, label=name)
        axes.set_yscale("log")
        axes.set_xlabel("step")
        axes.set_ylabel(label)
        axes.grid(alpha=0.25)
    left.legend(fontsize=8, frameon=False, ncols=2)
    name = result.details.get("model", "")
    _frame.set_heading(
        figure, f"{name}: labels with a wave sin(2 pi k |x|) of amplitude {result.amplitude:g}", width=100
    )
    many = f"{len(result.seeds)} network{'s' if len(result.seeds) > 1 else ''}"
    mean, deviation = result.norms
    said = f"Mean of {many} for each k, {result.samples[0]:,} training samples, |x| = {mean:.2f} +- {deviation:.2f}."
    _frame.set_caption(figure, said, width=110)
    return figure
