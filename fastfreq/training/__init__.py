"""Which frequencies a network learns first."""

from .spectral_bias import (
    Recipe,
    delta_fit,
    kernel_learning,
    label_noise,
    manifold_classification,
    manifold_learning,
    neighbour_spectra,
    parameter_robustness,
    petals,
    radial_wave,
    rbf_kernel,
    relu_network,
    sinusoid_learning,
)

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
