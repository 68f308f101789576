"""Saved results back, whatever their kind."""

from __future__ import annotations

from pathlib import Path

from fastfreq.core.averaging_curve import PostAveragingCurve
from fastfreq.core.bottleneck import BottleneckResult, LatentEdit
from fastfreq.core.channels import CriticalBandResult
from fastfreq.core.components import ComponentCurves
from fastfreq.core.corruption_report import CorruptionReport
from fastfreq.core.curves import BandCurve
from fastfreq.core.dominance import DominantFrequencyResult
from fastfreq.core.downsampling import DownsamplingSuggestion
from fastfreq.core.feature_profiles import FeatureSpectra
from fastfreq.core.fourier_attack import FourierAttackResult
from fastfreq.core.image_spectra import SpectrumResult
from fastfreq.core.results import HeatmapResult
from fastfreq.core.sensitivity import SensitivityResult
from fastfreq.core.spectrum import LayerSpectrum, ModelSpectrum
from fastfreq.results import store

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
