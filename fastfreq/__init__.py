"""Which input frequencies an image network uses, which break it, which its layers keep, which it learns first."""

import fastfreq_kernels as kernels

from .core.activations import LayerActivations
from .core.averaging_curve import PostAveragingCurve
from .core.bottleneck import BottleneckResult, LatentEdit, RepresentationCost
from .core.channels import Channel, CriticalBandResult
from .core.comparison import Comparison
from .core.components import ComponentCurves
from .core.corruption_report import CorruptionFit, CorruptionReport
from .core.curves import BandCurve
from .core.dominance import DominantFrequencyResult
from .core.downsampling import DownsamplingSuggestion
from .core.feature_profiles import FeatureSpectra
from .core.fourier_attack import FourierAttackResult
from .core.image_spectra import SpectralSlope, SpectrumResult
from .core.loading import load
from .core.results import HeatmapResult, RadialProfile
from .core.sensitivity import SensitivityResult
from .core.spectrum import LayerSpectrum, ModelSpectrum
from .data import ImageData, load_data, load_images
from .engine.pixels import NormalizedModel
from .inputs.attacks import FGSM, PGD, adversarial_spectrum
from .inputs.augmentation import FourierAugmentation
from .inputs.bands import filter_curve
from .inputs.components import component_curves, split_components
from .inputs.corruptions import ArrayCorruption, common_corruption, corruption_report
from .inputs.critical_band import critical_band_masking
from .inputs.dominant_frequencies import dominant_frequencies
from .inputs.feature_spectra import feature_spectra
from .inputs.fourier_attack import fourier_attack
from .inputs.gradient import gradient_heatmap
from .inputs.heatmap import heatmap
from .inputs.noise import noise_curve
from .inputs.post_averaging import PostAveraging
from .inputs.post_averaging_curve import post_averaging_curve
from .inputs.spectra import difference_spectrum, image_spectrum
from .layers.bottleneck import bottleneck
from .layers.clipping import clip_singular_values
from .layers.cyclic import CyclicNet
from .layers.downsampling import downsampled, suggest_downsampling
from .layers.editing import edit_latent
from .layers.lipschitz import LipschitzBound, lipschitz_bound
from .layers.penalties import SpectralPenalty
from .layers.ranks import decay_schedule, parameter_norm, representation_cost
from .layers.singular_values import singular_values
from .layers.smoothing import KernelSmoothnessPenalty, kernel_high_frequency, smooth_kernels, smoothing_response
from .layers.spectral_norms import spectral_norm, spectral_norms
from .layers.vectors import SingularVectors, singular_vectors
from .layers.zero_padding import zero_padded_norm
from .models import load_model
from .vocabulary.attenuation import ball_attenuation, sphere_attenuation
from .vocabulary.conventions import CONVENTIONS, Convention

__version__ = "0.1.0"

__all__ = [
    # which frequencies break a model
    "heatmap",
    "gradient_heatmap",
    "component_curves",
    "split_components",
    "corruption_report",
    "fourier_attack",
    "adversarial_spectrum",
    "FGSM",
    "PGD",
    # what defends a model
    "FourierAugmentation",
    "PostAveraging",
    "post_averaging_curve",
    "sphere_attenuation",
    "ball_attenuation",
    # which frequencies a model needs
    "filter_curve",
    "noise_curve",
    "critical_band_masking",
    "dominant_frequencies",
    "feature_spectra",
    # which frequencies its layers keep
    "singular_values",
    "singular_vectors",
    "spectral_norm",
    "spectral_norms",
    "zero_padded_norm",
    "clip_singular_values",
    "SpectralPenalty",
    "lipschitz_bound",
    "kernel_high_frequency",
    "smooth_kernels",
    "smoothing_response",
    "KernelSmoothnessPenalty",
    "bottleneck",
    "edit_latent",
    "suggest_downsampling",
    "downsampled",
    # what a bottleneck costs, and the training that makes one
    "representation_cost",
    "parameter_norm",
    "decay_schedule",
    "CyclicNet",
    # which frequencies images hold, and what corruptions change
    "image_spectrum",
    "difference_spectrum",
    # what comes back
    "HeatmapResult",
    "BandCurve",
    "SensitivityResult",
    "RadialProfile",
    "SpectrumResult",
    "SpectralSlope",
    "CriticalBandResult",
    "Channel",
    "DominantFrequencyResult",
    "FeatureSpectra",
    "Comparison",
    "LayerSpectrum",
    "ModelSpectrum",
    "SingularVectors",
    "LipschitzBound",
    "BottleneckResult",
    "LatentEdit",
    "LayerActivations",
    "RepresentationCost",
    "DownsamplingSuggestion",
    "ComponentCurves",
    "FourierAttackResult",
    "PostAveragingCurve",
    "CorruptionReport",
    "CorruptionFit",
    "load",
    # what a perturbation is
    "Convention",
    "CONVENTIONS",
    # models and images
    "ArrayCorruption",
    "common_corruption",
    "NormalizedModel",
    "load_model",
    "load_data",
    "load_images",
    "ImageData",
    # the compiled operations
    "kernels",
]
