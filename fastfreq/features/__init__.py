"""What a network's filters and units look for, and which fixed features would do."""

from .approximation_curve import approximation_curve

__all__ = ["approximation_curve"]
