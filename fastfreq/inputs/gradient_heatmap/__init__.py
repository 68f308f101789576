"""The gradient heat map: every frequency's first-order effect, from one backward pass per image."""

from .measurement import gradient_heatmap
from .result import GradientHeatmap

__all__ = ["GradientHeatmap", "gradient_heatmap"]
