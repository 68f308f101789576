"""Which frequencies a network learns first."""

from .activation_decay import activation_decay
from .exact_dft import ExactDFT
from .filtering import Filtering
from .fp_norm import fp_norm, generalization_bound
from .frequency_history import FrequencyHistory
from .frequency_order import frequency_order
from .frequency_tracker import FrequencyTracker
from .high_frequency_share import high_frequency_share
from .lfp_kernel import LFPKernel
from .linear_frequency_principle import linear_frequency_principle
from .measurement_history import MeasurementHistory, Watch
from .projection import Projection
from .relu_transform import relu_transform
from .single_layer_training import single_layer_training
from .spectral_bias import (
    Recipe,
    delta_fit,
    kernel_learning,
    label_noise,
    manifold_classification,
    manifold_learning,
    neighbour_spectra,
    parameter_robustness,
    petals,
    radial_wave,
    rbf_kernel,
    relu_network,
    sinusoid_learning,
)
from .tangent_kernel import tangent_kernel_decay
from .torus_flow import predicted_rates, torus_flow
from .transfer_learning import transfer_learning
from .two_layer import TwoLayerReLU

__all__ = [
    "LFPKernel",
    "TwoLayerReLU",
    "fp_norm",
    "frequency_order",
    "generalization_bound",
    "high_frequency_share",
    "linear_frequency_principle",
    "predicted_rates",
    "tangent_kernel_decay",
    "torus_flow",
    "Recipe",
    "delta_fit",
    "kernel_learning",
    "label_noise",
    "manifold_classification",
    "manifold_learning",
    "neighbour_spectra",
    "parameter_robustness",
    "petals",
    "radial_wave",
    "rbf_kernel",
    "relu_network",
    "single_layer_training",
    "sinusoid_learning",
    "transfer_learning",
    "ExactDFT",
    "Filtering",
    "FrequencyHistory",
    "FrequencyTracker",
    "MeasurementHistory",
    "Projection",
    "Watch",
    "activation_decay",
    "relu_transform",
]
