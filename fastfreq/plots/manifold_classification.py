"""Two classes that alternate along a curve: accuracy and loss by frequency and shape."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from . import _frame

if TYPE_CHECKING:
    from fastfreq.training.spectral_bias.manifold_classification import ManifoldClassification


def plot(result: ManifoldClassification, *, ax: Axes | None = None) -> Figure:
    """Left the accuracy, right the cross-entropy after the last step, over frequency and shape.

    Raises:
        ValueError: `ax` is given; there are two panels.
    """
    _frame.several(ax)
    figure = _frame.new_figure(10.4, 4.4)
    panels = figure.subplots(1, 2)
    _grid(figure, panels[0], result, result.mean_accuracy, "accuracy", (0.5, 1.0))
    _grid(figure, panels[1], result, result.mean_loss, "cross-entropy", (0.0, max(0.7, result.mean_loss.max())))
    name = result.details.get("model", "")
    _frame.set_heading(figure, f"{name}: sign of a wave of frequency k along a curve of L petals", width=100)
    many = f"{len(result.seeds)} network{'s' if len(result.seeds) > 1 else ''}"
    said = f"Mean of {many} for each cell after {result.steps[-1]:,} steps, {result.samples} points."
    _frame.set_caption(figure, said, width=110)
    return figure


def _grid(
    figure: Figure, axes: Axes, result: ManifoldClassification, values: NDArray, label: str, limits: tuple[float, float]
) -> None:
    image = axes.imshow(values, origin="lower", aspect="auto", cmap=_frame.SEQUENTIAL, vmin=limits[0], vmax=limits[1])
    middle = sum(limits) / 2
    for (row, column), value in ((at, values[at]) for at in _cells(values.shape)):
        colour = "white" if value < middle else "black"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)
    axes.set_xticks(range(len(result.shapes)), [f"{shape:g}" for shape in result.shapes])
    axes.set_yticks(range(len(result.frequencies)), [str(k) for k in result.frequencies])
    axes.set_xlabel("petals L")
    axes.set_ylabel("frequency k along the curve")
    figure.colorbar(image, ax=axes, label=label)


def _cells(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    return [(i, j) for i in range(shape[0]) for j in range(shape[1])]
