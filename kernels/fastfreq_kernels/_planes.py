"""What operations on planes of images share: their pixels, their masks, their contrast."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["contrast", "filtered", "half_masks", "pixels_of", "rescaling"]

_GREY = 1e-5  # share of an image's standard deviation below which what is left of it is rounding


def pixels_of(images: Tensor) -> Tensor:
    """Images as floats in [0, 1]: float64 stays, uint8 is divided by 255."""
    if images.dtype == torch.uint8:
        return images.float() / 255
    return images if images.dtype == torch.float64 else images.float()


def filtered(planes: Tensor, masks: Tensor) -> Tensor:
    """Re ifft2(M fft2(planes)) of planes (n, c, h, w) under masks (b, h, w): (b, n, c, h, w), the specification."""
    kept = masks.to(planes.dtype)[:, None, None]
    if not len(masks) or not planes.numel():  # MKL refuses to transform nothing
        return kept * planes
    return torch.fft.ifft2(kept * torch.fft.fft2(planes)).real


def half_masks(masks: Tensor) -> Tensor:
    """(b, h, w // 2 + 1) float32: the symmetric part (M(k) + M(-k)) / 2 on the half plane of a real FFT, over h w.

    The symmetric part is what acts on a real image whose filtered form is taken as real. The factor 1 / (h w) spares
    the inverse transform a pass of its own.
    """
    h, w = masks.shape[1:]
    kept = masks.float()
    rows, columns = (-torch.arange(n, device=masks.device) % n for n in (h, w))
    mirrored = kept[:, rows[:, None], columns[None, : w // 2 + 1]]
    return (kept[..., : w // 2 + 1] + mirrored) / (2 * h * w)


def contrast(planes: Tensor, pixels: Tensor, dims: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """(gain, offset) with which filtered images (b, n, ...) get the mean and standard deviation of their originals.

    Both are taken over `dims`, channels, rows and columns, which are kept with size 1; they count from the end, as
    `pixels` (n, ...) have no bands. An image of which nothing but rounding is left becomes grey.
    """
    wanted, level = torch.std_mean(pixels, dim=dims, keepdim=True, correction=0)
    deviation, mean = torch.std_mean(planes, dim=dims, keepdim=True, correction=0)
    return rescaling(deviation, mean, wanted, level)


def rescaling(deviation: Tensor, mean: Tensor, wanted: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    """(gain, offset) from a mean and standard deviation to those of the original, `level` and `wanted`."""
    left = deviation > _GREY * wanted
    gain = torch.where(left, wanted / torch.where(left, deviation, 1.0), 0.0)
    return gain, level - gain * mean
