"""Golub-Kahan-Lanczos for the largest singular value of all, at many frequencies at once.

Complex vectors are pairs of real rows, as in `_products`. Operators are tall or square (`adjoint` turns wide ones
around): as many steps as there are columns are exact.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ._products import Operator, times_i

_EARLY = (1, 4)  # steps after which to look at which frequencies can still hold the largest value, ...
_LATE, _EVERY = 8, 2  # ... and from which on, and how often
_LOST = 1e-6  # probability that a frequency is left whose largest value is the largest of all


class Sieved(NamedTuple):
    """Frequencies that can still hold the largest value: their rows and right Ritz vectors.

    `value` is the largest Ritz value of all, `spread` the largest part of its square that the squares of the Ritz
    values of one frequency extend over, 1 if nobody asked.
    """

    rows: Tensor
    vectors: Tensor
    value: float
    spread: float


class Found(NamedTuple):
    """Rows that share the largest value to the precision of the arithmetic, their Ritz values and right vectors."""

    rows: Tensor
    values: Tensor
    vectors: Tensor


class _Krylov:
    """Bases and bidiagonal matrices of `operator`'s rows, step by step, which forget rows on the way."""

    def __init__(self, operator: Operator, start: Tensor, orthogonal: bool) -> None:
        self.operator, self.orthogonal = operator, orthogonal
        count, a, columns = operator.shape
        v = start.to(operator.dtype)
        self.v = v / _length(v)
        self.rows = torch.arange(count, device=v.device)
        self.basis = v.new_empty(count, 8, 2 * columns)
        self.alphas = self.betas = v.new_empty(count, 0)
        self.u, self.beta = v.new_zeros(count, 2, a), v.new_zeros(count, 1, 1)

    def step(self) -> None:
        """A v = alpha u + .., A^H u = beta v' + ..; a length of zero ends a row's space: its vectors stay zero."""
        done = self.alphas.shape[1]
        if done == self.basis.shape[1]:
            self.basis = torch.cat([self.basis, torch.empty_like(self.basis)], dim=1)
        self.basis[:, done] = self.v.flatten(1)
        u = torch.addcmul(self.operator.apply(self.v), self.beta, self.u, value=-1)
        alpha = _length(u)
        self.u = _over(u, alpha)
        w = torch.addcmul(self.operator.adjoint(self.u), alpha, self.v, value=-1)
        if self.orthogonal:
            w = _outside(w, self.basis[:, : done + 1])
        self.beta = _length(w)
        self.v = _over(w, self.beta)
        self.alphas = torch.cat([self.alphas, alpha[:, :, 0]], dim=1)
        self.betas = torch.cat([self.betas, self.beta[:, :, 0]], dim=1)

    def keep(self, alive: Tensor) -> None:
        """Forget the other rows."""
        if alive.all():
            return
        self.operator.keep(alive)
        self.rows, self.u, self.v, self.beta = self.rows[alive], self.u[alive], self.v[alive], self.beta[alive]
        self.basis, self.alphas, self.betas = self.basis[alive], self.alphas[alive], self.betas[alive]

    def vectors(self, weights: Tensor) -> Tensor:
        """(f, 2, b) of coordinates (f, m)."""
        found = torch.bmm(weights[:, None], self.basis[:, : weights.shape[1]]).reshape(self.v.shape)
        return found / _length(found)


def random_start(like: Tensor, columns: int, seed: int = 0) -> Tensor:
    """(f, 2, columns) float32, f the rows of `like`, of about unit length: one seed, one answer."""
    normal = torch.randn(len(like), 2, columns, generator=torch.Generator().manual_seed(seed))
    return (normal / math.sqrt(2 * columns)).to(like.device)


