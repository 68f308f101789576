"""Which input frequencies an image network uses, which break it, which its layers keep, which it learns first."""

import fastfreq_kernels as kernels

from .core.comparison import Comparison
from .core.conventions import CONVENTIONS, Convention
from .core.loading import load
from .core.pixels import NormalizedModel
from .core.results import HeatmapResult, RadialProfile
from .core.sensitivity import SensitivityResult
from .data import ImageData, load_data
from .inputs.gradient import gradient_heatmap
from .inputs.heatmap import heatmap
from .models import load_model

__version__ = "0.1.0"

__all__ = [
    # which frequencies break a model
    "heatmap",
    "gradient_heatmap",
    # what comes back
    "HeatmapResult",
    "SensitivityResult",
    "RadialProfile",
    "Comparison",
    "load",
    # what a perturbation is
    "Convention",
    "CONVENTIONS",
    # models and images
    "NormalizedModel",
    "load_model",
    "load_data",
    "ImageData",
    # the compiled operations
    "kernels",
]
