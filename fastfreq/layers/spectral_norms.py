"""Only the largest singular value of each convolution: by Lanczos at all frequencies at once, differentiable."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import fastfreq_kernels as kernels
import torch
from fastfreq_kernels._taps import phase_tables
from torch import Tensor, nn

from ._eager import outside_graphs
from ._lanczos import STEPS, lanczos, random_start
from ._products import Explicit, Stacked, multiplies_bfloat16
from ._values import distinct_values
from .discovery import find_convolutions
from .symbols import Symbols, conv_symbols_of

_DIRECT = 160  # sides up to which all singular values cost less than Lanczos steps at every frequency
_FEW, _FEW_BYTES = 3, 16 << 20  # frequencies, at least, whose matrices are written out, and bytes of those in float32
_SINGLE = 5e-6  # relative residual that float32 reaches
_GOOD = 1e-3  # relative residual that is enough to write them out
_ROUNDING = 3e-3  # relative residual that products of bfloat16 reach ...
_ROUNDED_STEPS = 48  # ... within these steps, or are left there


@dataclasses.dataclass(frozen=True)
class _Top:
    """The largest singular value and where it is: group, frequency (d,), and its unit vectors.

    u (2, a) and v (2, b) are their real and imaginary parts, float64.
    """

    value: float
    group: int
    frequency: Tensor
    u: Tensor
    v: Tensor


def spectral_norm(
    layer: nn.Module,
    *,
    input_size: Sequence[int],
    padding: str | None = None,
    batch_norm: nn.Module | None = None,
    rtol: float = 1e-5,
) -> Tensor:
    """Largest singular value of one convolution as a linear map on periodic images; a scalar with a gradient.

    ||A|| = max_k ||A(k)||, and its derivative with respect to the weight is that of Re(u^H A(k) v) at fixed u and v.
    Where the largest value is not simple this is one of the subgradients. For zero padding an upper bound, as in
    `singular_values`; `zero_padded_norm` gives the exact one.

    Up to 160 channels every singular value is computed. Above, Golub-Kahan-Lanczos runs at all frequencies together as
    one real matrix product per step, from random vectors, in bfloat16 where the CPU multiplies it. A frequency drops
    out once a value above the largest found so far would need a start vector that a random one comes as near to with a
    probability of at most 1e-6, by the Christoffel function of its Lanczos polynomials. The matrices of the last few
    frequencies give the value, in float64. The result is a value that some unit vector attains, so never above ||A||;
    it stops when the residual of the largest is below `rtol`, which bounds its distance to a singular value.
    `kernels.gram_iteration` gives certified bounds.

    Args:
        layer: a convolution, transposed convolution or linear layer.
        input_size: (d,) spatial size of its input.
        padding: None for what the layer does, "circular" for the periodic map on its input's own size.
        batch_norm: one in evaluation mode to fold in.
        rtol: relative residual at which to stop; the value itself is then right to about rtol^2 over its relative
            distance to the next one.

    Returns:
        A scalar of the weight's dtype.

    Raises:
        ValueError, TypeError: as `singular_values`, or an `rtol` outside (0, 0.1].
        RuntimeError: no convergence within 200 steps.

    Source: Golub, Kahan 1965; Kuczynski, Wozniakowski 1992 on random starts; symbols as in Sedghi, Gupta, Long 2019.
    """
    if not 0 < rtol <= 0.1:
        raise ValueError(f"expected `rtol` between 0 and 0.1, got {rtol}")
    symbols = conv_symbols_of(layer, input_size=input_size, padding=padding, batch_norm=batch_norm)
    return _norm_of(symbols, rtol)


def spectral_norms(
    model: nn.Module,
    *,
    input_size: Sequence[int],
    padding: str | None = None,
    fold_batch_norm: bool = False,
    linear: bool = False,
    rtol: float = 1e-5,
) -> dict[str, Tensor]:
    """Largest singular value of every convolution of a model, in order of execution; see `spectral_norm`.

    Args:
        model: any module.
        input_size: (c, height, width) of its images.
        padding: as in `spectral_norm`.
        fold_batch_norm: scale by the batch norm that follows each layer.
        linear: linear layers too.
        rtol: as in `spectral_norm`.

    Raises:
        ValueError: an argument out of range, or a layer with no periodic counterpart; the message names it.
        TypeError: a layer without usable weights.
    """
    if not 0 < rtol <= 0.1:
        raise ValueError(f"expected `rtol` between 0 and 0.1, got {rtol}")
    norms = {}
    for layer in find_convolutions(model, tuple(input_size), linear=linear)[0]:
        norm = layer.batch_norm if fold_batch_norm else None
        try:
            symbols = conv_symbols_of(layer.module, input_size=layer.input_size, batch_norm=norm, padding=padding)
        except (ValueError, TypeError) as error:
            raise type(error)(f"layer {layer.name!r}: {error}") from error
        norms[layer.name] = _norm_of(symbols, rtol)
    return norms


@outside_graphs
def _norm_of(symbols: Symbols, rtol: float) -> Tensor:
    taps = symbols.taps
    lowest, highest = taps.detach().permute(0, 2, 3, 1).aminmax()  # in the order of a weight's memory
    largest = max(float(highest), -float(lowest))
    if largest == 0:
        return (0 * taps).sum()  # zero is one of the subgradients
    # exact, and a float32 itself; weights of 1e20 or 1e-23 would leave the range
    scale = 2.0 ** -min(100, max(-100, math.frexp(largest)[1]))
    with torch.no_grad():
        fixed = taps.detach() if taps.dtype == torch.float64 else taps.detach().float()
        if min(taps.shape[2:]) <= _DIRECT:
            top = _by_all_values(dataclasses.replace(symbols, taps=fixed.double() * scale))
        else:
            top = _by_lanczos(dataclasses.replace(symbols, taps=fixed), scale, rtol)
    own = taps[top.group]
    if own.dtype not in (torch.float32, torch.float64):
        own = own.float()
    u, v = top.u.to(own.dtype), top.v.to(own.dtype)
    cosines, sines = phase_tables(symbols.offsets, top.frequency[None], symbols.grid, own.dtype)
    t, a, b = own.shape
    z = (u @ own.permute(1, 2, 0).reshape(a, b * t)).reshape(2, b, t)  # real and imaginary part of u, times each T_j
    real, imaginary = v[0] @ z[0] + v[1] @ z[1], v[1] @ z[0] - v[0] @ z[1]  # of u^H T_j v
    norm = (cosines[0] * real - sines[0] * imaginary).sum()
    return (norm + (top.value / scale - norm.detach())).to(taps.dtype)  # a gradient, and the value of float64


def _by_all_values(symbols: Symbols) -> _Top:
    """From all singular values: the place of the largest, and one small decomposition there."""
    values = _group_values(symbols)
    group, row = divmod(int(values.argmax()), values.shape[1])
    return _decompose(symbols, group, symbols.frequencies[row])


def _group_values(symbols: Symbols) -> Tensor:
    """(g, f) largest value of each group at each distinct frequency."""
    if len(symbols.taps) == 1:
        return torch.from_numpy(distinct_values(symbols, "high")[:, 0].copy())[None]
    gram = kernels.ConvGram(symbols.taps, symbols.offsets, grid=symbols.grid, count=len(symbols.frequencies))
    return gram.eigenvalues(symbols.frequencies)[..., 0].cpu()


def _decompose(symbols: Symbols, group: int, frequency: Tensor) -> _Top:
    taps = symbols.taps[group : group + 1]
    matrix = kernels.conv_symbols(taps, symbols.offsets, frequency[None], grid=symbols.grid)[0, 0]
    u, values, vh = torch.linalg.svd(matrix, full_matrices=False)
    u, v = u[:, 0], vh[0]
    return _Top(float(values[0]), group, frequency, torch.stack([u.real, u.imag]), torch.stack([v.real, -v.imag]))


def _by_lanczos(symbols: Symbols, scale: float, rtol: float) -> _Top:
    """Candidates from products at all frequencies; then the matrices of those, a few at a time, for the value."""
    best: list[_Top] = []
    cosines, sines = phase_tables(symbols.offsets, symbols.frequencies, symbols.grid, torch.float64)
    cosines, sines = cosines * scale, sines * scale  # instead of the taps: no copy
    for group, every in enumerate(symbols.taps):
        columns = torch.arange(every.shape[2], device=every.device)
        if symbols.taps.numel() > math.prod(symbols.weight_shape):  # phases that a stride beyond the kernel skips
            columns = torch.nonzero((every != 0).any(dim=0).any(dim=0))[:, 0]
        taps = every if len(columns) == every.shape[2] else every[:, :, columns]
        few = max(_FEW, _FEW_BYTES // (8 * taps[0].numel()))
        rows, starts = _candidates(taps, cosines, sines, few)
        for part, v in zip(rows.split(few), starts.split(few), strict=True):
            single = Explicit(taps, cosines[part], sines[part], torch.float32)
            found = lanczos(single, v, max(rtol, _SINGLE), steps=STEPS - 1)
            part, v = part[found.rows], found.vectors[found.rows]
            double = Explicit(taps, cosines[part], sines[part], torch.float64)
            found = lanczos(double, v, rtol)
            at = int(found.values.argmax())
            v, full = found.vectors[found.rows], found.vectors.new_zeros(2, every.shape[2])
            u, full[:, columns] = double.apply(v)[at], v[at]
            value = torch.linalg.vector_norm(u)
            frequency = symbols.frequencies[part[found.rows[at]]]
            best.append(_Top(float(value), group, frequency, u / value, full))
    return max(best, key=lambda top: top.value)


def _candidates(taps: Tensor, cosines: Tensor, sines: Tensor, few: int) -> tuple[Tensor, Tensor]:
    """Rows that can hold the largest value, and vectors to start from: at most `few`, or with residuals below 1e-3."""
    rows, start = torch.arange(len(cosines), device=taps.device), random_start(cosines, taps.shape[2])
    if len(rows) <= few:
        return rows, start
    taps, cosines, sines = taps.float(), cosines.float(), sines.float()
    random = True
    if taps.is_cpu and multiplies_bfloat16():
        rounded = Stacked(taps, cosines, sines, torch.bfloat16)
        found = lanczos(rounded, start, _ROUNDING, random=True, few=_FEW, steps=_ROUNDED_STEPS, noise=_ROUNDING)
        rows, random = found.rows, False
        behind = found.values < (1 - 2 * _ROUNDING) * found.values.max()  # what they may hold is still to be found
        start = found.vectors[rows] + behind[:, None, None] * start[rows] / start.shape[2] ** 0.5
        if len(rows) <= few:
            return rows, start
    found = lanczos(Stacked(taps, cosines[rows], sines[rows]), start, _GOOD, random=random, few=few)
    return rows[found.rows], found.vectors[found.rows]
