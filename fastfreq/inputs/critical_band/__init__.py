"""Critical-band masking: which octave of frequencies a network recognises by."""

from .measurement import critical_band
from .result import Channel, CriticalBand, Estimate, Thresholds

__all__ = ["Channel", "CriticalBand", "Estimate", "Thresholds", "critical_band"]
