"""Images and labels in .npz files, as published data sets name and shape them."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

_NPZ_NAMES = (("images", "labels"), ("x", "y"), ("test_images", "test_labels"), ("x_test", "y_test"))


def read_npz(path: Path, size: tuple[int, int] | None) -> tuple[Tensor, Tensor]:
    """(images (n, c, h, w) uint8 or float32 in [0, 1], labels int64 (n,)); of `size` (h, w), unless None.

    Raises:
        ValueError: no images and labels, or ones that do not fit; the message says what came.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError(f"expected an .npz archive as numpy.savez writes it, {path} is not one")
    with np.load(path, allow_pickle=False) as file:
        pair = next((p for p in _NPZ_NAMES if set(p) <= set(file.files)), None)
        if pair is None:
            raise ValueError(f"expected arrays `images` and `labels` in {path}, got {', '.join(file.files)}")
        images, labels = file[pair[0]], file[pair[1]].reshape(-1)
    if len(images) != len(labels) or not len(labels):
        raise ValueError(f"expected one label per image in {path}, got {len(images)} images and {len(labels)} labels")
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        came = f"{labels.min()}" if np.issubdtype(labels.dtype, np.integer) else f"{labels.dtype}"
        raise ValueError(f"expected integer labels from 0 in {path}, got {came}")
    images = _pixels(_channels_first(images), path)
    if size is not None and images.shape[2:] != size:
        raise ValueError(
            f"expected images of {_by(size)}, the model's size, in {path}, got "
            f"{_by(images.shape[2:])}; an .npz is taken as it is: resize its images first"
        )
    return torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(labels.astype(np.int64))


def _channels_first(images: np.ndarray) -> np.ndarray:
    if images.ndim == 3:
        return images[:, None]
    first, last = (images.ndim == 4 and images.shape[axis] in (1, 3) for axis in (1, -1))
    if first == last:
        raise ValueError(
            f"expected images (n, h, w), (n, h, w, c) or (n, c, h, w) with 1 or 3 channels, got {images.shape}; "
            f"where that is ambiguous, pass a tensor (n, c, h, w) to fastfreq.heatmap instead"
        )
    return images if first else images.transpose(0, 3, 1, 2)


def _pixels(images: np.ndarray, path: Path) -> np.ndarray:
    """`images` as uint8, or as float32 in [0, 1]."""
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise ValueError(f"expected images uint8 or float in {path}, got {images.dtype}; save images.astype(np.uint8)")
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"expected float images in [0, 1] in {path}, got values from {low:.4g} to {high:.4g}; save pixels before "
            f"normalisation, as uint8 or divided by 255"
        )
    return images.astype(np.float32)


def _by(size: tuple[int, ...]) -> str:
    return f"{size[0]} x {size[1]}"
