"""Smoothness of convolution kernels: smoothed after training, measured, and asked for in training."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

Layers = Literal["first", "all"] | Sequence[str]
Boundary = Literal["symm", "zero"]
_KINDS = (nn.Conv2d, nn.ConvTranspose2d)


def smooth_kernels(
    model: nn.Module,
    rho: float,
    *,
    layers: Layers = "first",
    boundary: Boundary = "symm",
    normalise: bool = False,
) -> nn.Module:
    """A copy of the model with smoothed kernels: w(i, j) + rho times the sum of its 8 neighbours in the plane.

    Every slice over height and width is smoothed on its own: input and output channels are never mixed. Frequencies
    (u, v) of a kernel are multiplied by `smoothing_response`, up to what the boundary does: 1 + 8 rho at zero
    frequency, which changes the scale of what follows, 1 at (pi, pi), and 1 - 4 rho at (pi, 0): beyond rho = 1/4 the
    sign of stripes is turned, so that the operation is no low-pass filter.

    Args:
        model: any module, or one layer. It is not changed.
        rho: weight of each neighbour; the paper takes 0.1, 0.25, 0.5 and 1.
        layers: "first", the first 2-D convolution in the order of `model.modules()`, as in the authors' code; "all";
            or names as in `model.named_modules()`.
        boundary: what lies outside of the kernel: "symm", its own reflection with the edge repeated, as in the
            authors' code; "zero", nothing, the paper's formula.
        normalise: divide by 1 + 8 rho, which keeps a constant kernel under "symm" as it is.

    Raises:
        ValueError: no such layer, a weight that is computed from others, or a boundary other than these.

    Source: Wang, Wu, Huang, Xing 2020, "High-Frequency Component Helps Explain the Generalization of Convolutional
        Neural Networks", section 5.
    """
    if boundary not in ("symm", "zero"):
        raise ValueError(f"expected `boundary` of 'symm' or 'zero', got {boundary!r}")
    if not np.isfinite(rho) or (normalise and 1 + 8 * rho == 0):
        raise ValueError(f"expected a finite `rho` (and none of -1/8 with normalise=True), got {rho}")
    smoothed = copy.deepcopy(model)
    with torch.no_grad():
        for weight in {id(layer.weight): layer.weight for layer in convolutions_of(smoothed, layers).values()}.values():
            weight.copy_(_smoothed(weight, rho, boundary) / (1 + 8 * rho if normalise else 1))
    return smoothed


def _smoothed(weight: Tensor, rho: float, boundary: Boundary) -> Tensor:
    a, b, h, w = weight.shape
    mask = weight.new_full((1, 1, 3, 3), rho)
    mask[..., 1, 1] = 1
    # the symmetric extension by one pixel repeats the edge
    padded = F.pad(weight.reshape(a * b, 1, h, w), (1, 1, 1, 1), mode="replicate" if boundary == "symm" else "constant")
    return F.conv2d(padded, mask).reshape(a, b, h, w)


def smoothing_response(frequencies: ArrayLike, rho: float) -> NDArray[np.float64]:
    """Factor 1 + 2 rho (cos u + cos v) + 4 rho cos u cos v on the frequencies (u, v) of a kernel, (...) of (..., 2).

    In radians per pixel. Exact for a kernel with a rim of zeros.

    Source: the Fourier series of the 3 x 3 mask of Wang et al. 2020, section 5.
    """
    cu, cv = np.moveaxis(np.cos(np.asarray(frequencies, dtype=np.float64)), -1, 0)
    return 1 + 2 * rho * (cu + cv) + 4 * rho * cu * cv


def kernel_high_frequency(model: nn.Module, *, cutoff: float = 0.25, layers: Layers = "all") -> dict[str, float]:
    """Share of the energy of each layer's kernels at high frequencies, by name of the layer.

    1 - (integral of |W|^2 over |u|, |v| <= 2 pi cutoff) / (integral over all frequencies), W the Fourier series of
    each slice of the kernel over height and width, both integrals summed over slices. Exact, with no grid: the first
    is sum S(i - k) S(j - l) w(i, j) w(k, l), S(d) = 2 cutoff sinc(2 cutoff d). White kernels give
    1 - (2 cutoff)^2 on average, 0.75 at the default; 1 x 1 kernels always do.

    Args:
        model: any module, or one layer, whose name is then that of its class.
        cutoff: cycles per pixel, between 0 and 1/2.
        layers: "all" 2-D convolutions, "first", or names.

    Returns:
        name -> share in 0 .. 1; NaN for a layer of zeros.

    Raises:
        ValueError: no such layer, or another cutoff.

    Source: Parseval's theorem; measured before and after the smoothing of Wang et al. 2020, section 5.
    """
    if not 0 < cutoff < 0.5:
        raise ValueError(f"expected a `cutoff` between 0 and 1/2 cycles per pixel, got {cutoff}")
    shares = {}
    for name, layer in convolutions_of(model, layers).items():
        weight = layer.weight.detach().double().flatten(0, 1)
        rows, columns = (_low_pass(side, cutoff).to(weight.device) for side in weight.shape[1:])
        low, total = (weight * (rows @ weight @ columns)).sum(), weight.square().sum()
        share = 1 - low / total
        shares[name or type(layer).__name__] = float(share.clamp(0, 1))
    return shares


def _low_pass(side: int, cutoff: float) -> Tensor:
    """(side, side) S(i - k), the quadratic form of the energy at frequencies up to the cutoff."""
    i = torch.arange(side, dtype=torch.float64)
    return 2 * cutoff * torch.sinc(2 * cutoff * (i[:, None] - i))


class KernelSmoothnessPenalty:
    """Sum over kernels of (w(i, j) - w(k, l))^2 over all pairs of neighbours: pulls them together, ready for a loss.

    Each pair counts once; pairs lie in one slice over height and width::

        penalty = ff.layers.KernelSmoothnessPenalty(model, layers="all")
        loss = criterion(model(images), labels) + 1e-2 * penalty()

    With 4 neighbours the penalty is sum (4 - 2 cos(pi p / h) - 2 cos(pi q / w)) |C(p, q)|^2, C the orthonormal discrete
    cosine transform (type II) of each slice: nothing for a constant, and most for the highest frequencies.

    Args:
        model: any module, or one layer; its weights at the time of the call are taken.
        layers: "all" 2-D convolutions with more than one weight in the plane, "first" of all, or names.
        neighbours: 4, horizontal and vertical; or 8, diagonal too.

    Raises:
        ValueError: no such layer, kernels of 1 x 1 only, or other neighbours.

    Source: Wang et al. 2020, the regularisation in the first version of the paper (1905.13545v1).
    """

    def __init__(self, model: nn.Module, *, layers: Layers = "all", neighbours: Literal[4, 8] = 4) -> None:
        if neighbours not in (4, 8):
            raise ValueError(f"expected 4 or 8 `neighbours`, got {neighbours}")
        found = convolutions_of(model, layers)
        self.layers = {name: layer for name, layer in found.items() if max(layer.kernel_size) > 1}
        self.neighbours = neighbours
        if not self.layers:
            raise ValueError(f"expected kernels with neighbours, got 1 x 1 only ({', '.join(found)})")

    def __call__(self) -> Tensor:
        """The penalty, a scalar, differentiable with respect to the weights."""
        return torch.stack([self._of(layer.weight) for layer in self.layers.values()]).sum()

    def _of(self, w: Tensor) -> Tensor:
        pairs = [(w[..., 1:, :], w[..., :-1, :]), (w[..., :, 1:], w[..., :, :-1])]
        if self.neighbours == 8:
            pairs += [(w[..., 1:, 1:], w[..., :-1, :-1]), (w[..., 1:, :-1], w[..., :-1, 1:])]
        return torch.stack([(a - b).square().sum() for a, b in pairs]).sum()


def convolutions_of(model: nn.Module, layers: Layers) -> dict[str, nn.Conv2d | nn.ConvTranspose2d]:
    """The wanted 2-D convolutions by name, each with a weight of its own.

    Raises:
        ValueError: no such layer, or a weight that is computed from others.
    """
    every = {name: module for name, module in model.named_modules() if isinstance(module, _KINDS)}
    if not every:
        raise ValueError(f"expected a model with 2-D convolutions, {type(model).__name__} has none")
    if isinstance(layers, str) and layers not in ("first", "all"):
        raise ValueError(f"expected `layers` of 'first', 'all' or a list of names, got {layers!r}")
    names = list(every) if isinstance(layers, str) else list(layers)
    unknown = [name for name in names if name not in every]
    if unknown or not names:
        known = ", ".join(list(every)[:8])
        raise ValueError(f"expected names of 2-D convolutions, such as {known}; got {unknown or layers}")
    chosen = {name: every[name] for name in (names[:1] if layers == "first" else names)}
    for name, layer in chosen.items():
        if not isinstance(layer._parameters.get("weight"), nn.Parameter):
            raise ValueError(
                f"expected a weight that is a parameter, that of {name or type(layer).__name__} is computed from "
                f"others; remove its parametrization first"
            )
    return chosen
