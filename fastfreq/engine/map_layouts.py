"""Which axis of a layer's maps holds the channels: by the kind of layer, the aspect ratio, or a larger image."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .copies import as_written
from .network import Network

__all__ = ["channels_last"]

_Shape = tuple[int, ...]
_FIRST = (
    nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.InstanceNorm2d, nn.GroupNorm, nn.Dropout2d, nn.PixelShuffle,
    nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d,
)  # fmt: skip


def channels_last(network: Network, names: Sequence[str], shape: tuple[int, int, int]) -> frozenset[str]:
    """Those of the layers whose 4-D output is (n, h, w, c) rather than (n, c, h, w).

    Torch's own layers say it themselves. Of others one of the two may have the image's aspect ratio to within a pixel
    alone. Where both have, or only (n, h, w, c), an image of twice the size tells: channels stay as many. Where neither
    has, they are first.

    Raises:
        ValueError: as many channels as rows and columns in a network that takes images of one size only.
    """
    seen = _outputs(network, names, shape)
    found, unsure = set(), []
    for name, output in seen.items():
        by_kind = _by_kind(network.module(name))
        first, last = _fits(output[2:], shape[1:]), _fits(output[1:3], shape[1:])
        if by_kind or (by_kind is None and last):
            found.add(name)
        if by_kind is None and last and (set(output[1:]) != {1}):
            unsure.append((name, first))
    if not unsure:
        return frozenset(found)
    twice = _outputs(network, [name for name, _ in unsure], (shape[0], 2 * shape[1], 2 * shape[2]))
    for name, first in unsure:
        before, after = seen[name], twice.get(name)
        if after is not None and after[1] == before[1] and after[2:] != before[2:]:
            found.discard(name)
        elif first and (after is None or after[3] != before[3] or after[1:3] == before[1:3]):
            raise ValueError(
                f"expected layer {name!r} to return maps (n, c, h, w) or (n, h, w, c), those of shape {before[1:]} of "
                f"images of {shape[1]} x {shape[2]} could be either, and images of twice the size do not tell; take "
                f"images of another aspect ratio, or the convolution, norm or linear layer that makes them"
            )
    return frozenset(found)


def _by_kind(module: nn.Module) -> bool | None:
    if isinstance(module, _FIRST):
        return False
    # exactly these: those that inherit from a layer norm often turn the axes first
    if type(module) is nn.Linear or (type(module) is nn.LayerNorm and len(module.normalized_shape) == 1):
        return True
    return None


def _fits(sides: _Shape, image: _Shape) -> bool:
    """The image's aspect ratio to within a pixel."""
    (rows, columns), (h, w) = sides, image
    return abs(rows * w - columns * h) <= max(h, w)


def _outputs(network: Network, names: Sequence[str], shape: tuple[int, int, int]) -> dict[str, _Shape]:
    """Shapes of the 4-D outputs for one grey image, of the layers that a pass comes to before it fails."""
    found: dict[str, _Shape] = {}

    def note(name: str) -> Any:
        def read(_module: Any, _args: Any, output: Any) -> None:
            value = output[0] if isinstance(output, (tuple, list)) and output else output
            if isinstance(value, Tensor) and value.ndim == 4:
                found.setdefault(name, tuple(value.shape))

        return read

    hooks = [network.module(name).register_forward_hook(note(name)) for name in names]
    try:
        # images of another size may be refused by a later layer, or by the first
        with torch.no_grad(), as_written(), contextlib.suppress(RuntimeError, ValueError, AssertionError):
            network.net(network.clean_batch(torch.full((1, *shape), 0.5, device=network.device)))
    finally:
        for hook in hooks:
            hook.remove()
    return found
