"""Images -> their power by ring of frequencies, and its map summed over images, in one pass over the spectrum."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastfreq_kernels import _dispatch

from . import _cpu, _reference
from ._rings import rings_of

__all__ = ["radial_cells", "radial_power"]

_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.uint8)


def radial_power(
    images: Tensor, *, side: int | None = None, magnitude: bool = False, backend: str | None = None
) -> tuple[Tensor, Tensor]:
    """(rings, plane): |F(k)|^2 of every image summed over rings of frequencies, and of every frequency over images.

    F is the orthonormal 2-D DFT of each channel, so rings of one channel add up to the sum of its squared pixels
    (Parseval). A frequency k belongs to ring floor(s sqrt((ky / h)^2 + (kx / w)^2) + 1/2), with s the shorter side of
    the image, or `side`. Arithmetic is float32, float64 if the images are; sums over images are float64.

    Args:
        images: (n, c, h, w), a float type, or uint8, which is divided by 255; any strides.
        side: None for rings one cycle per shorter side wide, out to the corner of the plane; an integer for rings
            1 / side cycles per pixel wide, out to side // 2 (half a cycle per pixel) on images of any size from `side`.
        magnitude: sum |F(k)| in place of |F(k)|^2.
        backend: None chooses: the reference if a gradient is needed, else "triton" on a GPU and "cpu" on a CPU. One
            that is named is used or refused.

    Returns:
        rings (n, c, r), float32, or float64 for float64 images; divide by `radial_cells` for means. And plane
        (c, h, w // 2 + 1), float64, the half that a real FFT keeps.

    Raises:
        ValueError: a shape or side other than these.
        TypeError: a dtype other than these.
        RuntimeError: a backend that cannot run here, or that cannot give the gradient that an input requires.
    """
    _check_images(images)
    _check_side(side, (images.shape[2], images.shape[3]))
    differentiated = torch.is_grad_enabled() and images.requires_grad
    path = _dispatch.choose(backend, images.device.type, differentiated=differentiated)
    if path == "reference":
        return _reference.radial_power(images, side, magnitude)
    run: Any = _RADIAL if path == "operator" else _dispatch.interpreted("radial_power:radial_power")
    return run(images, side, magnitude)


def radial_cells(height: int, width: int, *, side: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """(cells, frequency, spread) of the rings of `radial_power`, each (r,) float64 on the CPU.

    Args:
        height: of the images.
        width: of the images.
        side: as for `radial_power`.

    Returns:
        The frequencies of the plane in each ring, their geometric mean radius in cycles per pixel (0 for ring 0), and
        the variance of the logarithm of their radius: a power law f^-a has the mean frequency^-a exp(a^2 spread / 2)
        over the ring, to second order.

    Raises:
        ValueError: a side or shape that `radial_power` refuses.
    """
    if height < 1 or width < 1:
        raise ValueError(f"expected at least one row and column, got {height} x {width}")
    _check_side(side, (height, width))
    table = rings_of(height, width, side)
    ring = torch.repeat_interleave(torch.arange(len(table.cells)), table.starts.diff())
    logs = torch.where(table.radii > 0, table.radii, 1.0).log()

    def mean(values: Tensor) -> Tensor:
        return torch.zeros_like(table.cells).index_add_(0, ring, table.weights * values) / table.cells

    middle = mean(logs)
    frequency = middle.exp()
    frequency[0] = 0
    return table.cells.clone(), frequency, mean((logs - middle[ring]).square())


def _check_images(images: Tensor) -> None:
    if images.ndim != 4 or 0 in images.shape[1:]:
        hint = "; add a batch axis with images[None]" if images.ndim == 3 else ""
        raise ValueError(f"expected `images` of shape (n, c, h, w), got {tuple(images.shape)}{hint}")
    if images.dtype not in _DTYPES:
        raise TypeError(f"expected `images` of a float type or uint8, got {images.dtype}; use images.float()")


def _check_side(side: int | None, shape: tuple[int, int]) -> None:
    if side is not None and not 1 <= side <= min(shape):
        raise ValueError(
            f"expected `side` from 1 to the shorter side of the images, {min(shape)}, got {side}: a narrower ring of "
            f"{shape[0]} x {shape[1]} images may hold no frequency"
        )


def _fake(images: Tensor, side: int | None, magnitude: bool) -> tuple[Tensor, Tensor]:
    n, c, h, w = images.shape
    dtype = torch.float64 if images.dtype == torch.float64 else torch.float32
    count = len(rings_of(int(h), int(w), side).cells)
    return images.new_empty((n, c, count), dtype=dtype), images.new_empty((c, h, w // 2 + 1), dtype=torch.float64)


_RADIAL: Any = _dispatch.register(
    "radial_power",
    "(Tensor images, int? side, bool magnitude) -> (Tensor, Tensor)",
    cpu=_cpu.radial_power,  # pyright: ignore[reportArgumentType]
    triton="radial_power:radial_power",
    fake=_fake,  # pyright: ignore[reportArgumentType]
)
