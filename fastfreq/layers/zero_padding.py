"""The exact spectral norm of any linear layer as it pads, by a block method on the layer itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._eager import outside_graphs
from .symbols import TRANSPOSED, margins, weight_of

_BLOCK = 4  # vectors that a step adds, and
_KEPT = 12  # Ritz vectors that a restart keeps, of a basis of at most ...
_BASIS, _BASIS_BYTES = 48, 1 << 29
_STEPS = 1000
_DENSE = 128  # numbers of an image up to which the matrix is written out
_CONVOLUTIONS: dict[int, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    1: (F.conv1d, F.conv_transpose1d),
    2: (F.conv2d, F.conv_transpose2d),
    3: (F.conv3d, F.conv_transpose3d),
}


@outside_graphs
def zero_padded_norm(layer: nn.Module, *, input_size: Sequence[int], rtol: float = 1e-6) -> Tensor:
    """Largest singular value of a layer with the padding that it has, zero padding included; a scalar with a gradient.

    A block Davidson method in float64 with the layer, without its bias, and its adjoint, so that no periodic grid
    stands in between: where `singular_values` gives an upper bound this is the value itself. The best unit vector v in
    the span of all residuals so far is kept until its own, ||A^T A v - sigma^2 v|| / sigma, is below `rtol`. So sigma
    is attained, never above the norm, and within `rtol` of a singular value; from random starts of four vectors that
    is the largest. `spectral_norm` with ``accuracy="bound"`` is a bound from the other side. The gradient is that of
    u . A v at the fixed singular vectors.

    Args:
        layer: a convolution, transposed convolution or linear layer; any padding mode.
        input_size: (d,) spatial size of its input, () for a linear layer.
        rtol: stop at this residual relative to the value, times the root of the relative spread of the values seen; the
            value is then right to about rtol^2 over its relative distance to the next one.

    Raises:
        ValueError: an `rtol` outside (0, 0.1], weights that are not finite, a size that the layer does not take.
        TypeError: not one of these layers, or one without usable weights.
        RuntimeError: no convergence in 1000 steps.

    Source: Davidson 1975; restarts with the previous vectors: Stathopoulos, Saad 1998.
    """
    if not 0 < rtol <= 0.1:
        raise ValueError(f"expected `rtol` between 0 and 0.1, got {rtol}")
    weight = weight_of(layer)
    size = tuple(int(n) for n in input_size)
    channels = int(layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels)  # pyright: ignore[reportArgumentType]
    fixed = weight.detach().double()
    # exact; the squares of weights of 1e-200 would leave the range
    scale = 2.0 ** -max(-1000, min(1000, math.frexp(float(fixed.abs().max()))[1]))
    shape = (channels, *size)
    if len(size) != fixed.ndim - 2 or any(n < 1 for n in size):
        raise ValueError(
            f"expected `input_size` of {fixed.ndim - 2} positive sides for {type(layer).__name__}, got {size}"
        )
    try:
        operator = _Operator(layer, fixed * scale, shape)
    except RuntimeError as error:
        raise ValueError(
            f"expected an `input_size` that {type(layer).__name__} takes, got {input_size}: {error}"
        ) from error
    if not fixed.any():
        return weight.sum() * 0
    v = _dense(operator) if operator.columns <= _DENSE else _davidson(operator, rtol)
    with torch.no_grad():
        image = _apply(layer, fixed, v.reshape(1, *shape) * scale)
        length = torch.linalg.vector_norm(image)
    norm = (image / length * _apply(layer, weight.double(), v.reshape(1, *shape))).sum()
    return (length / scale + (norm - norm.detach())).to(weight.dtype)


class _Operator:
    """A^T A on rows of vectors: the graph of the layer is made once, and its gradient is the adjoint."""

    def __init__(self, layer: nn.Module, weight: Tensor, shape: tuple[int, ...]) -> None:
        self.layer, self.weight, self.shape = layer, weight, shape
        self.columns, self.device = math.prod(shape), weight.device
        with torch.enable_grad():
            self.input = torch.zeros(_BLOCK, *shape, dtype=torch.float64, device=weight.device, requires_grad=True)
            self.output = _apply(layer, weight, self.input)

    def apply(self, x: Tensor) -> Tensor:
        """(_BLOCK, ...) of (_BLOCK, n)."""
        with torch.no_grad():
            return _apply(self.layer, self.weight, x.reshape(self.input.shape))

    def gram(self, x: Tensor) -> Tensor:
        """A^T A x, (_BLOCK, n)."""
        (out,) = torch.autograd.grad(self.output, self.input, self.apply(x), retain_graph=True)
        return out.reshape(x.shape)


def _apply(layer: Any, weight: Tensor, x: Tensor) -> Tensor:
    """The layer's map without its bias."""
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight)
    forward, transposed = _CONVOLUTIONS[weight.ndim - 2]
    if isinstance(layer, TRANSPOSED):
        return transposed(
            x, weight, None, layer.stride, layer.padding, layer.output_padding, layer.groups, layer.dilation
        )
    padding = layer.padding
    if layer.padding_mode != "zeros":
        sides = [side for pair in zip(*margins(layer), strict=True) for side in reversed(pair)]
        x, padding = F.pad(x, sides[::-1], mode=layer.padding_mode), 0
    return forward(x, weight, None, layer.stride, padding, layer.dilation, layer.groups)