def sieve(
    operator: Operator,
    start: Tensor,
    *,
    few: int,
    steps: int,
    margin: float,
    share: float = 1.0,
    orthogonal: bool = True,
    at_least: float = 0.0,
    flat: float = 0.0,
) -> Sieved:
    """The rows that can hold a singular value above (1 + margin) times the largest Ritz value, and its own row.

    A row is left once `_may_hold` rules such a value out. Whether values are spread over one part in two of the largest
    or one in a million makes no difference to the number of steps, only whether `margin` is above the rounding errors.

    Args:
        operator: A(k) at f frequencies.
        start: (f, 2, b), not zero; a share of its square is that of a random vector (`random_start`).
        few: rows with which to end.
        steps: at most.
        margin: relative; negative to keep rows that rounding may have lowered.
        share: of the random part.
        orthogonal: against all earlier vectors: rounding errors larger than the distances of values would undo it.
        at_least: a value known already.
        flat: end after four steps if the spread is below this.
    """
    krylov = _Krylov(operator, start, orthogonal)
    last = min(steps, operator.shape[2])
    value, spread, best = at_least, 1.0, -1
    for step in range(1, last + 1):
        krylov.step()
        if step not in (*_EARLY, last) and (step < _LATE or (step - _LATE) % _EVERY):
            continue
        above = _above(krylov.alphas, krylov.betas, value)
        if above.any():
            most = ritz(krylov.alphas[above], krylov.betas[above], vectors=False).values.max(dim=0)
            if float(most.values) > value:
                value, best = float(most.values), int(krylov.rows[above][most.indices])
        alive = may_hold(krylov.alphas, krylov.betas, value * (1 + margin), operator.shape[2], share)
        alive |= krylov.rows == best  # one of those that tie
        if step == _EARLY[1] and flat:
            # small matrices are the host's, here and below: a GPU's solver takes them one by one
            squares = torch.linalg.eigvalsh(_gram(krylov.alphas, krylov.betas).cpu())
            lowest, highest = squares[:, 0], squares[:, -1]
            spread = float(((highest - lowest) / highest.clamp_min(1e-300)).max())
        krylov.keep(alive)
        if int(alive.sum()) <= few or spread < flat:
            break
        if margin < 0 and step >= _LATE and _above(krylov.alphas, krylov.betas, value * (1 + margin)).all():
            break  # more steps would leave none
    if not len(krylov.rows):
        return Sieved(krylov.rows, krylov.v, value, spread)
    return Sieved(krylov.rows, krylov.vectors(ritz(krylov.alphas, krylov.betas).weights), value, spread)


def largest(operator: Operator, start: Tensor, rtol: float, *, margin: float, share: float = 0.0) -> Found | None:
    """The largest singular value of a few rows, or None if 200 steps do not settle it.

    Ends once each row that is left has a Ritz value within `margin` or its residual of the largest, and a residual
    below rtol sqrt(s), s the part of the largest square that the row's Ritz values extend over: the value's error is
    that squared over the distance of values, which is in proportion to s. A row is left as soon as its Ritz value plus
    residual is smaller and, with a random share of the start, `may_hold` rules out a larger value.
    """
    krylov = _Krylov(operator, start, True)
    last = min(200, operator.shape[2])
    for step in range(1, last + 1):
        krylov.step()
        if step not in (*_EARLY, last) and (step < _LATE or (step - _LATE) % _EVERY):
            continue
        values, residuals, weights, spread = ritz(krylov.alphas, krylov.betas)
        top = float(values.max())
        near = values + torch.hypot(residuals, torch.full_like(residuals, margin * top)) >= top
        alive = near
        if share:
            alive = near | may_hold(krylov.alphas, krylov.betas, top * (1 + margin), operator.shape[2], share)
        enough = residuals <= (rtol * spread.sqrt()).clamp_min(margin) * top
        ended = bool((near & enough)[alive].all()) or step == operator.shape[2]
        krylov.keep(alive)
        if ended:
            return Found(krylov.rows, values[alive], krylov.vectors(weights[alive]))
    return None


def may_hold(alphas: Tensor, betas: Tensor, value: float, columns: int, share: float = 1.0) -> Tensor:
    """(f,) bool: where a singular value above `value` is likelier than `_LOST` to have been missed so far.

    With p_j the orthonormal polynomials of Lanczos, x = value^2 and y >= x an eigenvalue of A^H A beyond which there is
    none, the start vector has a share of at most 1 / sum_j p_j(y)^2 <= 1 / sum_j p_j(x)^2 in the direction of y's
    vector (the Christoffel function). A random start in b dimensions has less than p / (b - 1) with a probability below
    p; a random part of `share` of a start, `share` times that, whatever the other part. In one dimension nothing is
    missed.
    """
    limit = max(columns - 1, 1) / (_LOST * share)
    total = torch.ones_like(alphas[:, 0], dtype=torch.float64)
    for p in _polynomials(alphas, betas, value):
        total = total + p.square()
    inside = _above(alphas, betas, value)
    return inside | (~(total > limit) if columns > 1 else False)


