"""Singular values of one layer."""

from .singular_values import plot_layer as plot

__all__ = ["plot"]
