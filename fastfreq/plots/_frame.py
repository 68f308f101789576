"""What every figure shares: axes in cycles per image, colours, sizes in inches, PNG bytes."""

from __future__ import annotations

import io
import math
import textwrap
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.text import Text
from numpy.typing import NDArray

from fastfreq.results import store

FloatArray = NDArray[np.float64]

SEQUENTIAL = "viridis"  # perceptually uniform, legible without red-green vision and in grey
DIVERGING = "RdBu_r"  # red where the error is higher
NOT_EVALUATED = "#9a9a9a"  # in neither colour map
# Okabe and Ito's palette less its yellow, which vanishes on white
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINE_STYLES = ("-", "-.", ":")


class NotebookFigure(Figure):
    """A Figure that a notebook shows although pyplot never heard of it."""

    def _repr_png_(self) -> bytes:
        return figure_png(self, dpi=100)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure that keeps its labels from overlapping."""
    return NotebookFigure(figsize=(width, height), layout="constrained")


class Panel:
    """One panel: a figure of its own, or axes of the caller's, which get a title in place of heading and caption.

    Args:
        ax: the caller's axes, or None.
        width: of the figure, in inches.
        height: of the figure.

    Raises:
        TypeError: something else than axes.
    """

    def __init__(self, ax: Axes | None, width: float, height: float) -> None:
        if ax is not None and not isinstance(ax, Axes):
            raise TypeError(f"expected `ax` as matplotlib axes, got {type(ax).__name__}")
        self._own = ax is None
        self.axes = new_figure(width, height).add_subplot() if ax is None else ax
        figure = self.axes.get_figure(root=True)
        assert figure is not None
        self.figure: Figure = figure

    def heading(self, text: str) -> None:
        """What is drawn, and of what."""
        if self._own:
            set_heading(self.figure, text)
        else:
            set_title(self.axes, text, width=60)

    def caption(self, text: str) -> None:
        """A small line below everything else; none in the caller's figure."""
        if self._own:
            set_caption(self.figure, text)


def several(ax: object) -> None:
    """Refuse the caller's axes for a figure of several panels.

    Raises:
        ValueError: axes were given.
    """
    if ax is not None:
        raise ValueError("expected no `ax`, this figure has several panels; leave it out and take the figure returned")


def figure_png(figure: Figure, *, dpi: int = 150) -> bytes:
    """The figure as PNG bytes; equal figures give equal bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def save_png(figure: Figure, path: str | Path) -> None:
    """Write the figure as a PNG, all or nothing.

    Raises:
        ValueError: a path that does not end in .png.
    """
    if Path(path).suffix.lower() != ".png":
        raise ValueError(f"expected a path that ends in .png, got {str(path)!r}; use figure.savefig for other formats")
    with store.atomic_path(path) as temporary:
        temporary.write_bytes(figure_png(figure))


def plain(text: Text) -> Text:
    """`text` as typed: a dollar sign in a model's name is no formula."""
    text.set_parse_math(False)
    return text


def _wrap(text: str, width: int) -> str:
    """`text` wrapped at `width` characters; its own lines stay lines."""
    return "\n".join(piece for line in text.split("\n") for piece in (textwrap.wrap(line, width) or [""]))


def set_title(axes: Axes, text: str, *, width: int, size: float = 10) -> None:
    """A title of one panel."""
    plain(axes.set_title(_wrap(text, width), fontsize=size))


def set_heading(figure: Figure, text: str, *, width: int = 68) -> None:
    """A title of the whole figure, which may be wider than a tall map."""
    plain(figure.suptitle(_wrap(text, width), fontsize=10))


def set_caption(figure: Figure, text: str, *, width: int = 75) -> None:
    """A small line below everything else."""
    plain(figure.supxlabel(_wrap(text, width), fontsize=9, color="#444444"))


def extent(size: tuple[int, int]) -> tuple[float, float, float, float]:
    """(left, right, bottom, top) that puts the cell (rows // 2, columns // 2) of a map at (0, 0), ky downwards."""
    rows, columns = size
    top, left = -(rows // 2) - 0.5, -(columns // 2) - 0.5
    return left, left + columns, top + rows, top


def integer_ticks(n: int, *, most: int = 9) -> list[int]:
    """At most about `most` integers, zero among them, from the n frequencies -(n // 2) .. n - 1 - n // 2."""
    first, last = -(n // 2), n - 1 - n // 2
    half = max(-first, 1)
    steps = [base * 10**power for power in range(len(str(half)) + 1) for base in (1, 2, 5)]
    if half & (half - 1) == 0:  # 16 is better cut into fours than into fives
        steps = [1 << power for power in range(half.bit_length())]
    step = next((s for s in steps if 2 * half // s < most), steps[-1])
    return [k for k in range(-(half // step) * step, half + 1, step) if first <= k <= last]


def colour_map(name: str) -> Colormap:
    """The colour map, with cells that were not evaluated in grey."""
    return matplotlib.colormaps[name].with_extremes(bad=NOT_EVALUATED)


def own_limits(values: FloatArray) -> tuple[float, float]:
    """The range of the finite values, never empty."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def symmetric_limits(values: FloatArray) -> tuple[float, float]:
    """The smallest range around zero that holds the finite values; -1 .. 1 if they are all zero."""
    finite = values[np.isfinite(values)]
    largest = float(np.abs(finite).max()) if finite.size else 0.0
    return (-largest, largest) if largest > 0 else (-1.0, 1.0)


def draw_map(
    axes: Axes,
    values: FloatArray,
    *,
    limits: tuple[float, float],
    cmap: str = SEQUENTIAL,
    ticks: int = 9,
    labels: tuple[bool, bool] = (True, True),
) -> AxesImage:
    """One centred map (rows, columns) with axes in cycles per image; `labels` names the (ky, kx) axes."""
    rows, columns = values.shape
    image = axes.imshow(
        np.ma.masked_invalid(values),
        extent=extent((rows, columns)),
        origin="upper",
        interpolation="nearest",
        aspect="equal",
        cmap=colour_map(cmap),
        vmin=limits[0],
        vmax=limits[1],
    )
    longer = max(rows, columns)
    axes.set_xticks(integer_ticks(columns, most=max(3, math.ceil(ticks * columns / longer))))
    axes.set_yticks(integer_ticks(rows, most=max(3, math.ceil(ticks * rows / longer))))
    if labels[0]:
        axes.set_ylabel("ky, cycles per image")
    if labels[1]:
        axes.set_xlabel("kx, cycles per image")
    return image


def map_height(size: tuple[int, int], width: float) -> float:
    """Height in inches of a map drawn `width` inches wide, within reason for very oblong images."""
    rows, columns = size
    return min(max(width * rows / columns, 0.8), 1.8 * width)


def grid(count: int, *, most: int = 4) -> tuple[int, int]:
    """(rows, columns) of panels for `count` of them, at most `most` beside each other."""
    rows = math.ceil(count / most)
    return rows, math.ceil(count / rows)
