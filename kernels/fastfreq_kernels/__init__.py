"""Compiled operations behind fastfreq, each with a plain torch reference."""

from .channel_svd import channel_singular_values, channel_svd
from .conv_gram import ConvGram, conv_gram
from .conv_symbols import conv_symbols
from .fourier_perturb import PhiloxSigns, fourier_perturb, fourier_signs
from .hermitian_eigenvalues import hermitian_eigenvalues
from .radial_power import radial_cells, radial_power

__all__ = [
    "ConvGram",
    "PhiloxSigns",
    "channel_singular_values",
    "channel_svd",
    "conv_gram",
    "conv_symbols",
    "fourier_perturb",
    "fourier_signs",
    "hermitian_eigenvalues",
    "radial_cells",
    "radial_power",
]
