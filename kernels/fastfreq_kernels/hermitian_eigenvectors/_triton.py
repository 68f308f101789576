"""Eigenvectors of packed Hermitian matrices on a GPU: inverse iteration on the tridiagonal form, then back.

`hermitian_eigenvalues` reduces H = scale Q T Q^H and finds eigenvalues of T by bisection, here in float64 whatever the
precision of H. `inverse_kernel` has one lane for each vector of T: it solves (T - value) x = start by elimination with
partial pivoting, from random starts, which spans eigenspaces of equal values, too. Vectors of close values come out
mixed; orthonormal ones with the same residual, to a rounding, are Q of their QR factorisation (a part E_ij of vector j
in vector i has a size of rounding / (distance of values), and costs the residual E_ij times that distance). So
    two solutions, QR, one solution, QR twice
where QR is Cholesky's of V^T V, in the vendor's batched products and factorisations. `back_kernel` applies Q's
reflectors to blocks of vectors. Residual and orthogonality of T's vectors are then looked at: matrices that miss
`_ALLOWED` are LAPACK's on the host, and to know which makes the host wait once.

Per matrix of side c and its w largest values, b bytes a number:
    inverse      3 x 8 c w numbers of float64 written and read
    QR           3 x 2 c w^2 FMA of float64
    back         c w b            read and written, 4 c^2 w FMA, of reflectors 2 c^2 b from L2 for each block of vectors
Speed not yet measured on any GPU.

Source: Wilkinson 1965; Yamamoto, Nakatsukasa, Yanagisawa, Fukaya 2015 on Cholesky QR twice.
"""

# pyright: reportArgumentType=false
# (Triton's annotations give what a product with a scalar returns no type that can be indexed)

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastfreq_kernels import _configs
from fastfreq_kernels._launch import Launch, run_on
from fastfreq_kernels.hermitian_eigenvalues import _triton as hermitian_eigenvalues
from fastfreq_kernels.hermitian_eigenvalues import _triton_memory

from . import _cpu

_ALLOWED = 1e-12  # of residual and orthogonality, T having norm 1


@triton.jit
def _pivot(x, LEAST: tl.constexpr):
    return tl.where(tl.abs(x) < LEAST, LEAST, x)


@triton.jit
def inverse_kernel(
    vectors, work, diagonal, squares, values, c, wanted, lanes,
    BLOCK: tl.constexpr, ROUNDS: tl.constexpr, LEAST: tl.constexpr,
):  # fmt: skip
    """Vectors (c, lanes) of length 1 from starts in the same place; work (3, c, lanes) takes the factors."""
    lane = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = lane < lanes
    d, e = diagonal + lane // wanted * c, squares + lane // wanted * c
    shift = tl.load(values + lane, mask=inside, other=0)
    size = c * lanes.to(tl.int64)
    x, inverse, first, second = vectors + lane, work + lane, work + size + lane, work + 2 * size + lane
    for _ in range(ROUNDS):
        here, beside = tl.load(d, mask=inside, other=0) - shift, tl.sqrt(tl.load(e, mask=inside, other=0))
        y = tl.load(x, mask=inside, other=0)
        at = lane - lane + 0
        for j in range(0, c - 1):
            off, following = (
                tl.sqrt(tl.load(e + j, mask=inside, other=0)),
                tl.sqrt(tl.load(e + j + 1, mask=inside, other=0)),
            )
            below = tl.load(d + j + 1, mask=inside, other=0) - shift
            z = tl.load(x + at + lanes, mask=inside, other=0)
            swap = off > tl.abs(here)
            pivot = _pivot(tl.where(swap, off, here), LEAST)
            factor = tl.where(swap, here, off) / pivot
            tl.store(inverse + at, 1 / pivot, mask=inside)
            tl.store(first + at, tl.where(swap, below, beside), mask=inside)
            tl.store(second + at, tl.where(swap, following, 0), mask=inside)
            tl.store(x + at, tl.where(swap, z, y), mask=inside)
            y = tl.where(swap, y - factor * z, z - factor * y)
            here = tl.where(swap, beside - factor * below, below - factor * beside)
            beside = tl.where(swap, -factor * following, following)
            at += lanes
        y = y / _pivot(here, LEAST)
        tl.store(x + at, y, mask=inside)
        before, total = y - y, y * y
        for _j in range(0, c - 1):
            at -= lanes
            z = tl.load(x + at, mask=inside, other=0) - tl.load(first + at, mask=inside, other=0) * y
            z = (z - tl.load(second + at, mask=inside, other=0) * before) * tl.load(inverse + at, mask=inside, other=0)
            tl.store(x + at, z, mask=inside)
            before, y = y, z
            total += z * z
        unit = 1 / tl.sqrt(tl.where(inside, total, 1))
        for _j in range(0, c):
            tl.store(x + at, tl.load(x + at, mask=inside, other=0) * unit, mask=inside)
            at += lanes


