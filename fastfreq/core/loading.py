"""Saved results back, whatever their kind."""

from __future__ import annotations

from pathlib import Path

from . import store
from .averaging_curve import PostAveragingCurve
from .bottleneck import BottleneckResult, LatentEdit
from .channels import CriticalBandResult
from .components import ComponentCurves
from .corruption_report import CorruptionReport
from .curves import BandCurve
from .dominance import DominantFrequencyResult
from .downsampling import DownsamplingSuggestion
from .feature_profiles import FeatureSpectra
from .fourier_attack import FourierAttackResult
from .image_spectra import SpectrumResult
from .results import HeatmapResult
from .sensitivity import SensitivityResult
from .spectrum import LayerSpectrum, ModelSpectrum

Result = (
    HeatmapResult
    | SensitivityResult
    | LayerSpectrum
    | ModelSpectrum
    | CriticalBandResult
    | DominantFrequencyResult
    | FeatureSpectra
    | SpectrumResult
    | BottleneckResult
    | LatentEdit
    | DownsamplingSuggestion
    | CorruptionReport
    | BandCurve
    | ComponentCurves
    | PostAveragingCurve
    | FourierAttackResult
)
_KINDS: dict[str, type[Result]] = {
    "band_curve": BandCurve,
    "heatmap": HeatmapResult,
    "sensitivity": SensitivityResult,
    "layer_spectrum": LayerSpectrum,
    "model_spectrum": ModelSpectrum,
    "image_spectrum": SpectrumResult,
    "critical_bands": CriticalBandResult,
    "dominant_frequencies": DominantFrequencyResult,
    "feature_spectra": FeatureSpectra,
    "bottleneck": BottleneckResult,
    "latent_edit": LatentEdit,
    "downsampling": DownsamplingSuggestion,
    "corruptions": CorruptionReport,
    "components": ComponentCurves,
    "post_averaging": PostAveragingCurve,
    "fourier_attack": FourierAttackResult,
}


def load(path: str | Path) -> Result:
    """Read a result that was written by its `.save`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no result, is damaged, or is of a newer format.
    """
    kind, header, arrays = store.read_arrays(path)
    if kind not in _KINDS:
        raise ValueError(f"expected a result of kind {list(_KINDS)}, {path} holds {kind!r}")
    try:
        return _KINDS[kind].from_arrays(header, arrays)
    except (KeyError, TypeError) as error:
        raise ValueError(f"expected a complete result, {path} is damaged: {error}") from error
