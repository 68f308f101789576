"""Compiled operations behind fastfreq, each with a plain torch reference."""

from .fourier_perturb import PhiloxSigns, fourier_perturb, fourier_signs

__all__ = ["PhiloxSigns", "fourier_perturb", "fourier_signs"]
