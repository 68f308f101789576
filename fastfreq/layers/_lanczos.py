"""Golub-Kahan-Lanczos for the largest singular value of all, at many frequencies at once.

Complex vectors are pairs of real rows, as in `_products`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ._products import Explicit, Stacked, times_i

STEPS = 200
_EARLY = (1, 4)  # steps after which to look at which frequencies can still hold the largest value, ...
_LATE, _EVERY = 8, 2  # ... and from which on, and how often
_LOST = 1e-6  # probability that a frequency is left whose largest value is the largest of all


class Found(NamedTuple):
    """Rows that can hold the largest value: their numbers and Ritz values; and the right Ritz vectors of all rows."""

    rows: Tensor
    values: Tensor
    vectors: Tensor


def random_start(like: Tensor, columns: int) -> Tensor:
    """(f, 2, columns) float32, f the rows of `like`: one seed, one answer."""
    return torch.randn(len(like), 2, columns, generator=torch.Generator().manual_seed(0)).to(like.device)


def lanczos(
    operator: Explicit | Stacked,
    start: Tensor,
    rtol: float,
    *,
    random: bool = False,
    few: int = 0,
    steps: int = STEPS,
    noise: float = 0.0,
) -> Found:
    """Golub-Kahan-Lanczos at every frequency of `operator`, which forgets rows on the way.

    A row is left once its Ritz value plus its residual stays below the largest Ritz value or, from a random start, once
    `_may_hold` rules out a larger value. Ends once at most `few` rows are left, or the residuals of those left are
    below `rtol` times the largest value, or after `steps`.

    Args:
        operator: A(k) at f frequencies.
        start: (f, 2, b), not zero.
        rtol: relative residual.
        random: `start` is of `random_start`.
        few: number of rows.
        steps: fewer than 200 may end without either.
        noise: of the products, relative to the largest value; residuals count as at least that, and singular values as
            moved by a third of it. Above zero there is no orthogonalisation against all earlier vectors, which that
            noise would undo.

    Returns:
        Ritz vectors, of unit length, are those of the step at which a row was left.

    Raises:
        RuntimeError: 200 steps were not enough.
    """
    count, a, columns = operator.shape
    v = start.to(operator.dtype)
    v = v / _length(v)
    rows, vectors = torch.arange(count, device=v.device), torch.empty_like(v)
    steps = min(steps, STEPS)
    last = min(steps, columns, a)
    basis, alphas, betas = v.new_empty(count, 8, 2 * columns), v.new_empty(count, last), v.new_empty(count, last)
    tiny = torch.finfo(v.dtype).tiny
    u, beta = v.new_zeros(count, 2, a), v.new_zeros(count, 1, 1)
    for step in range(1, last + 1):
        if step > basis.shape[1]:
            basis = torch.cat([basis, torch.empty_like(basis)], dim=1)
        basis[:, step - 1] = v.flatten(1)
        u = torch.addcmul(operator.apply(v), beta, u, value=-1)
        alpha = _length(u)
        u = u / alpha.clamp_min(tiny)
        w = torch.addcmul(operator.adjoint(u), alpha, v, value=-1)
        if not noise:
            w = _orthogonal(w, basis[:, :step])
        beta = _length(w)
        alphas[:, step - 1], betas[:, step - 1] = alpha[:, 0, 0], beta[:, 0, 0]
        v = w / beta.clamp_min(tiny)
        if step not in (*_EARLY, last) and (step < _LATE or (step - _LATE) % _EVERY):
            continue
        values, residuals, weights = _ritz(alphas[:, :step], betas[:, :step])
        largest = values.max()
        near = values + torch.hypot(residuals, noise * largest) >= largest
        alive = near
        if random:
            alive = near | _may_hold(alphas[:, :step], betas[:, :step], largest * (1 - noise / 3), columns)
        converged = bool((near & (residuals <= rtol * largest))[alive].all())
        ended = converged or int(alive.sum()) <= few or step == last
        if ended and step == STEPS and not converged:
            raise RuntimeError(f"expected Lanczos to converge to {rtol:g} in {STEPS} steps; raise `rtol`")
        left = torch.ones_like(alive) if ended else ~alive
        if left.any():
            found = torch.bmm(weights[left][:, None], basis[left, :step]).reshape(-1, 2, columns)
            vectors[rows[left]] = found / _length(found)
        if not alive.all():
            operator.keep(alive)
            rows, values, u, v, beta = rows[alive], values[alive], u[alive], v[alive], beta[alive]
            basis, alphas, betas = basis[alive], alphas[alive], betas[alive]
        if ended:
            return Found(rows, values, vectors)
    raise AssertionError("the last step returns")


def _may_hold(alphas: Tensor, betas: Tensor, value: Tensor, columns: int) -> Tensor:
    """(f,) bool: where a singular value of at least `value` is likelier than `_LOST` to have been missed so far.

    With p_j the orthonormal polynomials of Lanczos, x = value^2 and y >= x an eigenvalue of A^H A beyond which there is
    none, the start vector has a share of at most 1 / sum_j p_j(y)^2 <= 1 / sum_j p_j(x)^2 in the direction of y's
    vector (the Christoffel function). A random start in b dimensions has less than p / (b - 1) with a probability below
    p.
    """
    a, b = alphas.double(), betas.double()
    x = value.double().square()
    diagonal = a.square()
    diagonal[:, 1:] += b[:, :-1].square()
    off = (a * b).clamp_min(torch.finfo(a.dtype).tiny)
    before, p = torch.zeros_like(x).expand(len(a)), torch.ones_like(a[:, 0])
    total = p
    for j in range(a.shape[1]):
        coupled = off[:, j - 1] * before if j else 0
        before, p = p, ((x - diagonal[:, j]) * p - coupled) / off[:, j]
        total = total + p.square()
    return -total.log() > math.log(_LOST / max(columns - 1, 1))


def _orthogonal(w: Tensor, basis: Tensor) -> Tensor:
    """The part of w outside the basis (f, m, 2 n): that is short, and lost orthogonality costs steps."""
    both = torch.stack([w, -times_i(w)], dim=1).flatten(2)  # <b, w> = <b, w>_real + i <b, -i w>_real
    real, imaginary = torch.bmm(torch.bmm(both, basis.mT), basis).reshape(*both.shape[:2], *w.shape[1:]).unbind(1)
    return w - real - times_i(imaginary)


def _length(x: Tensor) -> Tensor:
    """(f, 1, 1) L2 norms."""
    return torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)


def _ritz(alphas: Tensor, betas: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Largest singular value s of each bidiagonal matrix B (f, m, m), the residual ||A^H u - s v||, v's coordinates.

    From B^T B, which is tridiagonal; the last row of B v = s u is alpha_m v_m = s u_m.
    """
    a, b = alphas.double(), betas.double()
    gram = torch.diag_embed(a.square())
    gram.diagonal(dim1=1, dim2=2)[:, 1:] += b[:, :-1].square()
    gram.diagonal(-1, dim1=1, dim2=2).copy_(a[:, :-1] * b[:, :-1])  # LAPACK reads the lower triangle
    squares, vectors = torch.linalg.eigh(gram)
    values, v = squares[:, -1].clamp_min(0).sqrt(), vectors[:, :, -1]
    residuals = b[:, -1] * a[:, -1] * v[:, -1].abs() / values.clamp_min(torch.finfo(values.dtype).tiny)
    return values.to(alphas.dtype), residuals.to(alphas.dtype), v.to(alphas.dtype)
