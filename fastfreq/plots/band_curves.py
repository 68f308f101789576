"""Curves over bandwidths of filters and of noise, and what filters leave of an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import fastfreq_kernels as kernels
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from fastfreq.vocabulary import masks

from . import _frame

if TYPE_CHECKING:
    from fastfreq.inputs.band_curves import BandCurve

    Curves = Mapping[str, BandCurve | Sequence[BandCurve]]


def plot(
    result: BandCurve,
    *,
    metric: str = "accuracy",
    others: Mapping[str, BandCurve] | None = None,
    ax: Axes | None = None,
) -> Figure:
    """The curve with its 95 % band, and `others` beside it by name.

    Args:
        result: what was measured.
        metric: "accuracy", or one that every curve measured.
        others: name -> curve, of other models.
        ax: axes to draw the curve into, without others; a figure of its own if None.
    """
    if ax is None:
        own = result.details.get("model", "model")
        if others and own in others:
            own += " (this curve)"
        return plot_many({own: result, **(others or {})}, metric=metric)
    panel = _frame.Panel(ax, 6.0, 3.4)
    _draw_curve(panel.axes, result, metric, 0)
    _label(panel.axes, result)
    panel.axes.set_ylabel(metric)
    panel.heading(_title(result))
    return panel.figure


def _label(axes: Axes, curve: BandCurve) -> None:
    """The horizontal axis."""
    if curve.mask.endswith("octave"):
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
    if curve.mask not in masks.MASKS:
        axes.set_xticks(curve.bandwidths)  # numbers of masks
    axes.set_xlabel(curve.axis)
    axes.grid(alpha=0.25)


def plot_many(results: Curves, *, metric: str = "accuracy") -> Figure:
    """A metric over bandwidths with its 95 % interval: a panel for every family of masks, a colour for every model.

    Args:
        results: model name -> its curve, or its curves of several families, such as low and high pass.
        metric: "accuracy", or one that every curve measured.

    Raises:
        ValueError: no results, or two curves of one model and family.
    """
    panels: dict[str, dict[str, BandCurve]] = {}
    for name, given in results.items():
        curves: Any = given if isinstance(given, (list, tuple)) else [given]
        for curve in curves:
            panel = panels.setdefault(_title(curve), {})
            if name in panel:
                raise ValueError(f"expected one curve of {name!r} per family of masks, got two: {_title(curve)}")
            panel[name] = curve
    if not panels:
        raise ValueError("expected at least one curve, as in {'resnet50': curve}, got none")
    rows, columns = _frame.grid(len(panels), most=3)
    figure = _frame.new_figure(max(6.0, 4.2 * columns), 3.4 * rows + 0.25 * len(results) + 0.6)
    names = list(results)
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
    handles: dict[str, Line2D] = {}
    for at, (title, panel) in zip(axes.flat, panels.items(), strict=False):
        for name, curve in panel.items():
            handles[name] = _draw_curve(at, curve, metric, names.index(name))
        _label(at, next(iter(panel.values())))
        _frame.set_title(at, title, width=44)
    for at in axes.flat[len(panels) :]:
        at.set_visible(False)
    for at in axes[:, 0]:
        at.set_ylabel(metric)
    if metric in ("accuracy", "error") or metric.endswith("_error"):
        axes[0, 0].set_ylim(0, 1)
    _legend(figure, {name: handles[name] for name in names if name in handles})
    return figure


def _title(curve: BandCurve) -> str:
    """What was done to the images, in one line."""
    what = masks.MASKS[curve.mask].formula if curve.mask in masks.MASKS else "masks of the caller"
    clipped = ", clipped" if curve.clip else ""
    norm = getattr(curve, "norm", None)
    if norm is not None:
        return f"noise of norm {norm:g} in {curve.mask}{clipped}\nwhere {what}"
    contrast = ", contrast restored" if getattr(curve, "normalise_contrast", False) else ""
    return f"filter {curve.mask}{contrast}{clipped}\nkeeps {what}"


def _draw_curve(axes: Axes, curve: BandCurve, metric: str, k: int) -> Line2D:
    """The k-th model's curve; what stands for it in the legend."""
    colour, marker = _frame.COLOURS[k % len(_frame.COLOURS)], _frame.MARKERS[k % len(_frame.MARKERS)]
    style = _frame.LINE_STYLES[k // len(_frame.COLOURS) % len(_frame.LINE_STYLES)]
    if metric == "accuracy":
        values, low, high, clean = curve.accuracy, curve.low, curve.high, curve.clean_accuracy
    else:
        values, (low, high), clean = curve.metric(metric), curve.interval(metric), curve.clean_metric(metric)
    every = max(1, len(values) // 12)
    (line,) = axes.plot(
        curve.bandwidths, values, color=colour, linestyle=style, marker=marker, markevery=every, markersize=5
    )
    axes.fill_between(curve.bandwidths, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.axhline(clean, color=colour, linestyle="--", linewidth=0.8)
    return line


def _legend(figure: Figure, lines: dict[str, Line2D]) -> None:
    clean = Line2D([], [], color="#444444", linestyle="--", linewidth=0.8)
    labels = [*(f"{k}" for k in range(len(lines))), "same colour: images as they are"]
    legend = figure.legend([*lines.values(), clean], labels, loc="outside upper left", frameon=False)
    for text, name in zip(legend.get_texts(), lines, strict=False):  # afterwards: a legend drops names that start "_"
        _frame.plain(text).set_text(name if len(name) <= 70 else name[:67] + "...")


def plot_filtered(
    image: Tensor, *, kinds: Sequence[str] = ("low", "high"), bandwidths: Sequence[float] | None = None
) -> Figure:
    """What filters leave of one image: a row for every family, a column for every bandwidth.

    Contrast is restored, as in Figure 1 of Yin et al. 2019: each panel has the mean and standard deviation of the
    image. Panels are clipped to [0, 1].

    Args:
        image: (c, h, w), 1 or 3 channels, in [0, 1] or uint8.
        kinds: families of masks, as for `filter_curve`.
        bandwidths: None for four of the usual ones of each family.

    Raises:
        ValueError: an image of another shape, or a family or bandwidth that does not exist.
    """
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise ValueError(f"expected an `image` (c, h, w) of 1 or 3 channels, got {tuple(image.shape)}")
    shape = (int(image.shape[1]), int(image.shape[2]))
    rows = [(kind, _some(kind, shape)) for kind in kinds]
    if bandwidths is not None:
        rows = [(kind, list(bandwidths)) for kind in kinds]
    columns = max(len(chosen) for _, chosen in rows)
    height = _frame.map_height(shape, 1.8)
    figure = _frame.new_figure(1.9 * columns + 0.3, (height + 0.35) * len(rows) + 0.5)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, (kind, chosen) in zip(axes, rows, strict=True):
        kept = torch.from_numpy(masks.stack(kind, shape, chosen)).to(image.device)
        filtered = kernels.filter_bands(image[None], kept, normalise_contrast=True, clip=True)[:, 0].cpu().numpy()
        for at, pixels, bandwidth in zip(line, filtered, chosen, strict=False):
            at.imshow(np.squeeze(pixels.transpose(1, 2, 0)), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            _frame.set_title(at, f"{bandwidth:g}", width=20, size=9)
        line[0].set_ylabel(masks.named(kind).name, fontsize=9)
        for at in line:
            at.set_xticks([])
            at.set_yticks([])
        for at in line[len(chosen) :]:
            at.set_visible(False)
    _frame.set_caption(figure, "bandwidth above each panel; contrast restored", width=20 * columns + 10)
    return figure


def _some(kind: str, shape: tuple[int, int], count: int = 4) -> list[float]:
    """A few of the usual bandwidths, without those that keep nothing or everything."""
    usual = masks.default_bandwidths(masks.named(kind).name, shape)
    kept = masks.stack(kind, shape, usual).mean(axis=(1, 2))
    inside = [b for b, share in zip(usual, kept, strict=True) if 0 < share < 1] or usual
    return [inside[i] for i in np.unique(np.linspace(0, len(inside) - 1, count).round().astype(int))]
