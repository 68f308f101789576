"""What first layers that are not learned have in common: they know how they were made, and what they take."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastfreq.vocabulary import checks

__all__ = ["FixedLayer"]


class FixedLayer(nn.Module):
    """A layer (n, c, h, w) -> codes whose weights follow from its settings.

    Those stand in its `state_dict` as text, under `_extra_state`: a state of other settings is refused, where it would
    load in silence and give other codes.

    Attributes:
        made_as: the settings, in words.
    """

    def __init__(self, made_as: str) -> None:
        super().__init__()
        if not isinstance(made_as, str):
            raise TypeError(f"expected `made_as`, the settings in words, as text, got {type(made_as).__name__}")
        self.made_as = made_as

    def codes(self, images: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, k): all numbers of an image in one row."""
        raise NotImplementedError

    def get_extra_state(self) -> Tensor:
        """The settings as bytes: a tensor, as safetensors wants it, and new, so that averaging weights changes none."""
        return torch.tensor(list(self.made_as.encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Compare the settings.

        Raises:
            ValueError: the state is of another layer.
        """
        found = bytes(state.to("cpu", torch.uint8).tolist()).decode(errors="replace")
        if found != self.made_as:
            raise ValueError(f"expected the state of a {self.made_as}, got that of a {found}; make the layer like that")

    def extra_repr(self) -> str:
        """The settings."""
        return self.made_as


def as_images(images: Tensor) -> Tensor:
    """Images as transforms take them: float64 as it is, half precision in float32.

    Raises:
        ValueError: no four axes, or an empty side.
        TypeError: integers, or no tensor.
    """
    checks.check_tensor("images", images, "(n, c, h, w)")
    if images.ndim != 4 or 0 in images.shape[1:]:
        raise ValueError(
            f"expected images of shape (n, c, h, w), got {tuple(images.shape)}; add a batch axis with images[None]"
        )
    if not images.is_floating_point():
        raise TypeError(f"expected images of a float type, got {images.dtype}; use images.float() / 255 for pixels")
    return images if images.dtype == torch.float64 else images.float()


def like(found: Tensor, images: Tensor) -> Tensor:
    """Codes in the type of the images, and channels last where they are."""
    found = found.to(images.dtype)
    if found.ndim == 4 and images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous():
        return found.contiguous(memory_format=torch.channels_last)
    return found
