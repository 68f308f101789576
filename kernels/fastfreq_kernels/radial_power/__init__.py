"""Images -> their power by ring of frequencies, and its map summed over images, in one pass over the spectrum."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastfreq_kernels import _dispatch

from . import _cpu, _reference
from ._parts import HIGHEST, LOWEST
from ._rings import ring_count, rings_of, statistics_of

__all__ = ["radial_cells", "radial_power", "ring_moments"]

_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.uint8)


def radial_power(
    images: Tensor,
    *,
    side: int | None = None,
    magnitude: bool = False,
    exponents: Sequence[int] | None = None,
    backend: str | None = None,
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
        exponents: None for sums over images that round; p descending integers e for exact ones: each value is cut into
            the nearest multiple of 2^e_0, of what is left the nearest multiple of 2^e_1, and so on, and multiples of
            one 2^e are added up, exactly while their sum is below 2^(e + 53). No order of the images, and no way of
            adding sums of several calls, changes a bit.
        backend: None chooses: the reference if a gradient is needed, else "triton" on a GPU and "cpu" on a CPU. One
            that is named is used or refused.

    Returns:
        rings (n, c, r), float32, or float64 for float64 images; divide by `radial_cells` for means. And plane
        (c, h, w // 2 + 1), float64, the half that a real FFT keeps; with `exponents` (p, c, h, w // 2 + 1).

    Raises:
        ValueError: a shape, side or exponents other than these.
        TypeError: a dtype other than these.
        RuntimeError: a backend that cannot run here, or that cannot give the gradient that an input requires.
    """
    _check_images(images)
    _check_side(side, (images.shape[2], images.shape[3]))
    return _RADIAL(images, side, magnitude, _checked(exponents), backend=backend)


def ring_moments(profiles: Tensor, *, exponents: Sequence[int], backend: str | None = None) -> Tensor:
    """Sums of p_i p_j over images for every two rings i and j of their profiles p, exact as in `radial_power`.

    Args:
        profiles: (n, r) float64.
        exponents: p descending integers, as in `radial_power`.
        backend: as in `radial_power`.

    Returns:
        (p, r, r) float64, on the device of the profiles.

    Raises:
        ValueError: a shape or exponents other than these.
        TypeError: a dtype other than float64.
        RuntimeError: a backend that cannot run here, or that cannot give the gradient that an input requires.
    """
    if profiles.ndim != 2:
        raise ValueError(f"expected `profiles` of shape (n, r), got {tuple(profiles.shape)}")
    if profiles.dtype != torch.float64:
        raise TypeError(f"expected `profiles` of float64, got {profiles.dtype}; use profiles.double()")
    return _MOMENTS(profiles, _checked(exponents), backend=backend)


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
    frequency, spread = statistics_of(height, width, side)
    return rings_of(height, width, side).cells.clone(), frequency.clone(), spread.clone()


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


def _checked(exponents: Sequence[int] | None) -> list[int] | None:
    if exponents is None:
        return None
    given = list(exponents)
    if not given or sorted(set(given), reverse=True) != given or not LOWEST <= given[-1] <= given[0] <= HIGHEST:
        raise ValueError(f"expected `exponents` descending from {HIGHEST} at most to {LOWEST} at least, got {given}")
    return given


def _fake(images: Tensor, side: int | None, magnitude: bool, exponents: Sequence[int] | None) -> tuple[Tensor, Tensor]:
    n, c, h, w = images.shape
    dtype = torch.float64 if images.dtype == torch.float64 else torch.float32
    count = ring_count(int(h), int(w), side)
    parts = () if exponents is None else (len(exponents),)
    plane = images.new_empty((*parts, c, h, w // 2 + 1), dtype=torch.float64)
    return images.new_empty((n, c, count), dtype=dtype), plane


def _fake_moments(profiles: Tensor, exponents: Sequence[int]) -> Tensor:
    return profiles.new_empty((len(exponents), profiles.shape[1], profiles.shape[1]))


_RADIAL = _dispatch.register(
    "radial_power",
    "(Tensor images, int? side, bool magnitude, int[]? exponents) -> (Tensor, Tensor)",
    reference=_reference.radial_power,
    cpu=_cpu.radial_power,
    fake=_fake,
)
_MOMENTS = _dispatch.register(
    "ring_moments",
    "(Tensor profiles, int[] exponents) -> Tensor",
    reference=_reference.ring_moments,
    cpu=_cpu.ring_moments,
    fake=_fake_moments,
)
