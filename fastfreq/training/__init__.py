"""Which frequencies a network learns first."""

from .exact_dft import ExactDFT
from .filtering import Filtering
from .frequency_history import FrequencyHistory
from .frequency_tracker import FrequencyTracker
from .measurement_history import MeasurementHistory, Watch
from .projection import Projection

__all__ = [
    "ExactDFT",
    "Filtering",
    "FrequencyHistory",
    "FrequencyTracker",
    "MeasurementHistory",
    "Projection",
    "Watch",
]
