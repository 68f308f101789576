"""The convolution bottleneck: singular values against the layer, coloured by frequency, explained below."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from fastfreq.core.bottleneck import BottleneckResult
from fastfreq.core.spectrum import LayerSpectrum

from . import _frame


def plot_bottleneck(result: BottleneckResult) -> Figure:
    """placeholder."""
    return _frame.new_figure(4, 4)