def _polynomials(alphas: Tensor, betas: Tensor, value: float) -> list[Tensor]:
    """p_1 .. p_m at value^2, (f,) each; 0 after they have become so large that more is of no use."""
    diagonal, off = _tridiagonal(alphas, betas)
    off = off.clamp_min(torch.finfo(off.dtype).tiny)
    before, p = torch.zeros_like(off[:, 0]), torch.ones_like(off[:, 0])
    found = []
    for j in range(off.shape[1]):
        coupled = off[:, j - 1] * before if j else 0
        before, p = p, (((value**2 - diagonal[:, j]) * p - coupled) / off[:, j]).clamp(-1e140, 1e140)
        found.append(p)
        large = p.abs() > 1e100
        before, p = before.masked_fill(large, 0), p.masked_fill(large, 0)
    return found


def _above(alphas: Tensor, betas: Tensor, value: float) -> Tensor:
    """(f,) bool: whether a Ritz value is above `value`: a pivot of T - value^2 is positive."""
    diagonal, off = _tridiagonal(alphas, betas)
    smallest = torch.finfo(off.dtype).tiny
    pivot = diagonal[:, 0] - value**2
    above = pivot > 0
    for j in range(1, off.shape[1]):
        pivot = diagonal[:, j] - value**2 - off[:, j - 1].square() / pivot.masked_fill(pivot == 0, -smallest)
        above = above | (pivot > 0)
    return above


def _tridiagonal(alphas: Tensor, betas: Tensor) -> tuple[Tensor, Tensor]:
    """Diagonal (f, m) and off-diagonal (f, m) of B^T B, the last of which leads out of it; float64."""
    a, b = alphas.double(), betas.double()
    diagonal = a.square()
    diagonal[:, 1:] += b[:, :-1].square()
    return diagonal, a * b


def _gram(alphas: Tensor, betas: Tensor) -> Tensor:
    """B^T B (f, m, m), its lower triangle, which is what LAPACK reads."""
    diagonal, off = _tridiagonal(alphas, betas)
    gram = torch.diag_embed(diagonal)
    gram.diagonal(-1, dim1=1, dim2=2).copy_(off[:, :-1])
    return gram


class Ritz(NamedTuple):
    """Largest Ritz value of each row, the residual ||A^H u - s v||, v's coordinates, and the spread of the squares."""

    values: Tensor
    residuals: Tensor
    weights: Tensor
    spread: Tensor


def ritz(alphas: Tensor, betas: Tensor, *, vectors: bool = True) -> Ritz:
    """Of each bidiagonal matrix B (f, m, m), from B^T B; the last row of B v = s u is alpha_m v_m = s u_m."""
    gram, device = _gram(alphas, betas).cpu(), alphas.device
    if vectors:
        squares, every = torch.linalg.eigh(gram)
        v = every[:, :, -1]
    else:
        squares = torch.linalg.eigvalsh(gram)
        v = torch.zeros_like(squares)
    squares, v = squares.to(device), v.to(device)
    values = squares[:, -1].clamp_min(0).sqrt()
    a, b = alphas[:, -1].double(), betas[:, -1].double()
    residuals = b * a * v[:, -1].abs() / values.clamp_min(torch.finfo(values.dtype).tiny)
    spread = 1 - squares[:, 0].clamp_min(0) / squares[:, -1].clamp_min(torch.finfo(values.dtype).tiny)
    return Ritz(values, residuals, v.to(alphas.dtype), spread.clamp(0, 1))


def _outside(w: Tensor, basis: Tensor) -> Tensor:
    """The part of w outside the basis (f, m, 2 n): that is short, and lost orthogonality costs steps."""
    both = torch.stack([w, -times_i(w)], dim=1).flatten(2)  # <b, w> = <b, w>_real + i <b, -i w>_real
    real, imaginary = torch.bmm(torch.bmm(both, basis.mT), basis).reshape(*both.shape[:2], *w.shape[1:]).unbind(1)
    return w - real - times_i(imaginary)


def _over(x: Tensor, length: Tensor) -> Tensor:
    return x / length.clamp_min(torch.finfo(x.dtype).tiny)


def _length(x: Tensor) -> Tensor:
    """(f, 1, 1) L2 norms."""
    return torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)
