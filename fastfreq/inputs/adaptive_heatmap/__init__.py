"""A Fourier heat map to a stated precision, with as few forward passes as its intervals allow."""

from .measurement import adaptive_heatmap
from .result import AdaptiveHeatmap

__all__ = ["AdaptiveHeatmap", "adaptive_heatmap"]
