"""The specification of `gram_iteration`: plain, differentiable torch.

Rounding: with |Y|_F <= 1 a computed product differs from Y Y^H by less than gamma = 1.5 (k + 16) eps in the Frobenius
norm, for sums of k complex products in any order, with room for the scaling. So
    sigma(Y)^2 <= sigma(fl(Y Y^H)) + gamma
and bounds go back from the last matrix, |.|_F (1 + gamma), to the first through one square root per step.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def gram(matrices: Tensor) -> Tensor:
    """M M^H."""
    return matrices @ matrices.mH


def bounds(
    matrices: Tensor,
    iterations: int,
    first: Callable[[Tensor], Tensor] = gram,
    then: Callable[[Tensor], Tensor] = gram,
) -> Tensor:
    """(...) upper bounds of the spectral norms; `first` and `then` compute the first and the other Gram matrices."""
    X, unit = scaled(matrices)
    inner, scales = [], []
    for step in range(iterations):
        norm = power_above(frobenius(X.detach()))
        inner.append(X.shape[-1])
        scales.append(norm)
        X = X / norm.to(unit.dtype)[..., None, None]
        X = then(X) if step else first(X)
    return unwind(frobenius(X), scales, inner, unit, X.shape[-2])


def scaled(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """The matrices, or their adjoints if these are wider, and the power of two by which they were divided, 0 for zero.

    Constant under differentiation, as are all scales: bounds do not depend on them but for rounding.
    """
    wide = matrices if matrices.shape[-2] <= matrices.shape[-1] else matrices.mH
    largest = wide.detach().abs().amax(dim=(-2, -1))
    unit = power_above(largest)
    return wide / unit[..., None, None], torch.where(largest == 0, 0, unit)


def power_above(values: Tensor) -> Tensor:
    """Powers of two 2^e with values in [2^(e - 1), 2^e); 1 for zero."""
    exponent = torch.frexp(torch.where(values == 0, 0.5, values))[1]
    most = math.frexp(torch.finfo(values.dtype).max)[1] - 1
    return torch.exp2(exponent.clamp(max=most).to(values.dtype))


def frobenius(matrices: Tensor) -> Tensor:
    """(...) float64."""
    dtype = torch.complex128 if matrices.is_complex() else torch.float64
    return torch.linalg.vector_norm(matrices, dim=(-2, -1), dtype=dtype)


def unwind(last: Tensor, scales: list[Tensor], inner: list[int], unit: Tensor, c: int) -> Tensor:
    """Bounds from the last matrix, of side c: what each step divided by, the length of its sums, and the first unit."""
    eps = torch.finfo(unit.dtype).eps

    def gamma(length: int) -> float:
        return 1.5 * (length + 16) * eps

    bound = last.double() * (1 + gamma(c))
    for scale, length in zip(reversed(scales), reversed(inner), strict=True):
        bound = (bound + gamma(length)).sqrt() * scale
    return (bound * (1 + eps) * unit).to(unit.dtype)
