"""Every argument check of this operation and its message. None of them waits for a GPU."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

MAX_SIDE = 65536  # a frequency is one 32-bit counter word of Philox: 16 bits for each axis
SIGN_MODES = ("channel", "image", "none")
_FLOATS = (torch.float32, torch.bfloat16, torch.float16)


def check_shape(shape: Sequence[int]) -> None:
    """(c, h, w), each at least 1, sides below 65536."""
    if len(shape) != 3:
        raise ValueError(f"expected `shape` to be (c, h, w), got {tuple(shape)}; leave out the batch axis")
    c, h, w = shape
    if c < 1 or h < 1 or w < 1:
        raise ValueError(f"expected at least one channel, row and column, got (c, h, w) = {(c, h, w)}")
    if h >= MAX_SIDE or w >= MAX_SIDE:
        raise ValueError(f"expected sides below {MAX_SIDE}, got (h, w) = {(h, w)}; cut the image into tiles")


def check_frequencies(frequencies: Tensor, device: torch.device) -> None:
    """(f, 2) int64 on `device`."""
    if frequencies.ndim != 2 or frequencies.shape[1] != 2:
        raise ValueError(
            f"expected `frequencies` of shape (f, 2), rows (ky, kx) in cycles per image, got {tuple(frequencies.shape)}"
        )
    if frequencies.dtype != torch.int64:
        raise TypeError(f"expected `frequencies` of torch.int64, got {frequencies.dtype}; use frequencies.long()")
    _same_device("frequencies", frequencies, device)


def check_image_ids(image_ids: Tensor) -> None:
    """(n,) int64."""
    if image_ids.ndim != 1:
        raise ValueError(f"expected `image_ids` of shape (n,), one per image, got {tuple(image_ids.shape)}")
    if image_ids.dtype != torch.int64:
        raise TypeError(f"expected `image_ids` of torch.int64, got {image_ids.dtype}; use image_ids.long()")


def check_seed(seed: int) -> None:
    """An unsigned 64-bit key."""
    if not isinstance(seed, int) or not 0 <= seed < 2**64:
        raise ValueError(f"expected `seed` to be an integer from 0 to 2**64 - 1, got {seed!r}")


def check_mode(mode: str) -> None:
    """One of the ways to draw signs."""
    if mode not in SIGN_MODES:
        raise ValueError(f"expected `signs` to be one of {SIGN_MODES}, got {mode!r}")


def check_images(images: Tensor, *, double: bool) -> None:
    """(n, c, h, w), float32, bfloat16, float16 or uint8; also float64 if `double`."""
    if images.ndim != 4:
        hint = "; add a batch axis with images[None]" if images.ndim == 3 else ""
        raise ValueError(f"expected `images` of shape (n, c, h, w), got {tuple(images.shape)}{hint}")
    check_shape(images.shape[1:])
    if images.dtype not in _FLOATS and images.dtype != torch.uint8 and not (double and images.dtype == torch.float64):
        raise TypeError(
            f"expected `images` of float32, bfloat16, float16 or uint8, got {images.dtype}; use images.float()"
        )


def check_perturbation(eps: float, phase: float, dtype: torch.dtype, *, double: bool) -> None:
    """Finite `eps` and `phase`, and a `dtype` that can be written."""
    if not math.isfinite(eps) or not math.isfinite(phase):
        raise ValueError(f"expected finite `eps` and `phase`, got {eps!r} and {phase!r}")
    if dtype not in _FLOATS and not (double and dtype == torch.float64):
        raise TypeError(
            f"expected `dtype` to be torch.float32, bfloat16 or float16, got {dtype}; cast the result afterwards"
        )


def check_signs(signs: Tensor, shape: tuple[int, int, int], device: torch.device) -> None:
    """(f, n, c) int8 on `device`."""
    if signs.shape != shape:
        raise ValueError(
            f"expected `signs` of shape (f, n, c) = {tuple(shape)}, got {tuple(signs.shape)}; draw them with "
            "fourier_signs"
        )
    if signs.dtype != torch.int8:
        raise TypeError(f"expected `signs` of torch.int8, got {signs.dtype}; use signs.to(torch.int8)")
    _same_device("signs", signs, device)


def check_ids_match(image_ids: Tensor, images: Tensor) -> None:
    """One id per image, on the images' device."""
    if image_ids.shape[0] != images.shape[0]:
        raise ValueError(
            f"expected one of `signs.image_ids` per image, got {image_ids.shape[0]} for {images.shape[0]} images"
        )
    _same_device("signs.image_ids", image_ids, images.device)


def check_normalisation(mean: Tensor | None, std: Tensor | None, images: Tensor) -> None:
    """Both or neither, (c,) floats on the images' device."""
    if mean is None and std is None:
        return
    if mean is None or std is None:
        given, missing = ("std", "`mean`; pass zeros") if mean is None else ("mean", "`std`; pass ones")
        raise ValueError(f"expected both `mean` and `std` or neither, got `{given}` without {missing}")
    for name, value in (("mean", mean), ("std", std)):
        if value.ndim != 1 or value.shape[0] != images.shape[1]:
            raise ValueError(
                f"expected `{name}` of shape ({images.shape[1]},), one per channel, got {tuple(value.shape)}"
            )
        if not value.dtype.is_floating_point:
            raise TypeError(f"expected `{name}` of a float type, got {value.dtype}; use {name}.float()")
        _same_device(name, value, images.device)


def _same_device(name: str, value: Tensor, device: torch.device) -> None:
    if value.device != device:
        raise ValueError(
            f"expected `{name}` on {device}, where the images are, got {value.device}; move it with .to(images.device)"
        )
