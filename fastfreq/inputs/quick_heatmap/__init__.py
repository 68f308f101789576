"""The quick heat map: few images at each frequency, other ones at each, and a smooth map through what they say."""

from .measurement import quick_heatmap
from .result import QuickHeatmap

__all__ = ["QuickHeatmap", "quick_heatmap"]
