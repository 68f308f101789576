"""What a network's filters and units look for, and which fixed features would do."""

from .approximation_curve import approximation_curve
from .curvelet_stem import curvelet_stem
from .fixed_layer import FixedLayer
from .init_stem import init_stem
from .invariance import invariance
from .scattering_stem import scattering_stem
from .shrinkage import Threshold
from .two_layer_net import TwoLayerNet
from .wavelet_stem import wavelet_stem

__all__ = [
    "FixedLayer",
    "Threshold",
    "TwoLayerNet",
    "approximation_curve",
    "curvelet_stem",
    "init_stem",
    "invariance",
    "scattering_stem",
    "wavelet_stem",
]
