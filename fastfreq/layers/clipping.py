"""Projection of a convolution's kernel onto a bound of its singular values."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import fastfreq_kernels as kernels
import torch
from fastfreq_kernels._taps import phase_tables
from torch import Tensor, nn

from fastfreq.engine.arithmetic import float32

from ._gram_vectors import excess_over
from ._weights import as_applied, detached_copy
from .symbols import Convolution, Symbols, conv_symbols_of

_BLOCK_BYTES = 64 << 20


def clip_singular_values(
    layer: nn.Module,
    *,
    input_size: Sequence[int],
    bound: float = 1.0,
    padding: str | None = None,
    rtol: float = 5e-3,
    max_iterations: int = 1000,
) -> nn.Module:
    """A copy of the layer whose singular values are at most `bound` and whose kernel has the layer's own support.

    Alternates two orthogonal projections: singular values of every A(k) are clipped, and the result, whose kernel
    fills the whole grid, is cut back to the kernel's support. Sedghi et al. stop after one round, which leaves values
    above the bound; here rounds go on until the norm is within `rtol` of the bound, and the rest is scaled away. The
    bias is kept. A layer that already keeps the bound comes back unchanged. Of one whose weight is made by a
    parametrisation, or by a hook of torch.nn.utils, a plain layer comes back: they would undo the projection.

    Args:
        layer: a convolution or transposed convolution.
        input_size: (d,) spatial size of its input.
        bound: the largest singular value allowed, positive.
        padding: None for what the layer does (then for zero padding the bound holds too), "circular" for the periodic
            map on its input's own size.
        rtol: relative excess that is scaled away at the end. Rounds grow like 1 / rtol: about 60 at the default.
        max_iterations: rounds.

    Raises:
        ValueError: a bound or `rtol` that is not positive; otherwise as `singular_values`.
        TypeError: another kind of layer.
        RuntimeError: the excess is above `rtol` after `max_iterations` rounds.

    Source: Sedghi, Gupta, Long 2019, section 3 (one round); alternating projections: von Neumann 1950.
    """
    if not isinstance(layer, Convolution):
        raise TypeError(f"expected a convolution or transposed convolution, got {type(layer).__name__}")
    if not bound > 0 or not rtol > 0:
        raise ValueError(f"expected positive `bound` and `rtol`, got {bound} and {rtol}")
    with torch.no_grad():
        own: Any = detached_copy(as_applied(layer))
        work: Any = copy.deepcopy(own).double().requires_grad_()
        work.weight.copy_(own.weight)
    norm = torch.inf
    for _ in range(max_iterations + 1):
        symbols = conv_symbols_of(work, input_size=input_size, padding=padding)
        change, norm = _excess(symbols, bound)
        if norm <= bound * (1 + rtol):
            with torch.no_grad():
                # float32 weights are rounded: stay below by more than that
                below = bound / norm * (1 - 4 * torch.finfo(own.weight.dtype).eps) if norm > bound else 1.0
                own.weight.copy_(work.weight * below)
            return own
        shared = conv_symbols_of(_of_ones(work), input_size=input_size, padding=padding).taps
        # where positions agree modulo the grid several weights share a tap, and its change is split among them
        (step,) = torch.autograd.grad(symbols.taps, work.weight, change / shared.clamp_min(1))
        with torch.no_grad():
            work.weight.add_(step)
    raise RuntimeError(
        f"expected singular values within {rtol:g} of the bound {bound:g} after {max_iterations} rounds, the norm is "
        f"{norm:.6g}; raise `max_iterations` or `rtol`"
    )


def _of_ones(layer: Convolution) -> Convolution:
    ones = copy.deepcopy(layer)
    nn.init.ones_(ones.weight)
    return ones


@torch.no_grad()
@float32("ieee")
def _excess(symbols: Symbols, bound: float) -> tuple[Tensor, float]:
    """Change of the taps that clips all singular values, cut back to the support; and the norm before it.

    Taps are Fourier coefficients of the symbol, T_j = mean_k Re(exp(-i phase_kj) A(k)), so the projection onto the
    support keeps those at the layer's own offsets.
    """
    taps = symbols.taps
    change = torch.zeros_like(taps)
    norm = 0.0
    step = max(1, _BLOCK_BYTES // (16 * taps.shape[0] * taps.shape[2] * taps.shape[3]))
    weights = symbols.multiplicity.to(taps) / int(symbols.multiplicity.sum())
    # frequencies that share singular values differ by a phase of the symbol, which the phases of the taps undo
    for part, share in zip(symbols.frequencies.split(step), weights.split(step), strict=True):
        matrices = kernels.conv_symbols(taps, symbols.offsets, part, grid=symbols.grid)
        excess, largest = excess_over(matrices, bound)
        norm = max(norm, float(largest))
        cosines, sines = phase_tables(symbols.offsets, part, symbols.grid, taps.dtype)
        change -= torch.einsum("ft,gfab->gtab", cosines * share[:, None], excess.real)
        change -= torch.einsum("ft,gfab->gtab", sines * share[:, None], excess.imag)
    return change, norm
