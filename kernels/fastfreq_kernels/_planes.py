"""What operations on filtered planes share: their masks, their contrast, and the last step to a network's input."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["check_masks", "contrast", "empty", "filtered", "finish", "half_masks", "laid_out", "pixels_of", "rescaling"]

_GREY = 1e-5  # share of an image's standard deviation below which what is left of it is rounding


def check_masks(masks: Tensor, images: Tensor, *, double: bool) -> None:
    """(b, h, w), bool or float, on the images' device.

    Raises:
        ValueError: another shape or device.
        TypeError: another dtype.
    """
    h, w = images.shape[2:]
    if masks.ndim != 3 or masks.shape[1:] != (h, w):
        raise ValueError(
            f"expected `masks` of shape (b, {h}, {w}), a whole unshifted plane each, got {tuple(masks.shape)}"
        )
    if masks.dtype not in (torch.bool, torch.float32) and not (double and masks.dtype == torch.float64):
        raise TypeError(f"expected `masks` of bool or float32, got {masks.dtype}; use masks.float()")
    if masks.device != images.device:
        raise ValueError(
            f"expected `masks` on {images.device}, where the images are, got {masks.device}; "
            f"move them with .to(images.device)"
        )


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


def finish(
    planes: Tensor,
    base: Tensor | None,
    gain: Tensor | None,
    offset: Tensor | None,
    *,
    clip: bool,
    mean: Tensor | None,
    std: Tensor | None,
    dtype: torch.dtype,
) -> Tensor:
    """normalise(clip(base + gain plane + offset)) of planes (b, n, c, h, w), cast: the specification, differentiable.

    Args:
        planes: (b, n, c, h, w).
        base: (n, c, h, w) added to every band, or None.
        gain: broadcastable to planes, or None.
        offset: broadcastable to planes, or None.
        clip: to [0, 1], before normalisation.
        mean: (c,), or None.
        std: (c,), or None.
        dtype: of the result.
    """
    out = planes if gain is None else planes * gain
    out = out if offset is None else out + offset
    out = out if base is None else base + out
    if clip:
        out = out.clamp(0, 1)
    if mean is not None and std is not None:
        out = (out - mean.to(out.dtype)[:, None, None]) / std.to(out.dtype)[:, None, None]
    return out.to(dtype)


def empty(images: Tensor, bands: int, dtype: torch.dtype, *, channels_last: bool) -> Tensor:
    """An unwritten (bands, n, c, h, w) result, each image contiguous or with the channels innermost."""
    n, c, h, w = images.shape
    if channels_last:
        return images.new_empty((bands, n, h, w, c), dtype=dtype).permute(0, 1, 4, 2, 3)
    return images.new_empty((bands, n, c, h, w), dtype=dtype)


def laid_out(out: Tensor, *, channels_last: bool) -> Tensor:
    """(b, n, c, h, w) with each image contiguous or with the channels innermost."""
    if channels_last:
        return out.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    return out.contiguous()
