"""Spectra of feature maps: what each layer of a convolutional network or a transformer holds, by frequency."""

from .measurement import feature_spectra
from .result import FeatureProfile, FeatureSpectra

__all__ = ["FeatureProfile", "FeatureSpectra", "feature_spectra"]
