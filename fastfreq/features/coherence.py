"""A convolution's filters as the atoms of a dictionary, at every place: how alike two of them can be."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from fastfreq.vocabulary import numbers
from fastfreq.vocabulary.checks import check_finite_weight, check_tensor

Pair = tuple[int, int]


def mutual_coherence(
    weight: Tensor, *, stride: int | Pair = 1, dilation: int | Pair = 1, groups: int = 1
) -> tuple[float, int]:
    """(mu, zero atoms): the largest correlation of two different atoms, over all atoms at all places, exactly.

    The dictionary of a convolution has one atom for each filter and each place of the output: the filter, `stride`
    times the place away. mu = max |<a, b>| / |a| |b|; atoms without a common tap have 0, so that only places within a
    kernel of each other count, on a plane without borders. In float64.

    Args:
        weight: (m, c / groups, kh, kw) of a convolution.
        stride: of it.
        dilation: of it.
        groups: of it; filters of different groups have no channel in common.

    Returns:
        mu in [0, 1], 0 where no two atoms meet; and how many filters are zero, which are left out.

    Raises:
        ValueError: a weight of another shape, or with NaN or infinity; a stride, dilation or number of groups below 1.
        TypeError: a weight that is no real tensor, or others than integers.

    Source: Papyan, Sulam, Elad 2017, "Working locally thinking globally", for the definition over all shifts.
    """
    check_tensor("weight", weight, "(m, c / groups, kh, kw)")
    if weight.is_complex():
        raise TypeError(f"expected a real `weight`, got {weight.dtype}; real and imaginary parts are two channels")
    groups, stride, dilation = numbers.as_int("groups", groups), _steps("stride", stride), _steps("dilation", dilation)
    if weight.ndim != 4 or groups < 1 or len(weight) % groups or not weight.numel():
        raise ValueError(
            f"expected `weight` (m, c / groups, kh, kw), m a multiple of {groups}, got {tuple(weight.shape)}"
        )
    check_finite_weight(weight)
    with torch.no_grad():
        flat = weight.detach().double().cpu().flatten(1)
        flat = flat / flat.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
        norms = flat.norm(dim=1, keepdim=True)
        zero = int((norms == 0).sum())
        atoms = (flat / norms.where(norms > 0, 1)).view(groups, -1, *weight.shape[1:])
        steps = shift_steps(stride, dilation)
        h, w = weight.shape[2:]
        largest = 0.0
        for i in range(0, h, steps[0]):
            for j in range(-((w - 1) // steps[1]) * steps[1], w, steps[1]):
                if i == 0 and j < 0:
                    continue  # the same pairs as at j > 0
                a = atoms[..., i:, max(j, 0) : w + min(j, 0)].flatten(2)
                b = atoms[..., : h - i, max(-j, 0) : w - max(j, 0)].flatten(2)
                products = (a @ b.transpose(1, 2)).abs()
                if i == j == 0:
                    products.diagonal(dim1=1, dim2=2).zero_()
                largest = max(largest, float(products.max()))
    return min(largest, 1.0), zero


def _steps(name: str, value: int | Pair) -> Pair:
    """One for each axis, from 1."""
    several = not isinstance(value, int) and getattr(value, "ndim", 1) != 0
    rows, columns = numbers.as_ints(name, value if several else (value, value), of="one integer or (rows, columns)")
    if min(rows, columns) < 1:
        raise ValueError(f"expected `{name}` from 1, got {value!r}")
    return rows, columns


def shift_steps(stride: int | Pair, dilation: int | Pair) -> Pair:
    """By how many taps atoms that have some in common can be apart, per axis: multiples of stride / gcd."""
    pairs = zip(pair(stride), pair(dilation), strict=True)
    rows, columns = (s // math.gcd(s, d) for s, d in pairs)
    return rows, columns


def stripe_counts(
    code: Tensor, kernel: Pair, *, stride: int | Pair = 1, dilation: int | Pair = 1, groups: int = 1
) -> Tensor:
    """(n, groups, h, w) of a code (n, m, h, w): non-zeros among all atoms with a tap in common with those of a place.

    Their maximum is the code's stripe norm ||code||_{0, inf}.

    Source: Papyan, Romano, Elad 2017.
    """
    n, m, h, w = code.shape
    counts = (code != 0).view(n, groups, m // groups, h, w).sum(dim=2).to(torch.float64)
    steps = shift_steps(stride, dilation)
    reach = [(k - 1) // step for k, step in zip(kernel, steps, strict=True)]
    apart = [d // math.gcd(s, d) for s, d in zip(pair(stride), pair(dilation), strict=True)]
    for axis, (r, step) in enumerate(zip(reach, apart, strict=True)):
        shape = (groups, 1, 2 * r + 1, 1) if axis == 0 else (groups, 1, 1, 2 * r + 1)
        ones = counts.new_ones(shape)
        padding, spread = ((r * step, 0), (step, 1)) if axis == 0 else ((0, r * step), (1, step))
        counts = F.conv2d(counts, ones, padding=padding, dilation=spread, groups=groups)
    return counts.round()


def pair(value: int | Pair) -> Pair:
    """A number for each axis."""
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[1]))
