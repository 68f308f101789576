"""Compiled operations behind fastfreq, each with a plain torch reference."""

from .band_noise import band_noise, gaussian_noise
from .channel_svd import channel_singular_values, channel_svd, conv_singular_values
from .conv_gram import ConvGram, conv_gram
from .conv_symbols import conv_symbols
from .dwt2 import dwt2, idwt2
from .filter_bands import filter_bands
from .fourier_perturb import PhiloxSigns, fourier_perturb, fourier_signs
from .fourier_waves import fourier_waves
from .frequency_response import frequency_response
from .gram_iteration import gram_iteration
from .hermitian_eigenvalues import hermitian_eigenvalues
from .hermitian_eigenvectors import hermitian_eigenvectors
from .radial_power import radial_cells, radial_power, ring_moments

__all__ = [
    "ConvGram",
    "PhiloxSigns",
    "band_noise",
    "channel_singular_values",
    "channel_svd",
    "conv_singular_values",
    "conv_gram",
    "conv_symbols",
    "dwt2",
    "filter_bands",
    "fourier_perturb",
    "fourier_signs",
    "fourier_waves",
    "frequency_response",
    "gaussian_noise",
    "gram_iteration",
    "hermitian_eigenvalues",
    "hermitian_eigenvectors",
    "idwt2",
    "radial_cells",
    "radial_power",
    "ring_moments",
]
