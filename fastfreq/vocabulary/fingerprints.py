"""What tells one image from another: 64 bits of its pixels, the same however they are stored."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from fastfreq_kernels._threads import own_threads_only, split_over_threads
from numpy.typing import NDArray
from torch import Tensor

_SLICE_BYTES = 1 << 20  # of float32 pixels looked at together, which stay in the cache
_LARGE = 1 << 14  # pixels of an image from which on hashing it takes longer than Python's lock changes hands
_FIRST = 64  # pixels that nearly always tell floats from 8 bits
_GRID = 2.0**-22  # distance to k / 255 that divisions and products with 1 / 255 in float32 leave, with a margin


def fingerprints(images: Tensor) -> NDArray[np.uint64]:
    """One number per image that depends on its pixels and its shape, and on nothing else.

    Images with 8 bits a pixel are the same image as uint8 and as floats x / 255: where all pixels of an image are
    within 2^-22 of multiples of 1 / 255, the multiples are hashed, since x / 255 differs in the last bit between
    processors and from x * (1 / 255). Of any other image the float32 values are hashed, every bit. Memory layout,
    batch and device do not matter.

    The hash is BLAKE2b of 8 bytes. Among n different images two agree with a probability of about n^2 / 2^65:
    5e-8 for the 1.3 million of ImageNet.

    Args:
        images: (n, c, h, w), uint8 or floats in [0, 1].

    Returns:
        (n,) in the order of the images.

    Raises:
        ValueError: not four axes.
        TypeError: neither uint8 nor floats.

    Source: Aumasson, Neves, Wilcox-O'Hearn, Winnerlein 2013, "BLAKE2: simpler, smaller, fast as MD5".
    """
    if images.ndim != 4:
        raise ValueError(f"expected `images` of shape (n, c, h, w), got {tuple(images.shape)}")
    if images.dtype != torch.uint8 and not images.dtype.is_floating_point:
        raise TypeError(f"expected `images` uint8 or of a float type, got {images.dtype}")
    found = np.empty(len(images), np.uint64)
    host, size = images.detach().cpu(), images[0].numel() if len(images) else 0
    step = max(1, _SLICE_BYTES // max(1, 4 * size))

    def run(start: int, stop: int) -> None:
        for i in range(start, stop, step):
            some = slice(i, min(i + step, stop))
            found[some] = [_digest(array) for array in _canonical(host[some].contiguous())]

    with own_threads_only():
        if size >= _LARGE:
            split_over_threads(run, len(images))
        else:
            run(0, len(images))
    return found


def _canonical(images: Tensor) -> list[NDArray[np.uint8] | NDArray[np.float32]]:
    """Each image as uint8 where it has 8 bits a pixel, and as float32 where it has not."""
    if images.dtype == torch.uint8:
        return list(images.numpy())
    floats, whole = images.float(), [False] * len(images)
    codes = np.empty(images.shape, np.uint8)
    if _of_8_bits(floats.flatten(1)[:, :_FIRST]).any():
        whole = _of_8_bits(floats.flatten(1), codes.reshape(len(codes), -1)).tolist()
    return [codes[i] if whole[i] else (image + 0.0).numpy() for i, image in enumerate(floats)]  # -0 is 0


def _of_8_bits(pixels: Tensor, codes: NDArray[np.uint8] | None = None) -> Tensor:
    """(n,) whether pixels (n, m) are multiples of 1 / 255 from 0 to 1; which multiples goes into `codes`."""
    nearest = (pixels * 255).round_().clamp_(0, 255)
    if codes is not None:
        with np.errstate(invalid="ignore"):  # not a number
            np.copyto(codes, nearest.numpy(), casting="unsafe")  # four times as fast as torch's
    if not pixels.numel():
        return torch.ones(len(pixels), dtype=torch.bool)
    # maxima along an axis: `aminmax` along one, and norms, take 30 times as long
    return nearest.div_(255).sub_(pixels).abs_().amax(dim=1) <= _GRID  # which not a number is not


def _digest(array: NDArray[np.uint8] | NDArray[np.float32]) -> int:
    # the type and shape too: black images of 4 x 9 and 6 x 6 are two
    kind = f"{array.dtype.str[1:]}{array.shape}".encode()
    digest = hashlib.blake2b(kind, digest_size=8)
    digest.update(np.ascontiguousarray(array).data)
    return int.from_bytes(digest.digest(), "little")
