"""Results as matplotlib figures. The only package that imports matplotlib, and never pyplot: no display, no state."""

try:
    import matplotlib as _matplotlib  # noqa: F401
except ImportError as error:
    raise ImportError("expected matplotlib for plots; pip install 'fastfreq[plots]'") from error

from ._frame import figure_png, save_png
from .activations import plot_activations
from .bands import plot_band_curves, plot_filtered
from .bottleneck import plot_bottleneck
from .components import plot_components
from .corruptions import plot_corruptions
from .critical_band import plot_critical_bands
from .curves import plot_radial, plot_sensitivity
from .dominance import plot_dominant_frequencies
from .downsampling import plot_downsampling
from .features import plot_feature_spectra
from .fourier_attack import plot_fourier_attack
from .gallery import plot_basis_gallery
from .latent import plot_latent_edit
from .maps import plot_comparison, plot_effective_eps, plot_heatmap, plot_heatmaps, plot_layers
from .post_averaging import plot_post_averaging
from .singular import plot_layer_spectrum, plot_model_spectrum
from .spectra import plot_spectra, plot_spectrum

__all__ = [
    "figure_png",
    "plot_activations",
    "plot_band_curves",
    "plot_basis_gallery",
    "plot_bottleneck",
    "plot_comparison",
    "plot_components",
    "plot_corruptions",
    "plot_critical_bands",
    "plot_dominant_frequencies",
    "plot_downsampling",
    "plot_effective_eps",
    "plot_feature_spectra",
    "plot_fourier_attack",
    "plot_filtered",
    "plot_heatmap",
    "plot_heatmaps",
    "plot_latent_edit",
    "plot_layer_spectrum",
    "plot_layers",
    "plot_model_spectrum",
    "plot_post_averaging",
    "plot_radial",
    "plot_sensitivity",
    "plot_spectra",
    "plot_spectrum",
    "save_png",
]
