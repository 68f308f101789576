"""Only the largest singular value of each convolution, or an upper bound of it, differentiable."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

import torch
from fastfreq_kernels._taps import phase_tables
from torch import Tensor, nn

from fastfreq.engine.arithmetic import float32

from . import _largest
from ._eager import outside_graphs
from ._sampled import sampled
from .discovery import UNREACHED, find_convolutions
from .symbols import Convolution, Symbols, conv_symbols_of

NormAccuracy: TypeAlias = Literal["high", "bound"]


def spectral_norm(
    layer: nn.Module,
    *,
    input_size: Sequence[int],
    padding: str | None = None,
    batch_norm: nn.Module | None = None,
    rtol: float = 1e-5,
    accuracy: NormAccuracy = "high",
) -> Tensor:
    """Largest singular value of one convolution as a linear map on periodic images; a scalar with a gradient.

    ||A|| = max_k ||A(k)||, and its derivative with respect to the weight is that of Re(u^H A(k) v) at fixed u and v.
    Where the largest value is not simple this is one of the subgradients. For zero padding an upper bound, as in
    `singular_values`; `zero_padded_norm` gives the exact one.

    "high": up to 160 channels every singular value is computed. Above, Golub-Kahan-Lanczos runs at all frequencies
    together as one real matrix product per step, from random vectors, in bfloat16 where the CPU multiplies it and the
    values are far enough apart. A frequency drops out once a value above the largest found so far (by 5e-7 of it) would
    need a start vector that a random one comes as near to with a probability of at most 1e-6, by the Christoffel
    function of its Lanczos polynomials. The matrices of the last few frequencies give the value, in float64;
    frequencies that Lanczos does not decide between get all their singular values. The result is a value that some unit
    vector attains, so never above ||A||.

    "bound": never below ||A||, and at most 1.005 times the largest ||A(theta)|| of all real frequencies theta in one
    dimension, 1.01 in two, 1.06 in three, whatever the size of the image. u^H A(theta) v is a trigonometric polynomial
    in each axis of theta, so on a grid of N points per axis one is at least cos(pi m / 2 N) times its largest value,
    with m + 1 the kernel's extent in that axis (without its dilation and stride); N = 16 m (8 m in three dimensions).
    Most of those points are ruled out by a few coarser ones. An axis on which the layer has at most 8 m frequencies is
    taken as it is, without the factor. For zero padding that bounds the layer itself. `kernels.gram_iteration` gives
    certified bounds of single matrices.

    Args:
        layer: a convolution, transposed convolution or linear layer.
        input_size: (d,) spatial size of its input.
        padding: None for what the layer does, "circular" for the periodic map on its input's own size.
        batch_norm: one in evaluation mode to fold in.
        rtol: relative residual at which "high" stops, times the root of the relative spread of the values; the value
            is then right to about rtol^2 over its distance to the next one in units of that spread, and to 1e-6.
        accuracy: "high", or "bound" for an upper bound.

    Returns:
        A scalar of the weight's dtype; a "bound" is rounded up.

    Raises:
        ValueError, TypeError: as `singular_values`, an `rtol` outside (0, 0.1] or another `accuracy`.

    Source: Golub, Kahan 1965; Kuczynski, Wozniakowski 1992 on random starts; symbols as in Sedghi, Gupta, Long 2019;
        Duffin, Schaeffer 1938 and Ehlich, Zeller 1964 on polynomials between samples. sqrt(h w) times the norm of the
        kernel as a tensor (Grishina, Gorbunov, Rakhuba 2024, arXiv:2409.11859) is as independent of the image, but
        larger, and found by alternating maximisation, from below: a local maximum gives less than ||A||. The norms of
        the kernel as four matrices (Singla, Feizi 2021) are a bound, and larger still; benchmarks/bench_norm_bounds.py.
    """
    _check(rtol, accuracy)
    symbols = conv_symbols_of(layer, input_size=input_size, padding=padding, batch_norm=batch_norm)
    return _norm_of(symbols, rtol, accuracy)


def spectral_norms(
    model: nn.Module,
    *,
    input_size: Sequence[int],
    padding: str | None = None,
    fold_batch_norm: bool = False,
    linear: bool = False,
    rtol: float = 1e-5,
    accuracy: NormAccuracy = "high",
) -> dict[str, Tensor]:
    """Largest singular value of every convolution of a model, in order of execution; see `spectral_norm`.

    Args:
        model: any module.
        input_size: (c, height, width) of its images.
        padding: as in `spectral_norm`.
        fold_batch_norm: scale by the batch norm that follows each layer.
        linear: linear layers too.
        rtol: as in `spectral_norm`.
        accuracy: as in `spectral_norm`.

    Raises:
        ValueError: an argument out of range; a layer with no periodic counterpart, of more than one input size, or
            that applies more than its weight; the message names it.
        TypeError: a layer without usable weights.
    """
    _check(rtol, accuracy)
    found, skipped = find_convolutions(model, tuple(input_size), linear=linear)
    modules, kinds = dict(model.named_modules()), (*Convolution.__args__, *[nn.Linear] * linear)
    reached = [one for one in skipped if one[2] != UNREACHED and isinstance(modules[one[0]], kinds)]
    for name, kind, reason in [*reached, *(one for layer in found for one in layer.left_out(fold_batch_norm))]:
        raise ValueError(
            f"expected layers that one norm describes, {name!r} ({kind}) is none: {reason}; `singular_values` lists "
            f"what it leaves out, `spectral_norm` takes one layer at one input size"
        )
    norms = {}
    for layer in found:
        norm = layer.batch_norm if fold_batch_norm else None
        try:
            symbols = conv_symbols_of(layer.module, input_size=layer.input_size, batch_norm=norm, padding=padding)
        except (ValueError, TypeError) as error:
            raise type(error)(f"layer {layer.name!r}: {error}") from error
        norms[layer.name] = _norm_of(symbols, rtol, accuracy)
    return norms


def _check(rtol: float, accuracy: str) -> None:
    if not 0 < rtol <= 0.1:
        raise ValueError(f"expected `rtol` between 0 and 0.1, got {rtol}")
    if accuracy not in get_args(NormAccuracy):
        raise ValueError(
            f"expected `accuracy` of 'high' (the norm) or 'bound' (an upper bound of it), got {accuracy!r}"
        )


@outside_graphs
@float32("ieee")
def _norm_of(symbols: Symbols, rtol: float, accuracy: NormAccuracy) -> Tensor:
    taps = symbols.taps
    lowest, highest = taps.detach().permute(0, 2, 3, 1).aminmax()  # in the order of a weight's memory
    largest = max(float(highest), -float(lowest))
    if largest == 0:
        return (0 * taps).sum().to(symbols.dtype)  # zero is one of the subgradients
    # exact, and a float32 itself; weights of 1e20 or 1e-23 would leave the range
    scale = 2.0 ** -min(100, max(-100, math.frexp(largest)[1]))
    factor = 1.0
    with torch.no_grad():
        fixed = taps.detach() if taps.dtype == torch.float64 else taps.detach().float()
        if accuracy == "bound" or min(taps.shape[2:]) <= _largest.DIRECT:
            scaled = dataclasses.replace(symbols, taps=fixed.double() * scale)
            if accuracy == "bound":
                scaled, factor = sampled(scaled, lambda at: _largest.group_values(at).amax(dim=0))
            symbols, top = scaled, _largest.by_all_values(scaled)
        else:
            top = _largest.by_lanczos(dataclasses.replace(symbols, taps=fixed), scale, rtol)
        value = _rounded_up(factor * top.value / scale, symbols) if accuracy == "bound" else top.value / scale
    own = taps[top.group]
    if own.dtype not in (torch.float32, torch.float64):
        own = own.float()
    u, v = top.u.to(own.dtype), top.v.to(own.dtype)
    cosines, sines = phase_tables(symbols.offsets, top.frequency[None], symbols.grid, own.dtype)
    t, a, b = own.shape
    z = (u @ own.permute(1, 2, 0).reshape(a, b * t)).reshape(2, b, t)  # real and imaginary part of u, times each T_j
    real, imaginary = v[0] @ z[0] + v[1] @ z[1], v[1] @ z[0] - v[0] @ z[1]  # of u^H T_j v
    norm = factor * (cosines[0] * real - sines[0] * imaginary).sum()
    return torch.as_tensor(value, dtype=symbols.dtype, device=taps.device) + (norm - norm.detach()).to(symbols.dtype)


def _rounded_up(value: float, symbols: Symbols) -> Tensor:
    """In the weight's dtype, above what rounding of float64 may have taken away."""
    least = value * (1 + 1e-11)
    rounded = torch.tensor(least, dtype=torch.float64).to(symbols.dtype)
    if float(rounded) >= least:
        return rounded
    return torch.tensor(float(rounded) * (1 + torch.finfo(symbols.dtype).eps), dtype=torch.float64).to(symbols.dtype)
