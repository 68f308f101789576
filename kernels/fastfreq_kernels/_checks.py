"""Argument checks that several operations share, and their messages. None of them waits for a GPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ._output import Output
from ._philox import CHANNELS, DOMAINS

MAX_SIDE = 65536  # a frequency is one 32-bit counter word of Philox: 16 bits for each axis
_FLOATS = (torch.float32, torch.bfloat16, torch.float16)
_MATRICES = (torch.float32, torch.float64, torch.complex64, torch.complex128)


def check_shape(shape: Sequence[int]) -> None:
    """(c, h, w), each at least 1, sides below 65536."""
    if len(shape) != 3:
        raise ValueError(f"expected `shape` to be (c, h, w), got {tuple(shape)}; leave out the batch axis")
    c, h, w = shape
    if c < 1 or h < 1 or w < 1:
        raise ValueError(f"expected at least one channel, row and column, got (c, h, w) = {(c, h, w)}")
    if h >= MAX_SIDE or w >= MAX_SIDE:
        raise ValueError(f"expected sides below {MAX_SIDE}, got (h, w) = {(h, w)}; cut the image into tiles")


def check_stream(seed: int, domain: int, channels: int) -> None:
    """What a counter of Philox holds beside image and index: see `_philox`."""
    for name, value, bits in (("seed", seed, 64), ("domain", domain, DOMAINS.bit_length() - 1)):
        if not isinstance(value, int) or not 0 <= value < 2**bits:
            raise ValueError(f"expected `{name}` to be an integer from 0 to 2**{bits} - 1, got {value!r}")
    if channels > CHANNELS:
        raise ValueError(f"expected at most {CHANNELS} channels, got {channels}: random numbers know no more")


def check_frequencies(frequencies: Tensor, device: torch.device) -> None:
    """(f, 2) int64 on `device`."""
    if frequencies.ndim != 2 or frequencies.shape[1] != 2:
        raise ValueError(
            f"expected `frequencies` of shape (f, 2), rows (ky, kx) in cycles per image, got {tuple(frequencies.shape)}"
        )
    if frequencies.dtype != torch.int64:
        raise TypeError(f"expected `frequencies` of torch.int64, got {frequencies.dtype}; use frequencies.long()")
    check_device("frequencies", frequencies, device)


def check_image_ids(image_ids: Tensor, images: Tensor | None = None, name: str = "image_ids") -> None:
    """(n,) int64, one for each of the images, if there are any, and on their device."""
    if image_ids.ndim != 1:
        raise ValueError(f"expected `image_ids` of shape (n,), one per image, got {tuple(image_ids.shape)}")
    if image_ids.dtype != torch.int64:
        raise TypeError(f"expected `image_ids` of torch.int64, got {image_ids.dtype}; use image_ids.long()")
    if images is None:
        return
    if image_ids.shape[0] != images.shape[0]:
        raise ValueError(f"expected one of `{name}` per image, got {image_ids.shape[0]} for {images.shape[0]} images")
    check_device(name, image_ids, images.device)


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


def check_masks(masks: Tensor, images: Tensor, *, double: bool) -> None:
    """(b, h, w), bool or float32, also float64 if `double`, on the images' device."""
    h, w = images.shape[2:]
    if masks.ndim != 3 or masks.shape[1:] != (h, w):
        raise ValueError(
            f"expected `masks` of shape (b, {h}, {w}), a whole unshifted plane each, got {tuple(masks.shape)}"
        )
    if masks.dtype not in (torch.bool, torch.float32) and not (double and masks.dtype == torch.float64):
        raise TypeError(f"expected `masks` of bool or float32, got {masks.dtype}; use masks.float()")
    check_device("masks", masks, images.device)


def check_output(output: Output, images: Tensor, *, double: bool) -> None:
    """A dtype that can be written, also float64 if `double`; mean and std both or neither, (c,) floats."""
    if output.dtype not in _FLOATS and not (double and output.dtype == torch.float64):
        raise TypeError(
            f"expected `dtype` to be torch.float32, bfloat16 or float16, got {output.dtype}; cast the result afterwards"
        )
    if output.mean is None and output.std is None:
        return
    if output.mean is None or output.std is None:
        given, missing = ("std", "`mean`; pass zeros") if output.mean is None else ("mean", "`std`; pass ones")
        raise ValueError(f"expected both `mean` and `std` or neither, got `{given}` without {missing}")
    for name, value in (("mean", output.mean), ("std", output.std)):
        if value.ndim != 1 or value.shape[0] != images.shape[1]:
            raise ValueError(
                f"expected `{name}` of shape ({images.shape[1]},), one per channel, got {tuple(value.shape)}"
            )
        if not value.dtype.is_floating_point:
            raise TypeError(f"expected `{name}` of a float type, got {value.dtype}; use {name}.float()")
        check_device(name, value, images.device)


def check_matrices(matrices: Tensor) -> None:
    """(..., m, n), real or complex, float32 or float64."""
    if matrices.ndim < 2 or 0 in matrices.shape[-2:]:
        raise ValueError(f"expected matrices of shape (..., m, n), neither of them 0, got {tuple(matrices.shape)}")
    if matrices.dtype not in _MATRICES:
        raise TypeError(f"expected float32, float64, complex64 or complex128, got {matrices.dtype}")


def check_device(name: str, value: Tensor, device: torch.device) -> None:
    """On the images' device."""
    if value.device != device:
        raise ValueError(
            f"expected `{name}` on {device}, where the images are, got {value.device}; move it with .to(images.device)"
        )
