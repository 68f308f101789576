"""The kinds of results: where each is measured, drawn and asked for. One line a kind, names only."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import codec, store


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of result.

    Attributes:
        name: of the function that measures it, of its verb (with dashes), of its plot's module.
        home: module of the result class.
        former: kinds under which version 0.1 saved it.
    """

    name: str
    home: str
    former: tuple[str, ...] = ()


KINDS = (
    Kind("heatmap", "fastfreq.inputs.heatmap", ("heatmap",)),
    Kind("adaptive_heatmap", "fastfreq.inputs.adaptive_heatmap"),
    Kind("quick_heatmap", "fastfreq.inputs.quick_heatmap"),
    Kind("gradient_heatmap", "fastfreq.inputs.gradient_heatmap", ("sensitivity",)),
    Kind("filter_curve", "fastfreq.inputs.filter_curve", ("band_curve",)),
    Kind("noise_curve", "fastfreq.inputs.noise_curve"),
    Kind("critical_band", "fastfreq.inputs.critical_band", ("critical_bands",)),
    Kind("dominant_frequencies", "fastfreq.inputs.dominant_frequencies", ("dominant_frequencies",)),
    Kind("component_curves", "fastfreq.inputs.component_curves", ("components",)),
    Kind("feature_spectra", "fastfreq.inputs.feature_spectra", ("feature_spectra",)),
    Kind("fourier_attack", "fastfreq.inputs.fourier_attack", ("fourier_attack",)),
    Kind("corruption_report", "fastfreq.inputs.corruption_report", ("corruptions",)),
    Kind("post_averaging_curve", "fastfreq.inputs.post_averaging_curve", ("post_averaging",)),
    Kind("image_spectrum", "fastfreq.inputs.image_spectrum", ("image_spectrum",)),
    Kind("approximation_curve", "fastfreq.features.approximation_curve"),
    Kind("invariance", "fastfreq.features.invariance"),
    Kind("filters", "fastfreq.features.filters"),
    Kind("sparse_coding", "fastfreq.features.sparse_coding"),
    Kind("maximize", "fastfreq.features.maximize"),
    Kind("top_patches", "fastfreq.features.top_patches"),
    Kind("invert", "fastfreq.features.invert"),
    Kind("difference_spectrum", "fastfreq.inputs.difference_spectrum"),
    Kind("adversarial_spectrum", "fastfreq.inputs.adversarial_spectrum"),
    Kind("singular_values", "fastfreq.layers.singular_values", ("model_spectrum",)),
    Kind("layer_singular_values", "fastfreq.layers.singular_values", ("layer_spectrum",)),
    Kind("bottleneck", "fastfreq.layers.bottleneck", ("bottleneck",)),
    Kind("latent_edit", "fastfreq.layers.latent_edit", ("latent_edit",)),
    Kind("downsampling", "fastfreq.layers.downsampling", ("downsampling",)),
    Kind("linear_frequency_principle", "fastfreq.training.linear_frequency_principle"),
    Kind("high_frequency_share", "fastfreq.training.high_frequency_share"),
    Kind("torus_flow", "fastfreq.training.torus_flow"),
    Kind("tangent_kernel_decay", "fastfreq.training.tangent_kernel"),
    Kind("frequency_order", "fastfreq.training.frequency_order"),
    Kind("sinusoid_learning", "fastfreq.training.spectral_bias.sinusoid_learning"),
    Kind("parameter_robustness", "fastfreq.training.spectral_bias.parameter_robustness"),
    Kind("manifold_learning", "fastfreq.training.spectral_bias.manifold_learning"),
    Kind("manifold_classification", "fastfreq.training.spectral_bias.manifold_classification"),
    Kind("label_noise", "fastfreq.training.spectral_bias.label_noise"),
    Kind("kernel_learning", "fastfreq.training.spectral_bias.kernel_learning"),
    Kind("delta_fit", "fastfreq.training.spectral_bias.delta_fit"),
    Kind("neighbour_spectra", "fastfreq.training.spectral_bias.neighbour_spectra"),
    Kind("single_layer_training", "fastfreq.training.single_layer_training"),
    Kind("transfer_learning", "fastfreq.training.transfer_learning"),
    Kind("frequency_history", "fastfreq.training.frequency_history"),
    Kind("measurement_history", "fastfreq.training.measurement_history"),
    Kind("relu_transform", "fastfreq.training.relu_transform"),
    Kind("activation_decay", "fastfreq.training.activation_decay"),
)
_BY_NAME = {kind.name: kind for kind in KINDS}
_CLASSES: dict[str, Any] = {}


def register(cls: Any) -> None:
    """Remember the class of a kind; `Result` calls it."""
    _CLASSES[cls.kind] = cls


def result_class(name: str) -> Any:
    """The class of a kind.

    Raises:
        ValueError: there is no such kind.
    """
    if name not in _CLASSES and name in _BY_NAME:
        importlib.import_module(_BY_NAME[name].home)
    if name not in _CLASSES:
        raise ValueError(f"expected a result of kind {sorted(_BY_NAME)}, got {name!r:.40}")
    return _CLASSES[name]


def plotter(name: str) -> Callable[..., Any]:
    """What draws a kind: `plot` of the module of `fastfreq.plots` that has its name."""
    return importlib.import_module(f"fastfreq.plots.{name}").plot


def load(path: str | Path, *, max_bytes: int | None = None) -> Any:
    """Read a result that was written by its `.save`.

    Args:
        path: of the file.
        max_bytes: that its arrays may take; None for 256 MiB or, where that is more, 100 times the file's own size,
            and 4 GiB at most.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no result, is damaged, is larger, or is of a newer format.
    """
    kind, version, header, arrays = store.read_result(path, max_bytes=max_bytes)
    with store.named_damage(path):
        if version > 1:
            return result_class(kind).from_arrays(header, arrays)
        home = next((k for k in KINDS if kind in k.former), None)
        if home is None:
            raise ValueError(f"expected a result of a known kind, got {kind!r:.40}")
        result = result_class(home.name).from_format_1(header, arrays)
        codec.check_types(type(result), {f.name: getattr(result, f.name) for f in dataclasses.fields(result)})
        return result
