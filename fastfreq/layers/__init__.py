"""Which frequencies the layers of a network keep: everything about single layers and their weights."""

from .bottleneck import bottleneck
from .clipping import clip_singular_values
from .cyclic import CyclicNet
from .downsampling import downsampled, downsampling
from .editing import edit_latent
from .lipschitz import LipschitzBound, lipschitz_bound
from .penalties import SpectralPenalty
from .ranks import decay_schedule, representation_cost, squared_parameter_norm
from .singular_values import singular_values
from .smoothing import KernelSmoothnessPenalty, kernel_high_frequency, smooth_kernels, smoothing_response
from .spectral_norms import spectral_norm, spectral_norms
from .vectors import SingularVectors, singular_vectors
from .zero_padding import zero_padded_norm

__all__ = [
    "CyclicNet",
    "KernelSmoothnessPenalty",
    "LipschitzBound",
    "SingularVectors",
    "SpectralPenalty",
    "bottleneck",
    "clip_singular_values",
    "decay_schedule",
    "downsampled",
    "downsampling",
    "edit_latent",
    "kernel_high_frequency",
    "lipschitz_bound",
    "squared_parameter_norm",
    "representation_cost",
    "singular_values",
    "singular_vectors",
    "smooth_kernels",
    "smoothing_response",
    "spectral_norm",
    "spectral_norms",
    "zero_padded_norm",
]
