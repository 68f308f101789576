"""A latent edit as a grid: one row per image, with its input, its output and its output for each factor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from . import _frame

if TYPE_CHECKING:
    from fastfreq.layers.latent_edit import LatentEdit

_MOST_ROWS = 8
_SIDE = 1.35  # inches of a panel
_NYQUIST_ONLY = "It stands for itself alone (k = -k), so that its coordinate is real: it has a sign and no phase."


def plot(edit: LatentEdit, *, ax: Axes | None = None) -> Figure:
    """Columns: input, output, output for each factor; rows: images, at most the first eight.

    Maps of 1 channel are grey and of 3 in colour; of another number they stand side by side, as frames. Signals are
    lines and logits bars. All outputs share the range of the unchanged ones.
    """
    _frame.several(ax)
    rows = min(len(edit.images), _MOST_ROWS)
    columns = 2 + len(edit.factors)
    widths = [_frames(edit.images), *[_frames(edit.outputs)] * (columns - 1)]
    width = max(6.4, min(22.0, _SIDE * sum(widths) + 0.4))
    figure = _frame.new_figure(width, _SIDE * rows + 1.7)
    panels = figure.subplots(rows, columns, squeeze=False, width_ratios=widths)
    inputs, outputs = _frame.own_limits(edit.images), _frame.own_limits(edit.outputs)
    for row in range(rows):
        _draw(panels[row, 0], edit.images[row], inputs)
        _draw(panels[row, 1], edit.outputs[row], outputs)
        for column, changed in enumerate(edit.edited):
            _draw(panels[row, 2 + column], changed[row], outputs)
    names = ["input", "output", *(f"× {factor_text(factor)}" for factor in edit.factors)]
    for axes, name in zip(panels[0], names, strict=True):
        axes.set_title(name, fontsize=9)
    at = ", ".join(map(str, edit.frequency))
    heading = (
        f"{edit.layer}: singular vector {edit.index} at frequency ({at}), singular value {edit.singular_value:.3g}"
    )
    _frame.set_heading(figure, heading, width=int(12 * width))
    _frame.set_caption(figure, _caption(edit, rows), width=int(13 * width))
    return figure


def factor_text(factor: complex) -> str:
    """A complex number as people write it: "2", "0.5", "i", "-i", "0.6 + 0.8i"."""
    real, imaginary = float(np.real(factor)), float(np.imag(factor))
    if imaginary == 0:
        return f"{real:.3g}"
    size = "" if abs(imaginary) == 1 else f"{abs(imaginary):.3g}"
    if real == 0:
        return f"{'-' if imaginary < 0 else ''}{size}i"
    return f"{real:.3g} {'-' if imaginary < 0 else '+'} {size}i"


def _frames(values: NDArray[Any]) -> int:
    """How many maps of one image stand side by side."""
    return values.shape[1] if values.ndim == 4 and values.shape[1] not in (1, 3) else 1


def _draw(axes: Axes, value: NDArray[Any], limits: tuple[float, float]) -> None:
    """One image (c, h, w), signal (c, n) or vector of logits (n,)."""
    axes.set_xticks([])
    axes.set_yticks([])
    if value.ndim == 3:
        axes.imshow(_picture(value, limits), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        return
    margin = 0.05 * (limits[1] - limits[0])
    axes.set_ylim(limits[0] - margin, limits[1] + margin)
    if value.ndim == 2:
        for channel, line in enumerate(value):
            axes.plot(line, color=_frame.COLOURS[channel % len(_frame.COLOURS)], linewidth=1)
    else:
        axes.bar(np.arange(value.size), value.reshape(-1), color=_frame.COLOURS[0])
    axes.axhline(0, color="#888888", linewidth=0.5)


def _picture(value: NDArray[Any], limits: tuple[float, float]) -> NDArray[np.float64]:
    """(h, w) grey or (h, w, 3) colours in 0 .. 1; frames side by side with a light line between them."""
    shown = np.clip((value.astype(np.float64) - limits[0]) / (limits[1] - limits[0]), 0, 1)
    if len(shown) == 3:
        return shown.transpose(1, 2, 0)
    line = np.full((shown.shape[1], 1), 0.7)
    parts = [part for frame in shown for part in (frame, line)]
    return np.concatenate(parts[:-1], axis=1)


def _caption(edit: LatentEdit, rows: int) -> str:
    text = (
        f"Under × f: the output after the coordinate of {edit.layer}'s input along this vector was multiplied by f"
        + (", and its conjugate partner at -k by the conjugate of f. " if not edit.own_twin else ". ")
    )
    if edit.own_twin:
        text += _NYQUIST_ONLY
    else:
        text += (
            "A phase factor exp(iφ) moves what the coordinate encodes by φ / 2π of its wavelength, towards the origin; "
            "2 and 0.5 make it stronger and weaker."
        )
    return text + (f" The first {rows} of {len(edit.images)} images." if rows < len(edit.images) else "")