def _dense(operator: _Operator) -> Tensor:
    n = operator.columns
    every = torch.eye(-(-n // _BLOCK) * _BLOCK, n, dtype=torch.float64, device=operator.device)
    rows = torch.cat([operator.apply(part).flatten(1) for part in every.split(_BLOCK)])[:n]
    return torch.linalg.svd(rows, full_matrices=False).U[:, 0]


class _Basis(NamedTuple):
    """Orthonormal rows and A^T A times them, (m, n) each."""

    vectors: Tensor
    images: Tensor


def _davidson(operator: _Operator, rtol: float) -> Tensor:
    """The right singular vector of the largest singular value."""
    n = operator.columns
    most = min(_BASIS, max(5 * _BLOCK, _BASIS_BYTES // (16 * n)))
    generator = torch.Generator().manual_seed(0)

    def random(count: int) -> Tensor:
        return torch.randn(count, n, dtype=torch.float64, generator=generator).to(operator.device)

    new = random(_BLOCK)
    basis = _Basis(new[:0], new[:0])
    before = new.new_zeros(0, _BLOCK)
    residual = float("inf")
    for _ in range(_STEPS):
        new = _orthonormal(new, basis.vectors)
        basis = _Basis(torch.cat([basis.vectors, new]), torch.cat([basis.images, operator.gram(new)]))
        small = basis.vectors @ basis.images.T
        squares, ritz = torch.linalg.eigh((small + small.T) / 2)
        best = ritz.flip(1)[:, :_BLOCK]
        vectors = best.T @ basis.vectors
        residuals = best.T @ basis.images - squares.flip(0)[:_BLOCK, None] * vectors
        lengths = torch.linalg.vector_norm(residuals, dim=1, keepdim=True)
        top, spread = float(squares[-1]), float(1 - squares[0].clamp_min(0) / squares[-1])
        residual = float(lengths[0]) / top if top > 0 else float("inf")
        if residual <= max(rtol * math.sqrt(spread), 1e-13):
            return vectors[0]
        new = residuals / lengths.clamp_min(1e-300)
        ended = (lengths[:, 0] <= 1e-15 * abs(top)).nonzero()[:, 0]
        new[ended] = random(len(ended))
        if len(basis.vectors) + _BLOCK > most:
            basis, before = _restarted(basis, ritz.flip(1)[:, :_KEPT], before), before[:0]
        else:
            before = best
    raise RuntimeError(
        f"expected convergence to rtol={rtol:g} in {_STEPS} steps, the relative residual is {residual:.1e}; "
        "raise `rtol`"
    )


def _restarted(basis: _Basis, kept: Tensor, before: Tensor) -> _Basis:
    """The span of Ritz vectors and of those of the step before, which carry the direction of the search."""
    padded = torch.cat([before, before.new_zeros(len(kept) - len(before), before.shape[1])])
    for _ in range(2):
        padded = torch.linalg.qr(padded - kept @ (kept.T @ padded)).Q
    both = torch.cat([kept, padded], dim=1)
    return _Basis(both.T @ basis.vectors, both.T @ basis.images)


def _orthonormal(new: Tensor, basis: Tensor) -> Tensor:
    """Orthonormal rows that span those of `new` outside the basis."""
    for _ in range(3):  # rounding of the first leaves parts of the basis
        new = new - (new @ basis.T) @ basis
        new = torch.linalg.qr(new.T).Q.T.contiguous()
    return new
