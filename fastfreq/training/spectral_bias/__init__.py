"""Spectral bias: networks learn low frequencies first, and keep them best (Rahaman et al. 2019)."""

from .delta_fit import delta_fit
from .kernel_learning import kernel_learning, rbf_kernel
from .label_noise import label_noise, radial_wave
from .manifold_classification import manifold_classification
from .manifold_learning import manifold_learning
from .manifolds import petals
from .neighbour_spectra import neighbour_spectra
from .parameter_robustness import parameter_robustness
from .recipe import Recipe, relu_network
from .sinusoid_learning import sinusoid_learning

__all__ = [
    "Recipe",
    "delta_fit",
    "kernel_learning",
    "label_noise",
    "manifold_classification",
    "manifold_learning",
    "neighbour_spectra",
    "parameter_robustness",
    "petals",
    "radial_wave",
    "rbf_kernel",
    "relu_network",
    "sinusoid_learning",
]
