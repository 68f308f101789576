"""Which frequencies a network learns first."""

from .activation_decay import activation_decay
from .relu_transform import relu_transform

__all__ = [
    "activation_decay",
    "relu_transform",
]
