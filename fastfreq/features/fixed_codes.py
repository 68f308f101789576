"""Fixed codes by name, and a fixed layer as a network that gives one row per image."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from .curvelet_stem import curvelet_stem
from .fixed_layer import FixedLayer
from .scattering_stem import scattering_stem
from .shrinkage import Threshold
from .wavelet_stem import wavelet_stem

__all__ = ["NAMES", "FixedCodes", "fixed_codes"]

NAMES = ("wavelet", "scattering", "curvelet")


class FixedCodes(nn.Module):
    """A fixed layer whose output is its codes (n, k)."""

    def __init__(self, stem: FixedLayer) -> None:
        super().__init__()
        self.stem, self.asked_for = stem, stem.made_as
        self.train(stem.training)

    def forward(self, images: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, k)."""
        return self.stem.codes(images)


def fixed_codes(asked: Sequence[str] | Mapping[str, FixedLayer], shape: tuple[int, int, int]) -> dict[str, FixedLayer]:
    """Name -> layer for images of (c, h, w), tried on one: those of `NAMES` made, those that were given copied.

    Raises:
        ValueError: another name, one twice, or images too small.
        TypeError: something else than fixed layers.
        ImportError: the library that has one is not installed.
    """
    found = _named(asked, shape)
    for stem in found.values():
        stem.codes(torch.zeros(1, *shape))
    return found


def _named(asked: Sequence[str] | Mapping[str, FixedLayer], shape: tuple[int, int, int]) -> dict[str, FixedLayer]:
    _, h, w = shape
    if isinstance(asked, Mapping):
        for name, stem in asked.items():
            if not isinstance(stem, FixedLayer):
                raise TypeError(f"expected `fixed` as name -> ff.wavelet_stem() or the like, got {stem!r:.60}")
            if not isinstance(name, str):
                raise TypeError(f"expected names of `fixed` layers as text, got {name!r}")
        return {name: copy.deepcopy(stem).eval().float() for name, stem in asked.items()}
    some = isinstance(asked, Sequence) and not isinstance(asked, str)
    if not some or any(name not in NAMES for name in asked) or len(set(asked)) < len(asked):
        raise ValueError(f"expected `fixed` as a list of {list(NAMES)}, each once, or name -> layer, got {asked!r:.60}")
    return {name: _made(name, h, w).eval() for name in asked}


def _made(name: str, h: int, w: int) -> FixedLayer:
    if name == "scattering":
        scales = max(1, min(3, min(h, w).bit_length() - 2))
        return scattering_stem((h, w), scales=scales)
    if name == "curvelet":
        return curvelet_stem((h, w))
    return wavelet_stem("db4", levels=2 if min(h, w) >= 15 else 1, threshold=Threshold(tau=0.5, mode="relative"))
