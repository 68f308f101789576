"""Singular vectors as eigenvectors of Gram matrices: on a GPU, whose own solvers take matrices one by one.

Squares lose half the digits of small values: what is not told apart that way is left to LAPACK on the host.
"""

from __future__ import annotations

import fastfreq_kernels as kernels
import torch
from fastfreq_kernels._configs import eigenvalues_route
from fastfreq_kernels._hermitian import pack
from torch import Tensor

RESOLVED = 1e-2  # of a matrix's largest value: down to this both sides' vectors are orthogonal to 1e-11


def by_gram(side: int, matrices: Tensor) -> bool:
    """Whether to go this way: where the matrices are on a GPU, whose kernels take Gram matrices of this side."""
    return matrices.is_cuda and eigenvalues_route(side, matrices.dtype.to_real()) != "host"


def leading_triples(matrices: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """(..., a, count), (..., count) descending and (..., count, b): the largest singular triples of (..., a, b)."""
    *batch, a, b = matrices.shape
    if not by_gram(min(a, b), matrices):
        u, s, vh = kernels.channel_svd(matrices)
        return u[..., :count], s[..., :count], vh[..., :count, :]
    tall = matrices.reshape(-1, a, b) if a >= b else matrices.reshape(-1, a, b).mH
    u, s, v = triples_by_gram(tall, count)
    unsure = ~(s[:, -1] > RESOLVED * s[:, 0])
    some = unsure.nonzero()[:, 0]
    if len(some):
        found = kernels.channel_svd(tall[some])
        u[some], s[some], v[some] = found[0][..., :count], found[1][:, :count], found[2].mH[..., :count]
    u, s, v = u.reshape(*batch, -1, count), s.reshape(*batch, count), v.reshape(*batch, -1, count)
    return (u, s, v.mH) if a >= b else (v, s, u.mH)


def triples_by_gram(tall: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """A v / s, s = |A v| descending, and v, of matrices A (n, a, b), a >= b, without a look at which are told apart."""
    _, v = kernels.hermitian_eigenvectors(pack(tall.mH @ tall), count=count)
    u = tall @ v
    s = torch.linalg.vector_norm(u, dim=1)
    s, order = s.sort(dim=1, descending=True, stable=True)  # rounding may turn equal ones around
    u, v = (each.gather(2, order[:, None].expand_as(each)) for each in (u, v))
    return u / s.clamp_min(torch.finfo(s.dtype).tiny)[:, None], s, v


def right_vectors(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """(..., r) singular values, descending, and (..., r, b) right singular vectors, conjugated, r = min(a, b).

    The vectors are orthonormal, also where values are equal or zero. Of values below 1e-8 of the largest they mix.
    """
    *batch, a, b = matrices.shape
    if not by_gram(b, matrices):
        _, values, right = kernels.channel_svd(matrices)
        return values, right
    _, s, v = triples_by_gram(matrices.reshape(-1, a, b), min(a, b))
    return s.reshape(*batch, -1), v.mH.reshape(*batch, -1, b)


def principal_directions(data: Tensor, *, factor: bool) -> tuple[Tensor, Tensor]:
    """(f, c, r) orthonormal directions and (f, r) descending eigenvalues of second moments (f, c, c).

    With `factor`, the moments are those of the columns of (f, c, n), summed; r = min(c, n).
    """
    if by_gram(data.shape[1], data):
        moments = data @ data.mH if factor else data
        values, directions = kernels.hermitian_eigenvectors(pack(moments), count=min(data.shape[1:]))
        return directions, values.clamp_min(0)
    directions, sizes, _ = kernels.channel_svd(data)
    return directions, sizes.square() if factor else sizes


def excess_over(matrices: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """U (S - bound)+ V^H of matrices (..., a, b), and their largest singular value, a scalar."""
    *batch, a, b = matrices.shape
    if by_gram(min(a, b), matrices):
        tall = matrices.reshape(-1, a, b) if a >= b else matrices.reshape(-1, a, b).mH
        values = kernels.hermitian_eigenvalues(pack(tall.mH @ tall)).clamp_min(0).sqrt()
        largest = values.max()
        above = int((values > bound).sum(dim=1).max())
        if bound > RESOLVED * float(largest):
            if not above:
                return torch.zeros_like(matrices), largest
            u, s, v = triples_by_gram(tall, above)
            left, right = (u, v) if a >= b else (v, u)
            excess = (left * (s - bound).clamp_min(0)[:, None]) @ right.mH
            return excess.reshape(*batch, a, b), largest
    u, s, vh = kernels.channel_svd(matrices)
    return (u * (s - bound).clamp_min(0).unsqueeze(-2).to(u.dtype)) @ vh, s.max()
