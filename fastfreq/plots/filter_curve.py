"""Curves over bandwidths of a filter."""

from .band_curves import plot, plot_many

__all__ = ["plot", "plot_many"]
