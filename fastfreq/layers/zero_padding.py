"""The exact spectral norm of any linear layer as it pads, by Lanczos on the layer itself."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastfreq.vocabulary.checks import check_finite_weight

_BASIS = 32  # vectors held before a restart from the best one
_RESTARTS = 40


def zero_padded_norm(layer: nn.Module, *, input_size: Sequence[int], rtol: float = 1e-6) -> Tensor:
    """Largest singular value of a layer with the padding that it has, zero padding included; a scalar with a gradient.

    Golub-Kahan-Lanczos in float64 with the layer and its adjoint (by autograd), so that no periodic grid stands in
    between: where `singular_values` gives an upper bound this is the value itself. The bias is left out. The gradient
    is that of u . layer(v) at the fixed singular vectors.

    Args:
        layer: a convolution, transposed convolution or linear layer; any padding mode.
        input_size: (d,) spatial size of its input, () for a linear layer.
        rtol: stop at this residual relative to the value; the value is then right to about rtol^2 over its relative
            distance to the next one.

    Raises:
        ValueError: an `rtol` outside (0, 0.1], weights that are not finite, a size that the layer does not take.
        TypeError: not one of these layers.
        RuntimeError: no convergence in 40 restarts of 32 steps.
    """
    if not 0 < rtol <= 0.1:
        raise ValueError(f"expected `rtol` between 0 and 0.1, got {rtol}")
    channels = getattr(layer, "in_channels", getattr(layer, "in_features", None))
    weight = getattr(layer, "weight", None)
    if channels is None or not isinstance(weight, Tensor):
        raise TypeError(f"expected a convolution or a linear layer, got {type(layer).__name__}")
    check_finite_weight(weight)
    wide = copy.deepcopy(layer).double().requires_grad_(False)
    wide.register_parameter("bias", None)
    shape = (1, int(channels), *(int(n) for n in input_size))
    try:
        with torch.no_grad():
            wide(torch.zeros(shape, dtype=torch.float64, device=weight.device))
    except RuntimeError as error:
        raise ValueError(
            f"expected an `input_size` that {type(layer).__name__} takes, got {input_size}: {error}"
        ) from error
    u, v = _largest_pair(wide, shape, weight.device, rtol)
    if u is None:
        return weight.sum() * 0
    v = v.reshape(shape).to(weight.dtype)
    out = layer(v) - layer(torch.zeros_like(v))  # without the bias
    return (u.reshape(out.shape).to(weight.dtype) * out).sum()


def _largest_pair(
    layer: nn.Module, shape: tuple[int, ...], device: torch.device, rtol: float
) -> tuple[Tensor | None, Tensor]:
    def apply(x: Tensor) -> Tensor:
        with torch.no_grad():
            return layer(x.reshape(shape)).reshape(-1)

    def adjoint(y: Tensor) -> Tensor:
        with torch.enable_grad():
            x = torch.zeros(shape, dtype=torch.float64, device=device, requires_grad=True)
            out = layer(x)
            return torch.autograd.grad(out, x, y.reshape(out.shape))[0].reshape(-1)

    size = 1
    for n in shape:
        size *= n
    v = torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(device)
    v = v / v.norm()
    for _ in range(_RESTARTS):
        right: list[Tensor] = [v]
        left: list[Tensor] = []
        alphas: list[Tensor] = []
        betas: list[Tensor] = []
        for step in range(1, min(_BASIS, size) + 1):
            u = apply(right[-1])
            for basis in left:
                u = u - (basis @ u) * basis
            alphas.append(u.norm())
            if alphas[-1] == 0 and step == 1:
                return None, v  # the zero map
            left.append(u / alphas[-1].clamp_min(1e-300))
            w = adjoint(left[-1])
            for basis in right:
                w = w - (basis @ w) * basis
            betas.append(w.norm())
            bidiagonal = torch.diag(torch.stack(alphas))
            if step > 1:
                bidiagonal = bidiagonal + torch.diag(torch.stack(betas[:-1]), 1)
            outer, values, inner = torch.linalg.svd(bidiagonal)
            done = betas[-1] * outer[-1, 0].abs() <= rtol * values[0]
            if done or step == min(_BASIS, size):
                v = torch.stack(right, dim=1) @ inner[0]
                if done or step == size:
                    return torch.stack(left, dim=1) @ outer[:, 0], v
                break
            right.append(w / betas[-1])
        v = v / v.norm()
    raise RuntimeError(f"expected Lanczos to converge to rtol={rtol:g} in {_RESTARTS} restarts; raise `rtol`")
