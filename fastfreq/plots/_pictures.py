"""Pictures side by side, of any number of channels."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from . import _frame


def show(axes: Axes, pixels: NDArray[np.floating], title: str = "", *, size: float = 8) -> None:
    """Pixels (c, h, w) in [0, 1]: colours where there are three channels, else the mean of channels in grey."""
    axes.set_axis_off()
    shown = pixels.transpose(1, 2, 0) if len(pixels) == 3 else pixels.mean(axis=0)
    axes.imshow(np.clip(shown, 0, 1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    if title:
        _frame.set_title(axes, title, width=26, size=size)
