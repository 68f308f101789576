"""Curves over bandwidths of noise."""

from .band_curves import plot, plot_many

__all__ = ["plot", "plot_many"]
