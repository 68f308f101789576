"""What a network's filters and units look for, and which fixed features would do."""

from .approximation_curve import approximation_curve
from .filters import filters
from .gabor import fit_gabors
from .nearest_wavelet import nearest_wavelets

__all__ = ["approximation_curve", "filters", "fit_gabors", "nearest_wavelets"]
