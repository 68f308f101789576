"""What a network's filters and units look for, and which fixed features would do."""

from .approximation_curve import approximation_curve
from .coherence import mutual_coherence
from .filters import filters
from .gabor import fit_gabors
from .layered_thresholding import LayeredThresholding
from .nearest_wavelet import nearest_wavelets
from .sparse_coding import sparse_coding

__all__ = [
    "LayeredThresholding",
    "approximation_curve",
    "filters",
    "fit_gabors",
    "mutual_coherence",
    "nearest_wavelets",
    "sparse_coding",
]
