"""What a network's filters and units look for, and which fixed features would do."""

from .approximation_curve import approximation_curve
from .image_search import ImageSearch
from .invert import caricature, invert
from .maximize import maximize
from .top_patches import top_patches

__all__ = ["ImageSearch", "approximation_curve", "caricature", "invert", "maximize", "top_patches"]
