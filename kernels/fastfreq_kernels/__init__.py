"""Compiled operations behind fastfreq, each with a plain torch reference."""

from .fourier_perturb import fourier_perturb, fourier_signs

__all__ = ["fourier_perturb", "fourier_signs"]
