"""Checks and joins of results that hold arrays by image: what `a + b` means for shards of other images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def check_shapes(result: Any, wanted: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse a result whose arrays have other shapes.

    Raises:
        ValueError: the first array that has.
    """
    for name, shape in wanted.items():
        if getattr(result, name).shape != shape:
            raise ValueError(f"expected `{name}` of shape {shape}, got {getattr(result, name).shape}")


def check_same(a: Any, b: Any, names: Sequence[str]) -> None:
    """Refuse two shards that measure different things, naming the first that differs.

    Raises:
        ValueError: they do.
    """
    for name in names:
        if getattr(a, name) != getattr(b, name):
            raise ValueError(f"expected two shards with the same {name}, got {getattr(a, name)} and {getattr(b, name)}")


def check_other_images(a: Any, b: Any) -> None:
    """Refuse two shards with an image in common.

    Raises:
        ValueError: they have one.
    """
    common = np.intersect1d(a.image_ids, b.image_ids)
    if len(common):
        raise ValueError(f"expected shards of different images, {len(common)} are in both (the first: {common[0]})")


def joined_images(a: Any, b: Any, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Arrays (..., n) of both shards together, ascending by image id.

    Raises:
        ValueError: shards with an image in common.
    """
    check_other_images(a, b)
    order = np.argsort(np.concatenate([a.image_ids, b.image_ids]))
    return {name: np.concatenate([getattr(a, name), getattr(b, name)], axis=-1)[..., order] for name in names}
