"""Which frequencies a network learns first."""

from .relu_transform import relu_transform

__all__ = [
    "relu_transform",
]
