"""Which part of an image a model sees: its low frequencies, its high ones, or what people do not see."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from fastfreq.core.components import ComponentCurves
from fastfreq.vocabulary import masks

from ._conditions import on_device, prepare
from ._predictions import predicted_classes

_PARTS = 64 << 20  # float32 elements of the low parts of the images held at a time, one for every radius


def component_curves(
    model: nn.Module,
    images: Any,
    labels: Any = None,
    *,
    radii: Sequence[float] | None = None,
    inclusive: bool = False,
    clip: bool = False,
    batch_size: int = 128,
    device: torch.device | str | None = None,
    first_image: int = 0,
    shard: tuple[int, int] = (0, 1),
    progress: bool = False,
) -> ComponentCurves:
    """Predictions for the low part and the high part of each image, x = low(r) + high(r), as r grows.

    low(r) keeps the frequencies within r of zero, the rest is high(r): see `split_components`. Neither part is
    rescaled. The high part has mean zero, so half of its pixels are negative: networks take it as it is.

    Args:
        model: maps images (n, c, h, w) in [0, 1] to logits, in evaluation mode.
        images: (n, c, h, w) tensor or array, float in [0, 1] or uint8; or an iterable of (images, labels) batches.
        labels: (n,) integers with tensors; None with an iterable.
        radii: of the disc of low frequencies, in cycles per image (per shorter side); None for eighths of the shorter
            side, up to seven: 4, 8 ... 28 at 32 x 32, as in the authors' code.
        inclusive: frequencies at distance r belong to the low part (the paper's formula); the authors' code keeps
            those below r.
        clip: clip both parts to [0, 1], which the authors do not do: their sum is then no longer the image.
        batch_size: images in one forward pass.
        device: where to run; None for where the model is.
        first_image: id of the first image.
        shard: (i, n) takes the images whose id is i modulo n; results of all shards merge with ``+``.
        progress: show a progress bar.

    Returns:
        ComponentCurves: `.curve("low")`, `.curve("only_high")` and more.

    Raises:
        ValueError: a bad argument; the message says what was expected, what came and the way out.

    Source: Wang, Wu, Huang, Xing 2020, "High-Frequency Component Helps Explain the Generalization of Convolutional
        Neural Networks", section 3.
    """
    if batch_size < 1:
        raise ValueError(f"expected a positive `batch_size`, got {batch_size}")
    network, stream, shape, details = prepare(
        model,
        images,
        labels,
        precision="fp32",
        channels_last=True,
        device=device,
        first_image=first_image,
        shard=shard,
    )
    chosen = _radii(radii, shape[1:])
    passes = None if stream.total is None else stream.total * (1 + 2 * len(chosen))
    held = max(1, min(256, _PARTS // (len(chosen) * math.prod(shape))))
    ids, true, found = [], [], []
    with torch.inference_mode(), tqdm(total=passes, unit="img", desc="components", disable=not progress) as bar:
        for chunk in stream.chunks(held):
            here = on_device(chunk, network.device)
            lows = split_components(here.images, chosen, inclusive=inclusive)[0]
            rows = [predicted_classes(network, here, here.images, batch_size)]
            for parts in (lows, here.images - lows):
                for part in parts:
                    pixels = part.clamp(0, 1) if clip else part
                    rows.append(predicted_classes(network, here, pixels, batch_size))
            bar.update(len(rows) * len(chunk.ids))
            ids.append(chunk.ids.numpy())
            true.append(chunk.labels.cpu().numpy())
            found.append(np.stack(rows))
    predicted = np.concatenate(found, axis=1)
    r = len(chosen)
    return ComponentCurves(
        radii=chosen,
        inclusive=inclusive,
        clip=clip,
        shape=shape,
        image_ids=np.concatenate(ids),
        labels=np.concatenate(true),
        predicted=predicted[0],
        predicted_low=predicted[1 : r + 1],
        predicted_high=predicted[r + 1 :],
        details=details,
    )


def _radii(radii: Sequence[float] | None, shape: tuple[int, int]) -> tuple[float, ...]:
    if radii is None:
        return tuple(eighth * min(shape) / 8 for eighth in range(1, 8))
    chosen = tuple(float(radius) for radius in radii)
    if not chosen or list(chosen) != sorted(set(chosen)):
        raise ValueError(f"expected `radii` ascending, each once, got {radii}")
    return chosen


def split_components(
    images: Tensor, radii: float | Sequence[float], *, inclusive: bool = False
) -> tuple[Tensor, Tensor]:
    """(low, high) parts of images, channel by channel, low + high = images to rounding.

    low = F^-1(M F(x)) with the disc M = [d < r], d the distance from zero frequency in cycles per image (per shorter
    side where sides differ). M is symmetric, so the low part is real without discarding anything; high = x - low is
    F^-1((1 - M) F(x)).

    Args:
        images: (..., h, w) of a float type.
        radii: one radius r from 0 to the longer side, or several.
        inclusive: d <= r, the paper's formula, in place of d < r, the authors' code.

    Returns:
        Two tensors like `images`, with a leading axis of radii if several were given. Differentiable.

    Raises:
        TypeError: images of an integer type.
        ValueError: a radius outside the plane of frequencies.

    Source: Wang et al. 2020, equation 1.
    """
    if not images.dtype.is_floating_point:
        raise TypeError(f"expected `images` of a float type, got {images.dtype}; divide uint8 pixels by 255")
    h, w = int(images.shape[-2]), int(images.shape[-1])
    several = np.ndim(radii) > 0
    kept = np.stack([masks.radial((h, w), radius, inclusive=inclusive) for radius in np.atleast_1d(radii)])
    mask = torch.from_numpy(kept[..., : w // 2 + 1]).to(images.device)
    mask = mask.view(len(kept), *[1] * (images.ndim - 2), h, w // 2 + 1)
    low = torch.fft.irfft2(torch.fft.rfft2(images) * mask, s=(h, w))
    low = low if several else low[0]
    return low, images - low
