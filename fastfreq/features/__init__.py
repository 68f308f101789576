"""What a network's filters and units look for, and which fixed features would do."""

from .approximation_curve import approximation_curve
from .coherence import mutual_coherence
from .curvelet_stem import curvelet_stem
from .filters import filters
from .fixed_layer import FixedLayer
from .gabor import fit_gabors
from .image_search import ImageSearch
from .init_stem import init_stem
from .invariance import invariance
from .invert import caricature, invert
from .layered_thresholding import LayeredThresholding
from .maximize import maximize
from .nearest_wavelet import nearest_wavelets
from .scattering_stem import scattering_stem
from .shrinkage import Threshold
from .sparse_coding import sparse_coding
from .top_patches import top_patches
from .two_layer_net import TwoLayerNet
from .wavelet_stem import wavelet_stem

__all__ = [
    "FixedLayer",
    "ImageSearch",
    "LayeredThresholding",
    "Threshold",
    "TwoLayerNet",
    "approximation_curve",
    "caricature",
    "curvelet_stem",
    "filters",
    "fit_gabors",
    "init_stem",
    "invariance",
    "invert",
    "maximize",
    "mutual_coherence",
    "nearest_wavelets",
    "scattering_stem",
    "sparse_coding",
    "top_patches",
    "wavelet_stem",
]
