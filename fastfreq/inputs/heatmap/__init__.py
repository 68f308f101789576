"""The Fourier heat map: which single frequencies break a model."""

from .measurement import heatmap
from .result import Heatmap, RadialProfile

__all__ = ["Heatmap", "RadialProfile", "heatmap"]
