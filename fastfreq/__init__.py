"""Which input frequencies an image network uses, which break it, which its layers keep, which it learns first.

Names are loaded when they are first used, so that `import fastfreq` and the command line start at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import fastfreq_kernels as kernels

    from . import features as features
    from . import layers as layers
    from . import training as training
    from .attacks import FGSM, PGD
    from .data import load_data, load_images
    from .engine.pixels import NormalizedModel
    from .features.approximation_curve import approximation_curve
    from .features.filters import filters
    from .features.init_stem import init_stem
    from .features.invariance import invariance
    from .features.invert import invert
    from .features.maximize import maximize
    from .features.sparse_coding import sparse_coding
    from .features.top_patches import top_patches
    from .features.wavelet_stem import wavelet_stem
    from .inputs.adaptive_heatmap import adaptive_heatmap
    from .inputs.adversarial_spectrum import adversarial_spectrum
    from .inputs.augmentation import FourierAugmentation
    from .inputs.component_curves import component_curves, split_components
    from .inputs.corruption_report import corruption_report
    from .inputs.corruption_sources import ArrayCorruption, common_corruption
    from .inputs.critical_band import critical_band
    from .inputs.difference_spectrum import difference_spectrum
    from .inputs.dominant_frequencies import dominant_frequencies
    from .inputs.feature_spectra import feature_spectra
    from .inputs.filter_curve import filter_curve
    from .inputs.fourier_attack import fourier_attack
    from .inputs.gradient_heatmap import gradient_heatmap
    from .inputs.heatmap import heatmap
    from .inputs.image_spectrum import image_spectrum
    from .inputs.noise_curve import noise_curve
    from .inputs.post_averaging import PostAveraging
    from .inputs.post_averaging_curve import post_averaging_curve
    from .inputs.quick_heatmap import quick_heatmap
    from .layers.bottleneck import bottleneck
    from .layers.downsampling import downsampling
    from .layers.lipschitz import lipschitz_bound
    from .layers.singular_values import singular_values
    from .layers.spectral_norms import spectral_norm
    from .models import load_model
    from .results.registry import load
    from .training.frequency_tracker import FrequencyTracker
    from .vocabulary import masks as masks
    from .vocabulary.conventions import CONVENTIONS, Convention

__version__ = "0.1.0"

_HOMES = {
    # which frequencies break a model
    "heatmap": ".inputs.heatmap",
    "adaptive_heatmap": ".inputs.adaptive_heatmap",
    "quick_heatmap": ".inputs.quick_heatmap",
    "gradient_heatmap": ".inputs.gradient_heatmap",
    "fourier_attack": ".inputs.fourier_attack",
    "adversarial_spectrum": ".inputs.adversarial_spectrum",
    "corruption_report": ".inputs.corruption_report",
    "ArrayCorruption": ".inputs.corruption_sources",
    "common_corruption": ".inputs.corruption_sources",
    "FGSM": ".attacks",
    "PGD": ".attacks",
    # which frequencies a model needs
    "filter_curve": ".inputs.filter_curve",
    "noise_curve": ".inputs.noise_curve",
    "critical_band": ".inputs.critical_band",
    "dominant_frequencies": ".inputs.dominant_frequencies",
    "component_curves": ".inputs.component_curves",
    "split_components": ".inputs.component_curves",
    "feature_spectra": ".inputs.feature_spectra",
    # what defends a model
    "FourierAugmentation": ".inputs.augmentation",
    "PostAveraging": ".inputs.post_averaging",
    "post_averaging_curve": ".inputs.post_averaging_curve",
    # which frequencies its layers keep; the rest is in `fastfreq.layers`
    "singular_values": ".layers.singular_values",
    "spectral_norm": ".layers.spectral_norms",
    "lipschitz_bound": ".layers.lipschitz",
    "bottleneck": ".layers.bottleneck",
    "downsampling": ".layers.downsampling",
    # which frequencies a model learns first; the rest is in `fastfreq.training`
    "FrequencyTracker": ".training.frequency_tracker",
    # which frequencies images hold
    "image_spectrum": ".inputs.image_spectrum",
    "difference_spectrum": ".inputs.difference_spectrum",
    # which features they are made of; the rest is in `fastfreq.features`
    "approximation_curve": ".features.approximation_curve",
    "wavelet_stem": ".features.wavelet_stem",
    "init_stem": ".features.init_stem",
    "invariance": ".features.invariance",
    # what a model's filters look for
    "filters": ".features.filters",
    "sparse_coding": ".features.sparse_coding",
    # what units look for
    "maximize": ".features.maximize",
    "top_patches": ".features.top_patches",
    # what layers keep of an image
    "invert": ".features.invert",
    # what a perturbation is
    "Convention": ".vocabulary.conventions",
    "CONVENTIONS": ".vocabulary.conventions",
    # models, images, results
    "NormalizedModel": ".engine.pixels",
    "load_model": ".models",
    "load_data": ".data",
    "load_images": ".data",
    "load": ".results.registry",
}
_MODULES = {
    "layers": ".layers",
    "training": ".training",
    "features": ".features",
    "masks": ".vocabulary.masks",
    "kernels": "fastfreq_kernels",
}

__all__ = [
    "ArrayCorruption",
    "CONVENTIONS",
    "Convention",
    "FGSM",
    "FourierAugmentation",
    "FrequencyTracker",
    "NormalizedModel",
    "PGD",
    "PostAveraging",
    "adaptive_heatmap",
    "adversarial_spectrum",
    "approximation_curve",
    "bottleneck",
    "common_corruption",
    "component_curves",
    "corruption_report",
    "critical_band",
    "difference_spectrum",
    "dominant_frequencies",
    "downsampling",
    "feature_spectra",
    "features",
    "filter_curve",
    "filters",
    "fourier_attack",
    "gradient_heatmap",
    "heatmap",
    "image_spectrum",
    "init_stem",
    "invariance",
    "invert",
    "kernels",
    "layers",
    "lipschitz_bound",
    "load",
    "load_data",
    "load_images",
    "load_model",
    "masks",
    "maximize",
    "noise_curve",
    "post_averaging_curve",
    "quick_heatmap",
    "singular_values",
    "sparse_coding",
    "spectral_norm",
    "split_components",
    "top_patches",
    "training",
    "wavelet_stem",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        found: Any = importlib.import_module(_MODULES[name], __name__)
    elif name in _HOMES:
        found = getattr(importlib.import_module(_HOMES[name], __name__), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
