"""What common corruptions cost a model, and at which frequencies they change an image."""

from .measurement import corruption_report as corruption_report
from .measurement import high_frequency_fraction as high_frequency_fraction
from .result import CorruptionFit as CorruptionFit
from .result import CorruptionReport as CorruptionReport
from .result import high_frequency_mask as high_frequency_mask
