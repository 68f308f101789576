"""Spectra of what a corruption changes: maps, and profiles with their fitted power laws."""

from .spectra import plot as plot
from .spectra import plot_many as plot_many
