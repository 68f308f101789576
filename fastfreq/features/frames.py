"""Fixed frames for images: the coefficients of one, and how well the largest few of them give the image again."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import fastfreq_kernels as kernels
import torch
from torch import Tensor

from fastfreq.vocabulary import checks

__all__ = [
    "FRAMES",
    "Frame",
    "analysis_filters",
    "curvelet_scales",
    "curvelets",
    "fourier",
    "library",
    "named",
    "wavelet",
    "wavelet_filters",
]

FRAMES = ("fourier", "wavelet", "curvelet")
Errors = Callable[[Tensor, Sequence[int]], Tensor]


class Frame(NamedTuple):
    """An orthonormal basis of images, or a tight frame with frame bound 1.

    Attributes:
        name: in full, such as "wavelet db4".
        errors: image (c, h, w) float64 and counts (k,) -> squared error (k,) of its best approximation by so many real
            numbers of all channels together.
    """

    name: str
    errors: Errors


def named(kind: str, shape: tuple[int, int], *, name: str | None = None) -> Frame:
    """The frame of a kind for images of a shape (h, w).

    Args:
        kind: one of `FRAMES`.
        shape: of the images.
        name: of an orthogonal wavelet of PyWavelets, "db4" if None; for "wavelet" alone.

    Raises:
        ValueError: another kind, a wavelet that is not orthogonal, or sides that the frame cannot divide.
        ImportError: the library that has it is not installed.
    """
    checks.check_choice("frame", kind, FRAMES)
    if name is not None and kind != "wavelet":
        raise ValueError(f"expected a `wavelet` with frame='wavelet' alone, got {name!r} with {kind!r}; leave it out")
    if kind == "wavelet":
        return wavelet(shape, "db4" if name is None else name)
    return fourier() if kind == "fourier" else curvelets(shape)


def fourier() -> Frame:
    """The orthonormal real Fourier basis: a cosine and a sine for each pair k, -k, each a term of its own."""

    def errors(image: Tensor, counts: Sequence[int]) -> Tensor:
        half = torch.fft.rfft2(image, norm="ortho")
        h, w = image.shape[-2:]
        i, j = torch.arange(h)[:, None], torch.arange(half.shape[-1])
        own = ((2 * i) % h == 0) & ((2 * j) % w == 0)  # k = -k: a real number, one term
        pairs = (j > 0) & (2 * j != w) | (i < -(-h // 2)) & (i > 0)  # of the columns that hold k and -k, one each
        twice = half[..., pairs & ~own]
        values = [half.real[..., own], math.sqrt(2) * twice.real, math.sqrt(2) * twice.imag]
        return _left_out(torch.cat([v.flatten() for v in values]), counts)

    return Frame("fourier", errors)


def wavelet(shape: tuple[int, int], name: str) -> Frame:
    """An orthonormal wavelet basis, periodic, as many levels as the sides can be halved.

    Raises:
        ValueError: a wavelet that is not orthogonal or not known, or odd sides.
        ImportError: PyWavelets is not installed.
    """
    low, high = wavelet_filters(name)[:2]
    levels = min((side & -side).bit_length() - 1 for side in shape)
    if not levels:
        raise ValueError(
            f"expected even sides for an orthonormal wavelet basis, got {shape}; crop or resize the images"
        )

    def errors(image: Tensor, counts: Sequence[int]) -> Tensor:
        smooth, details = kernels.dwt2(image[None], low, high, mode="periodization", levels=levels)
        return _left_out(torch.cat([v.flatten() for v in (smooth, *details)]), counts)

    return Frame(f"wavelet {name}", errors)


def wavelet_filters(name: str) -> tuple[list[float], ...]:
    """(low, high) of the analysis and (low, high) of the synthesis of an orthogonal wavelet of PyWavelets.

    Raises:
        ValueError: it is not known, or not orthogonal.
        ImportError: PyWavelets is not installed.
    """
    found = _discrete(name)
    if not found.orthogonal:
        raise ValueError(f"expected an orthogonal wavelet, such as 'haar', 'db4' or 'sym8', got {name!r}")
    return tuple(list(taps) for taps in (found.dec_lo, found.dec_hi, found.rec_lo, found.rec_hi))


def analysis_filters(name: str) -> tuple[list[float], list[float]]:
    """(low, high) of the analysis of any discrete wavelet of PyWavelets.

    Raises:
        ValueError: it is not known.
        ImportError: PyWavelets is not installed.
    """
    found = _discrete(name)
    return list(found.dec_lo), list(found.dec_hi)


def _discrete(name: str) -> Any:
    pywt = library("pywt", "wavelets")
    try:
        if isinstance(name, str):  # another thing may do as one, such as a list of its filters
            return pywt.Wavelet(name)
        raise TypeError
    except (ValueError, TypeError):
        raise ValueError(
            f"expected the name of a discrete wavelet of PyWavelets, such as 'haar', 'db4' or 'sym8', got {name!r:.60}"
        ) from None


def curvelets(shape: tuple[int, int]) -> Frame:
    """The uniform discrete curvelets (a tight frame, about twice as many complex numbers as pixels).

    An approximation keeps the largest coefficients, each a complex number and so two terms, and is what the adjoint
    makes of them: not the best one that so few curvelets have, which nobody knows how to find.

    Raises:
        ValueError: sides below 32, or no multiples of the coarsest grid's step.
        ImportError: curvelets is not installed.

    Source: Nguyen, Chauris 2010, by the package `curvelets`.
    """
    if min(shape) < 32:
        raise ValueError(f"expected sides of at least 32 for curvelets, got {shape}; enlarge the images")
    scales, multiple = curvelet_scales(shape)
    if shape[0] % multiple or shape[1] % multiple:
        raise ValueError(
            f"expected sides that are multiples of {multiple} for curvelets of {scales} scales, which are no frame on "
            f"others, got {shape}; crop or resize the images"
        )
    transform = library("curvelets.torch", "curvelets").UDCT(shape=shape, num_scales=scales, wedges_per_direction=3)

    def errors(image: Tensor, counts: Sequence[int]) -> Tensor:
        coefficients = [transform.forward(channel) for channel in image]
        # not those from a size on: where channels are the same, or an image is its mirror image, some are of one size
        order = torch.cat([v.flatten() for v in _leaves(coefficients)]).abs().sort(descending=True, stable=True).indices
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order))
        places = list(place.split([v.numel() for v in _leaves(coefficients)]))
        found = []
        for count in counts:
            kept = _first(coefficients, iter(places), count // 2)
            back = torch.stack([transform.backward(channel) for channel in kept])
            found.append((back - image).square().sum())
        return torch.stack(found)

    return Frame("curvelet", errors)


def curvelet_scales(shape: tuple[int, int]) -> tuple[int, int]:
    """How many scales curvelets of a shape have, and what its sides must be multiples of for a tight frame.

    The coarsest keeps some 16 x 16 numbers. Every grid on which coefficients stand has to fit into the image, or the
    transform of the package is neither tight nor invertible: at 33 x 47 it gives images again with errors above 1.
    """
    scales = max(2, round(math.log2(min(shape))) - 3)
    return scales, max(4, 1 << (scales - 1))


def _left_out(values: Tensor, counts: Sequence[int]) -> Tensor:
    """Sums of the squares of all but the largest so many: Parseval."""
    squares = values.square().sort(descending=True).values.flip(0)
    from_smallest = torch.cat([squares.new_zeros(1), squares.cumsum(0)])
    return from_smallest[[max(0, len(values) - count) for count in counts]]


def _leaves(tree: Any) -> list[Tensor]:
    return [tree] if isinstance(tree, Tensor) else [leaf for branch in tree for leaf in _leaves(branch)]


def _first(tree: Any, places: Iterator[Tensor], count: int) -> Any:
    """The tree with zeros where a number is not among the first so many; places are in the order of `_leaves`."""
    if isinstance(tree, Tensor):
        return torch.where(next(places).view(tree.shape) < count, tree, 0)
    return [_first(branch, places, count) for branch in tree]


def library(module: str, extra: str) -> Any:
    """A module of an extra.

    Raises:
        ImportError: it is not installed; the message says how it is.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"expected {module.partition('.')[0]} to be installed, it is not; pip install 'fastfreq[{extra}]'"
        ) from error
