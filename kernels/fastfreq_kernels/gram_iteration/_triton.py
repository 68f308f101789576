"""Gram iteration on a GPU: after the first product, each square is one launch with one program per matrix.

In the form M = R + J of `_cpu.py` a complex Hermitian square is two real products, M R + M^T J. `square_kernel` adds
them up over blocks of k, from M[:, k] and M[k, :] alone, both scaled by the norm that the launch before it wrote: no
other array is read or written. Bounds go back through the norms in torch, on (n, iterations) numbers.

Per matrix of side c, numbers of b bytes and iteration:
    read         2 c^2 b    mostly once from memory and once from L1
    written      c^2 b
    arithmetic   2 c^3      FMA in float32 or float64 as given, never in reduced precision
At c = 64 in float32 that is 0.5 MFMA to 32 KB, 32 flops per byte: arithmetic bounds it. Speed not yet measured on any
GPU.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastfreq_kernels import _configs
from fastfreq_kernels._launch import Launch, run_on

from . import _cpu, _reference


@triton.jit
def square_kernel(squares, norms, matrices, scales, c, SIDE: tl.constexpr, DEPTH: tl.constexpr):
    """Squares (n, c, c) of matrices / scales, in the form R + J, and their Frobenius norms (n,)."""
    n = tl.program_id(0).to(tl.int64)
    row, column, depth = tl.arange(0, SIDE)[:, None], tl.arange(0, SIDE)[None, :], tl.arange(0, DEPTH)
    M = matrices + n * c * c
    scale = tl.load(scales + n)
    scale = tl.where(scale > 0, scale, 1)
    square = tl.zeros((SIDE, SIDE), squares.dtype.element_ty)
    for start in range(0, c, DEPTH):
        k = start + depth
        left = tl.load(M + row * c + k[None, :], mask=(row < c) & (k < c)[None, :], other=0) / scale
        above = tl.load(M + k[:, None] * c + column, mask=(k < c)[:, None] & (column < c), other=0) / scale
        symmetric, rest = (above + tl.trans(left)) * 0.5, (above - tl.trans(left)) * 0.5
        square = tl.dot(left, symmetric, square, input_precision="ieee", out_dtype=square.dtype)
        square = tl.dot(tl.trans(above), rest, square, input_precision="ieee", out_dtype=square.dtype)
    tl.store(squares + n * c * c + row * c + column, square, mask=(row < c) & (column < c))
    tl.store(norms + n, tl.sqrt(tl.sum(square * square)))


def bounds(matrices: Tensor, iterations: int) -> Tensor:
    """(...) bounds; sides too large for registers go to the vendor's matrix product. Nothing waits for the GPU."""
    c, k = sorted(matrices.shape[-2:])
    if iterations < 2 or c > _configs.GRAM_ITERATION_LARGEST_SIDE or matrices.numel() == 0:
        return _cpu.in_real_products(matrices, iterations)
    X, unit = _reference.scaled(matrices)
    scale = _reference.power_above(_reference.frobenius(X))
    X = X / scale.to(unit.dtype)[..., None, None]
    products = (_cpu.real_gram(X) if X.is_complex() else _reference.gram(X)).contiguous()
    norms = torch.empty((iterations, *unit.shape), dtype=unit.dtype, device=unit.device)
    norms[0] = torch.linalg.vector_norm(products, dim=(-2, -1))
    run_on(matrices, lambda: launches(norms, products))
    return _reference.unwind(norms[-1].double(), [scale, *norms[:-1].double()], [k] + [c] * (iterations - 1), unit, c)


def launches(norms: Tensor, products: Tensor) -> list[Launch]:
    """The launches that fill `norms` (iterations, ...) from its second row on, from (..., c, c) matrices R + J."""
    c = products.shape[-1]
    tile = _configs.matrix_tile(c)
    run, buffers = [], [torch.empty_like(products), torch.empty_like(products)]
    for step in range(len(norms) - 1):
        squares = buffers[step % 2]
        run.append(
            Launch(
                square_kernel,
                (norms[0].numel(),),
                {
                    "squares": squares,
                    "norms": norms[step + 1],
                    "matrices": products,
                    "scales": norms[step],
                    "c": c,
                    "SIDE": tile,
                    "DEPTH": _configs.GRAM_ITERATION_DEPTH,
                },
                _configs.gram_iteration_warps(tile, products.dtype),
            )  # fmt: skip
        )
        products = squares
    return run
