"""Images beside what was made of their codes, layer by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from . import _frame, _pictures

if TYPE_CHECKING:
    from fastfreq.features.invert import Inversion


def plot(result: Inversion, *, ax: object = None, most: int = 4) -> Figure:
    """A row for each image: as it is, then what was found from the code of each layer, with its error.

    Args:
        result: what to draw.
        ax: not used, the figure has several panels.
        most: images that are drawn.

    Raises:
        ValueError: axes were given.
    """
    _frame.several(ax)
    rows, columns = min(most, result.n_images), 1 + len(result.layers)
    height = _frame.map_height(result.shape[1:], 1.6)
    figure = _frame.new_figure(1.6 * columns + 0.4, (height + 0.5) * rows + 0.8)
    panels = figure.subplots(rows, columns, squeeze=False)
    caricature = result.objective == "caricature"
    figures = result.gains if caricature else result.pixel_errors
    for j in range(rows):
        _pictures.show(panels[j, 0], result.originals[..., j], f"image {result.image_ids[j]}")
        for i, layer in enumerate(result.layers):
            _pictures.show(panels[j, 1 + i], result.images[i, ..., j], f"{layer}\n{figures[i, j]:.3g}")
    what = "Caricatures of images at each layer" if caricature else "Images again, from the code of each layer"
    number = (
        "how many times the image's own code is in that of the caricature"
        if caricature
        else "squared error of pixels over the image's variance"
    )
    width = max(40, 17 * columns)
    _frame.set_heading(figure, what, width=width)
    _frame.set_caption(figure, f"Numbers: {number}.", width=width)
    return figure