@triton.jit
def back_kernel(vectors, reflectors, factors, c, wanted, SIDE: tl.constexpr, COLUMNS: tl.constexpr):
    """Q X of a block of columns of X (n, c, wanted, 2), in place."""
    blocks = tl.cdiv(wanted, COLUMNS)
    n, first = (tl.program_id(0) // blocks).to(tl.int64), tl.program_id(0) % blocks * COLUMNS
    i, j = tl.arange(0, SIDE), first + tl.arange(0, COLUMNS)
    inside = (i < c)[:, None] & (j < wanted)[None, :]
    at = vectors + 2 * ((n * c + i)[:, None] * wanted + j[None, :])
    X, Y = tl.load(at, mask=inside, other=0), tl.load(at + 1, mask=inside, other=0)
    for step in range(0, c - 1):
        k = n * c + (c - 2 - step)
        a, b = (
            tl.load(reflectors + 2 * k * c + i, mask=i < c, other=0),
            tl.load(reflectors + (2 * k + 1) * c + i, mask=i < c, other=0),
        )
        a, b = a[:, None], b[:, None]
        factor = tl.load(factors + k)
        real = tl.sum(a * X + b * Y, axis=0)[None, :] * factor
        imaginary = tl.sum(a * Y - b * X, axis=0)[None, :] * factor
        X, Y = X - (a * real - b * imaginary), Y - (a * imaginary + b * real)
    tl.store(at, X, mask=inside)
    tl.store(at + 1, Y, mask=inside)


def eigenvectors(packed: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(..., count) and (..., c, count); sides too large for a GPU's programs are the host's."""
    *batch, c, _ = packed.shape
    if c > _configs.REDUCTION_LARGEST_SIDE:
        return tuple(each.to(packed.device) for each in _cpu.eigenvectors(packed.cpu(), count))  # pyright: ignore
    matrices = packed.reshape(-1, c, c).contiguous()
    values = matrices.new_empty(len(matrices), count)
    vectors = matrices.new_empty(len(matrices), c, count, dtype=packed.dtype.to_complex())
    step = max(1, _configs.INVERSE_BYTES // (4 * 8 * c * count))
    for start in range(0, len(matrices), step):
        part = slice(start, start + step)
        values[part], vectors[part] = _block(matrices[part], count)
    return values.reshape(*batch, count), vectors.reshape(*batch, c, count)


def _block(matrices: Tensor, count: int) -> tuple[Tensor, Tensor]:
    form, reduce = _triton_memory.launches(matrices, keep=True)
    run_on(matrices, lambda: reduce)
    diagonal, squares = form.diagonal.double(), form.squares.double()
    roots, ones = diagonal.new_empty(len(matrices), count), torch.ones_like(diagonal[:, 0])
    run_on(matrices, lambda: [hermitian_eigenvalues.bisection(roots, diagonal, squares, ones)])
    real, wrong = _of_tridiagonal(diagonal, squares, roots)
    turns = torch.view_as_complex(form.phases.double())
    turns = torch.cat([torch.ones_like(turns[:, :1]), turns[:, :-1]], dim=1).cumprod(dim=1)
    vectors = (turns / turns.abs()).unsqueeze(-1) * real
    vectors = vectors.to(matrices.dtype.to_complex()).contiguous()
    run_on(matrices, lambda: [back(torch.view_as_real(vectors), form.reflectors)])
    values = (roots * form.scales.double()[:, None]).to(matrices.dtype)
    wrong = (wrong & torch.isfinite(form.scales)).nonzero()[:, 0]
    if len(wrong):
        again = _cpu.eigenvectors(matrices[wrong].cpu(), count)
        values[wrong], vectors[wrong] = (each.to(matrices.device) for each in again)
    return values, vectors


def _of_tridiagonal(diagonal: Tensor, squares: Tensor, roots: Tensor) -> tuple[Tensor, Tensor]:
    """Orthonormal eigenvectors (n, c, w) of T for its eigenvalues (n, w), and where they miss what is allowed."""
    n, c = diagonal.shape
    w = roots.shape[1]
    start = torch.randn(c, 1, w, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(diagonal.device)
    vectors = start.expand(c, n, w).contiguous()
    for rounds in (2, 1):
        run_on(vectors, lambda v=vectors, rounds=rounds: [inverse(v, diagonal, squares, roots, rounds)])
        vectors = _orthonormal(vectors.permute(1, 0, 2))
        vectors = vectors.permute(1, 0, 2).contiguous()
    vectors = _orthonormal(vectors.permute(1, 0, 2))
    beside = squares[:, :-1, None].sqrt()
    residual = (diagonal[:, :, None] - roots[:, None]) * vectors
    residual[:, 1:] += beside * vectors[:, :-1]
    residual[:, :-1] += beside * vectors[:, 1:]
    overlap = vectors.mT @ vectors - torch.eye(w, dtype=torch.float64, device=vectors.device)
    worst = torch.maximum(residual.abs().amax(dim=(1, 2)), overlap.abs().amax(dim=(1, 2)))
    return vectors, ~(worst <= _ALLOWED)


def _orthonormal(vectors: Tensor) -> Tensor:
    """Q of the QR factorisation of (n, c, w), by Cholesky's of its Gram matrix; NaN where that is not definite."""
    lower, failed = torch.linalg.cholesky_ex(vectors.mT @ vectors)
    lower = torch.where((failed == 0)[:, None, None], lower, torch.nan)
    return torch.linalg.solve_triangular(lower.mT, vectors, upper=True, left=False)


def inverse(vectors: Tensor, diagonal: Tensor, squares: Tensor, roots: Tensor, rounds: int) -> Launch:
    """The launch that solves `rounds` times for all vectors (c, n, w), in place."""
    c, n, w = vectors.shape
    return Launch(
        inverse_kernel,
        (triton.cdiv(n * w, _configs.INVERSE_BLOCK),),
        {
            "vectors": vectors, "work": vectors.new_empty(3, c, n * w), "diagonal": diagonal, "squares": squares,
            "values": roots, "c": c, "wanted": w, "lanes": n * w,
            "BLOCK": _configs.INVERSE_BLOCK, "ROUNDS": rounds, "LEAST": 2.0**-52,
        },
        _configs.INVERSE_BLOCK // 32,
    )  # fmt: skip


def back(vectors: Tensor, reflectors: Tensor) -> Launch:
    """The launch that multiplies vectors (n, c, w, 2) by Q, in place."""
    n, c, w, _ = vectors.shape
    lengths = reflectors.square().sum(dim=(2, 3))
    tile, columns = _configs.matrix_tile(c), _configs.back_columns(c)
    warps = max(1, tile * columns // 256)
    return Launch(
        back_kernel,
        (n * triton.cdiv(w, columns),),
        {
            "vectors": vectors, "reflectors": reflectors, "c": c, "wanted": w,
            "factors": torch.where(lengths > 0, 2 / lengths.clamp_min(1), 0), "SIDE": tile, "COLUMNS": columns,
        },
        warps,
        together=max(1, 16 // warps),
    )  # fmt: skip
