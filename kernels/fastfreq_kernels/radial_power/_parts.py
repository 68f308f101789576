"""Sums of floats that no order can change: each term is cut into multiples of 2^e for given exponents e.

Adding 1.5 * 2^(e + 52) to a float64 leaves no digit below 2^e, so taking it away again leaves the nearest multiple of
2^e, and what that differs from the term is exact. Multiples of one 2^e add up exactly while their sum is below
2^(e + 53).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["HIGHEST", "LOWEST", "add_parts", "anchors_of", "moments", "sums_of_parts"]

HIGHEST, LOWEST = 900, -900  # exponents whose anchors and halves are far from float64's own ends
_BLOCK = 1 << 14  # sums that grow together on a CPU, while their terms are in cache
_PRODUCTS = 1 << 20  # of profiles, made at a time


def anchors_of(exponents: Sequence[int]) -> list[float]:
    """What rounds a float64 to a multiple of 2^e when it is added and taken away."""
    return [1.5 * 2.0 ** (exponent + 52) for exponent in exponents]


def sums_of_parts(terms: Tensor, exponents: Sequence[int]) -> Tensor:
    """(p, ...) sums over the first axis of the parts of terms (n, ...): the specification, differentiable."""
    rest, sums = terms.double(), []
    for anchor in anchors_of(exponents):
        near = (rest + anchor) - anchor
        rest = rest - near
        sums.append(near.sum(dim=0))
    return torch.stack(sums) if sums else rest.new_zeros(0, *rest.shape[1:])


def add_parts(sums: Tensor, terms: Tensor, exponents: Sequence[int]) -> None:
    """Add the parts of terms (n, m), of any float type, to sums (p, m), float64 on the same device."""
    step = _BLOCK if sums.device.type == "cpu" else max(1, sums.shape[1])
    for start in range(0, sums.shape[1], step):
        block = slice(start, start + step)
        _add_block(sums[:, block], terms[:, block], exponents)


def _add_block(sums: Tensor, terms: Tensor, exponents: Sequence[int]) -> None:
    rest = terms.to(torch.float64, copy=True)
    on_host = rest.device.type == "cpu"  # where looking at values waits for nothing
    near, largest = torch.empty_like(rest), float("inf")
    if on_host and rest.numel():
        largest = float(rest.abs().max())
    for row, exponent, anchor in zip(sums, exponents, anchors_of(exponents), strict=True):
        if largest < 2.0 ** (exponent - 1):
            continue
        torch.add(rest, anchor, out=near).sub_(anchor)
        row += near[0] if len(near) == 1 else near.sum(dim=0)
        rest.sub_(near)
        if on_host:
            largest = 2.0 ** (exponent - 1)
            if not rest.any():
                return


def moments(profiles: Tensor, exponents: Sequence[int]) -> Tensor:
    """(p, r, r) sums of the parts of p_i p_j over profiles p (n, r), some profiles at a time."""
    n, r = profiles.shape
    sums = torch.zeros(len(exponents), r * r, dtype=torch.float64, device=profiles.device)
    for some in profiles.split(max(1, _PRODUCTS // max(1, r * r))) if n else ():
        add_parts(sums, (some[:, :, None] * some[:, None, :]).flatten(1), exponents)
    return sums.view(-1, r, r)
