"""Pixels in [0, 1] outside, normalisation inside: the one wrapper that says where the border is."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class NormalizedModel(nn.Module):
    """A classifier that takes pixels in [0, 1] and normalises them itself: ``net((x - mean) / std)``.

    Perturbations are added to pixels, before normalisation (Yin et al. 2019). A model that expects
    normalised input is wrapped once, and every analysis finds the border between the two here.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, *, mean: Sequence[float], std: Sequence[float]) -> None:
        """Wrap `net`, which expects input normalised per channel with `mean` and `std`.

        Args:
            net: any module that maps normalised images (n, c, h, w) to logits.
            mean: one value per channel, in units of pixels in [0, 1].
            std: one positive value per channel.

        Raises:
            ValueError: `mean` and `std` differ in length, or a `std` is not positive and finite.
        """
        super().__init__()
        if len(mean) != len(std):
            raise ValueError(f"expected as many `std` as `mean` values, got {len(std)} and {len(mean)}")
        if not all(0 < s < float("inf") for s in std):
            raise ValueError(f"expected positive, finite `std` values, got {list(std)}")
        self.net = net
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of `images` (n, c, h, w) with values in [0, 1]."""
        mean = self.mean.to(images.dtype)[:, None, None]
        std = self.std.to(images.dtype)[:, None, None]
        return self.net((images - mean) / std)


def split_normalization(model: nn.Module) -> tuple[nn.Module, Tensor | None, Tensor | None]:
    """`model` as (network on normalised input, mean, std); (model, None, None) if it is no NormalizedModel."""
    if isinstance(model, NormalizedModel):
        return model.net, model.mean, model.std
    return model, None, None
