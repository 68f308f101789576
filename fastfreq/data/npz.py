"""Images and labels in .npz files, as published data sets name and shape them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fastfreq.results._archive import read_members

_NPZ_NAMES = (("images", "labels"), ("x", "y"), ("test_images", "test_labels"), ("x_test", "y_test"))


def read_npz(path: Path, size: tuple[int, int] | None, *, max_bytes: int | None = None) -> tuple[Tensor, Tensor]:
    """(images (n, c, h, w) uint8 or float32 in [0, 1], labels int64 (n,)); of `size` (h, w), unless None.

    At most `max_bytes` of arrays are read; None for 256 MiB or, where that is more, 100 times the file's own size, and
    4 GiB at most. Other arrays in the file do not count.

    Raises:
        ValueError: no images and labels, ones that do not fit or are too large, or a damaged file; the message says
            what came.
    """
    pair = ("", "")

    def choose(names: list[str]) -> tuple[str, str]:
        nonlocal pair
        found = next((p for p in _NPZ_NAMES if set(p) <= set(names)), None)
        if found is None:
            raise ValueError(f"expected arrays `images` and `labels` in {path}, got {_listed(names)}")
        pair = found
        return pair

    arrays = read_members(path, what="an .npz archive as numpy.savez writes it", choose=choose, max_bytes=max_bytes)
    images, labels = arrays.pop(pair[0]), _labels(arrays.pop(pair[1]), path)
    if images.ndim not in (3, 4) or not images.size:
        raise ValueError(f"expected images (n, h, w), (n, h, w, c) or (n, c, h, w) in {path}, got {images.shape}")
    if len(images) != len(labels):
        raise ValueError(f"expected one label per image in {path}, got {len(images)} images and {len(labels)} labels")
    images = _pixels(_channels_first(images, path), path)
    if size is not None and images.shape[2:] != size:
        raise ValueError(
            f"expected images of {_by(size)}, the model's size, in {path}, got "
            f"{_by(images.shape[2:])}; an .npz is taken as it is: resize its images first"
        )
    return torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(labels)


def _labels(labels: np.ndarray, path: Path) -> np.ndarray:
    """`labels` as int64 (n,)."""
    if sum(side != 1 for side in labels.shape) > 1:
        raise ValueError(
            f"expected labels of shape (n,) in {path}, got {labels.shape}; use labels.argmax(1) if they are one-hot"
        )
    if labels.dtype.kind not in "iu":
        raise ValueError(f"expected integer labels from 0 in {path}, got {labels.dtype}")
    for extreme in (labels.min(), labels.max()) if labels.size else ():
        if not 0 <= int(extreme) < 2**63:
            raise ValueError(f"expected integer labels from 0 in {path}, got {extreme}")
    return labels.reshape(-1).astype(np.int64)


def _channels_first(images: np.ndarray, path: Path) -> np.ndarray:
    if images.ndim == 3:
        return images[:, None]
    first, last = (images.shape[axis] in (1, 3) for axis in (1, -1))
    if first == last:
        raise ValueError(
            f"expected images (n, h, w), (n, h, w, c) or (n, c, h, w) with 1 or 3 channels in {path}, got "
            f"{images.shape}; where that is ambiguous, pass a tensor (n, c, h, w) to fastfreq.heatmap instead"
        )
    return images if first else images.transpose(0, 3, 1, 2)


def _pixels(images: np.ndarray, path: Path) -> np.ndarray:
    """`images` as uint8, or as float32 in [0, 1]."""
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind != "f":
        raise ValueError(f"expected images uint8 or float in {path}, got {images.dtype}; save images.astype(np.uint8)")
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"expected float images in [0, 1] in {path}, got values from {low:.4g} to {high:.4g}; save pixels before "
            f"normalisation, as uint8 or divided by 255"
        )
    return images.astype(np.float32)


def _listed(names: list[str]) -> str:
    return ", ".join(f"{name:.40}" for name in names[:5]) + (" ..." if len(names) > 5 else "") or "none"


def _by(size: tuple[int, ...]) -> str:
    return f"{size[0]} x {size[1]}"
