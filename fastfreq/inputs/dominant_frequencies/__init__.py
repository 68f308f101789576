"""Class-wise dominant frequencies: those whose removal from the images raises the loss."""

from .measurement import dominant_frequencies
from .result import DominantFrequencies

__all__ = ["DominantFrequencies", "dominant_frequencies"]
