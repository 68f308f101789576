"""Every argument check and its message: what was expected, what came, the way out."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from . import fourier, numbers


def near_names(name: object, known: Iterable[str], *, otherwise: int = 3, cutoff: float = 0.4) -> str:
    """Names of `known` that are spelled like `name`, or the first few, with commas between them."""
    known = list(known)
    return ", ".join(difflib.get_close_matches(str(name), known, n=3, cutoff=cutoff) or known[:otherwise])


def check_tensor(name: str, value: Any, axes: str) -> None:
    """Refuse anything but a tensor.

    Args:
        name: of the argument, for the message.
        value: of it.
        axes: that it should have, for the message, such as "(n, c, h, w)".
    """
    if not isinstance(value, Tensor):
        hint = f"; use torch.from_numpy({name})" if isinstance(value, np.ndarray) else ""
        raise TypeError(f"expected `{name}` as a tensor {axes}, got {type(value).__name__}{hint}")


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Refuse anything but one of some words."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"expected `{name}` of {list(choices)}, got {value!r:.60}")


def check_eps(eps: float) -> float:
    """`eps` as a positive, finite float."""
    value = numbers.as_float("eps", eps, finite=False)
    if not (math.isfinite(value) and value > 0):
        raise ValueError(
            f"expected a positive `eps`, the L2 norm per channel in pixels of [0, 1] (4.0 at 32 x 32 and 15.7 at "
            f"224 x 224 in Yin et al. 2019), got {value}"
        )
    return value


def check_seed(seed: int) -> int:
    """`seed` as a key of the random generator, from 0 to 2^64 - 1."""
    value = numbers.as_int("seed", seed)
    if not 0 <= value < 2**64:
        raise ValueError(f"expected a `seed` from 0 to 2**64 - 1, got {value}")
    return value


def check_images(images: Tensor) -> None:
    """Refuse anything but a batch of pixels in [0, 1] (or uint8)."""
    if images.ndim != 4 or 0 in images.shape[1:]:
        hint = "; add a batch axis with images[None]" if images.ndim == 3 else ""
        raise ValueError(f"expected `images` of shape (n, c, h, w), got {tuple(images.shape)}{hint}")
    if images.dtype == torch.uint8 or not images.numel():
        return
    if not images.dtype.is_floating_point:
        raise TypeError(f"expected `images` of a float type in [0, 1] or uint8, got {images.dtype}")
    low, high = (float(v) for v in images.aminmax())
    if math.isnan(low) or math.isnan(high):
        raise ValueError("expected `images` in [0, 1], got NaN")
    if low < 0 or high > 1:
        if low >= 0 and high <= 255:
            hint = "divide by 255, or pass uint8"
        else:
            hint = (
                "perturbations are defined on pixels before normalisation: pass unnormalised images and let the model "
                "normalise, with fastfreq.NormalizedModel(net, mean=..., std=...)"
            )
        raise ValueError(f"expected `images` in [0, 1], got values from {low:.4g} to {high:.4g}; {hint}")


def check_labels(labels: Tensor, count: int) -> None:
    """Refuse anything but one non-negative integer per image."""
    if labels.ndim != 1 or len(labels) != count:
        raise ValueError(f"expected `labels` of shape ({count},), one per image, got {tuple(labels.shape)}")
    if labels.dtype.is_floating_point or labels.dtype in (torch.bool, torch.complex64, torch.complex128):
        raise TypeError(f"expected integer `labels`, got {labels.dtype}; use labels.argmax(1) if they are one-hot")
    if count and int(labels.min()) < 0:
        raise ValueError(f"expected `labels` from 0, got {int(labels.min())}")


def check_classes(labels: Tensor, logits: Tensor) -> None:
    """Refuse labels that the model has no logit for."""
    check_below(labels, logits.shape[1])


def check_below(labels: Tensor, classes: int) -> None:
    """Refuse labels from `classes` on."""
    if len(labels) and int(labels.max()) >= classes:
        raise ValueError(
            f"expected labels below {classes}, the number of logits, got {int(labels.max())}; "
            f"do the labels belong to this model?"
        )


def check_several_classes(classes: int) -> None:
    """Refuse a model of one logit: its largest is always the first, and nothing ever changes a prediction."""
    if classes < 2:
        raise ValueError(
            f"expected logits of two classes or more, got {classes}; wrap a model that returns one logit z to return "
            f"torch.cat([torch.zeros_like(z), z], dim=1)"
        )


def check_size(size: int | tuple[int, int] | None, shape: tuple[int, int]) -> tuple[int, int]:
    """`size` as (rows, columns) no larger than the image."""
    if size is None:
        return shape
    rows, columns = size if isinstance(size, (tuple, list)) else (size, size)
    rows, columns = numbers.as_int("size", rows), numbers.as_int("size", columns)
    if not (1 <= rows <= shape[0] and 1 <= columns <= shape[1]):
        raise ValueError(
            f"expected a map `size` from 1 to the image's {shape[0]} x {shape[1]}, got {rows} x {columns}; "
            f"an image of side n has n frequencies along that side"
        )
    return rows, columns


def check_frequencies(
    frequencies: ArrayLike | None, shape: tuple[int, int], size: tuple[int, int]
) -> NDArray[np.int64]:
    """The (f, 2) canonical, sorted frequencies of a map of `size`: all of them (None), or the subset asked for."""
    every, _ = fourier.unique_frequencies(shape, size)
    if frequencies is None:
        return every
    asked = np.asarray(frequencies)
    if asked.ndim != 2 or asked.shape[1] != 2 or not len(asked) or not np.issubdtype(asked.dtype, np.integer):
        raise ValueError(f"expected `frequencies` as integers of shape (f, 2), got {asked.dtype} {asked.shape}")
    chosen = np.unique(fourier.canonical(asked.astype(np.int64), shape), axis=0)
    inside = (chosen[:, None] == every[None]).all(axis=2).any(axis=1)
    if not inside.all():
        raise ValueError(
            f"expected `frequencies` inside the {size[0]} x {size[1]} map, got {chosen[~inside][0].tolist()}"
        )
    return chosen


def check_shard(shard: tuple[int, int]) -> tuple[int, int]:
    """`shard` as (index, number of shards)."""
    index, number = shard
    if not (number >= 1 and 0 <= index < number):
        raise ValueError(f"expected `shard=(i, n)` with 0 <= i < n, got {shard}")
    return index, number


def check_finite_weight(weight: Tensor) -> None:
    """Refuse weights with NaN or infinite entries.

    Raises:
        ValueError: such entries.
    """
    if not torch.isfinite(weight).all():
        bad = int((~torch.isfinite(weight)).sum())
        raise ValueError(
            f"expected finite weights, got {bad} NaN or infinite of {weight.numel()}; check the checkpoint"
        )
