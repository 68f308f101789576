"""Which singular values a layer keeps, and what the norm of a network's parameters says about its function."""

from __future__ import annotations

import copy
import dataclasses
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .bottleneck_result import Bottleneck, KeptValues
from .cyclic import CyclicNet, pooling_eigenvalues
from .layer_singular_values import LayerSingularValues

FLOOR = 0.1
SMALLEST_GAP = 1.5


@dataclasses.dataclass(frozen=True)
class RepresentationCost:
    """Parameter norm of one network beside what theory says that its function costs.

    R(f; Omega, L) is the smallest ||theta||^2 of a network of L layers that represents f on Omega; for large L it is
    L R0 + R1. With A_l(w) the operator of layer l at frequency w, n pixels, pooling m_w and J(w) the Jacobian at a
    constant input:

    Attributes:
        depth: L, the number of layers.
        squared_parameter_norm: ||theta||^2 = sum_l ||W_l||_F^2 + ||b_l||^2.
        weight_norm: the part of the weights.
        lower_bound: (1/n) sum_w L m_w^-2 sum_i s_i(J(w))^(2/L), at most `weight_norm` for every L.
        r0: (1/n) sum_w m_w^-2 Rank J(w), a lower bound of R0 (Theorem 3.2); rank by the gap of all s_i(J(w)).
        r1: (2/n) sum_w m_w^-2 sum_i log s_i(J(w)) over the values above that gap, a lower bound of R1.
        rank_cbn: sum_w m_w^-2 k_w, with k_w the channels that the middle layers keep; counts, not divided by n.
        upper_rate: rank_cbn / n: by Theorem 3.1 R <= L upper_rate + c, where c depends on f only.
        constant: squared_parameter_norm - L upper_rate, the c with which this network meets Theorem 3.1.
        distances: (L,) (1/n) sum_w m_w^-2 ||A_l(w) - U V^H||_F^2 of each layer from the nearest map that is an
            isometry on Rank J(w) channels at each frequency and zero elsewhere: U, V its leading singular vectors.
        distance_bound: weight_norm - L r0 - r1, at least the sum of `distances` (Theorem 4.1, made explicit): all but
            p L layers are within distance_bound / (p L). Nearness to zero of it is what makes the bottleneck.
    """

    depth: int
    squared_parameter_norm: float
    weight_norm: float
    lower_bound: float
    r0: float
    r1: float
    rank_cbn: float
    upper_rate: float
    constant: float
    distances: tuple[float, ...]
    distance_bound: float


def kept_values(
    distinct: NDArray[np.float64], *, floor: float = FLOOR, smallest_gap: float = SMALLEST_GAP
) -> KeptValues:
    """The singular values of a layer above the largest gap of its whole spectrum, counted at each frequency.

    With the values of all frequencies in descending order and delta = floor s_1, the cut is at the largest ratio
    (s_i + delta) / (s_{i+1} + delta); values above sqrt(s_i s_{i+1}) are kept. If no ratio reaches `smallest_gap`
    there is no gap, and all values above delta are kept.

    Why delta: theory puts values not kept at O(L^(-1/2)) of those kept, so that ratios among them say nothing; 0.1 is
    what a hundred layers would leave, and a layer transmits less than 1 % of its energy by them. What follows: if the
    kept values lie above 0.24 s_1 and the others below 0.004 s_1, the kept set is found exactly whatever its values:
    the ratio at its border is then above (0.34 / 0.104) = 3.27, and no other can exceed 1.1 / 0.34 = 3.24.

    Why 1.5: Gaussian layers have no bottleneck; with 8 or more channels and 16 or more frequencies 95 in 100 of them
    have a largest ratio below 1.4 (60 of each kind). With 2 channels it is 2.4: few values say little.

    Args:
        distinct: (f, r) singular values at each frequency; any order along r.
        floor: delta / s_1, above 0 and below 1.
        smallest_gap: smallest ratio that counts as a gap, above 1.

    Raises:
        ValueError: arguments outside these ranges, values that are negative or not finite.

    Source: Wen and Jacot 2024, Theorem 4.1, for what is near 1 and what is O(L^(-1/2)); the rule is ours.
    """
    if not 0 < floor < 1 or not smallest_gap > 1:
        raise ValueError(f"expected 0 < `floor` < 1 and `smallest_gap` > 1, got {floor} and {smallest_gap}")
    if distinct.ndim != 2 or not distinct.size or not (distinct >= 0).all() or not np.isfinite(distinct).all():
        raise ValueError(f"expected finite singular values of shape (f, r), none negative, got shape {distinct.shape}")
    values = -np.sort(-distinct.reshape(-1))
    delta = floor * values[0]
    if values[0] == 0:
        return KeptValues(np.zeros(len(distinct), dtype=np.int64), 0.0, 1.0, 0.0, False)
    ratios = (values[:-1] + delta) / (values[1:] + delta)
    at = int(np.argmax(ratios)) if len(ratios) else 0
    if not len(ratios) or ratios[at] < smallest_gap:
        return KeptValues(np.sum(distinct > delta, axis=1), float(delta), 1.0, 0.0, False)
    last, first = float(values[at]), float(values[at + 1])
    gap = last / first if first > 0 else math.inf
    return KeptValues(np.sum(distinct >= last, axis=1), math.sqrt(last * first), gap, (last - first) / 2, True)


def squared_parameter_norm(model: nn.Module) -> Tensor:
    """||theta||^2, the sum of the squares of all parameters; loss + lambda ||theta||^2 is what makes a bottleneck.

    Differentiable: ``loss = criterion(net(x), y) + decay * ff.layers.squared_parameter_norm(net)``. The same as SGD's,
    or Adam's, ``weight_decay=2 * decay``; AdamW's decoupled decay is another thing.

    Settings that produce the structure (Wen and Jacot 2024): many layers, L of 9 to 12, more channels than are needed,
    c of 50 to 60, decay of 1e-4 to 4e-2 on weights and biases alike. The norm of a network that represents a function
    is about L R0 + R1, so a decay of d / L keeps the balance of loss and norm as L grows. With too little the gap is
    not there, with too much, or with all of it from the first step, deep networks go to zero: let it grow.
    `decay_schedule` does that, `bottleneck` shows the gap, `representation_cost` the norm beside its bounds.

    Args:
        model: any module.

    Raises:
        ValueError: a model without parameters.
    """
    if not any(True for _ in model.parameters()):
        raise ValueError(f"expected a model with parameters, {type(model).__name__} has none")
    return torch.stack([parameter.square().sum() for parameter in model.parameters()]).sum()


def decay_schedule(step: int, steps: int, *, decay: float, start: float = 0.01) -> float:
    """The factor lambda of ``loss + lambda * squared_parameter_norm(model)`` at a step: it grows, then stays.

    decay start^max(0, 1 - 2 step / steps): from start times its value to all of it, geometrically, over the first half.

    Args:
        step: 0 .. steps.
        steps: of the whole training.
        decay: the full value; divide by the number of layers to compare depths.
        start: share of it at the first step, above 0 and at most 1 (no growth).

    Raises:
        ValueError: arguments outside these ranges.
    """
    if steps < 1 or not 0 <= step <= steps:
        raise ValueError(f"expected a `step` from 0 to `steps`, at least 1, got {step} of {steps}")
    if not (decay >= 0 and math.isfinite(decay)) or not 0 < start <= 1:
        raise ValueError(f"expected a finite `decay` of at least 0 and 0 < `start` <= 1, got {decay} and {start}")
    return decay * start ** max(0.0, 1 - 2 * step / steps)


def representation_cost(net: CyclicNet, result: Bottleneck, constant: Tensor | None = None) -> RepresentationCost:
    """Parameter norm of a network of the paper's kind, and the bounds of Theorems 3.1 and 3.2 evaluated for it.

    At an input that is the same at every pixel all activations are, so the Jacobian is diagonal in frequency up to
    channels: J(w) = D_L m_w W_L(w) .. D_1 m_w W_1(w) with 0/1 diagonal D. For matrices of product J,
    sum_l ||A_l||_F^2 >= L sum_i s_i(J)^(2/L) (Horn, and the inequality of the means). As ||W||_F^2 is (1/n) times the
    sum of ||W(w)||_F^2, this is `lower_bound`; its two leading orders in 1/L are `r0` and `r1`. There a singular value
    of J below the gap of all of them counts as zero: a trained network only comes near to a function of low rank.

    As (s - 1)^2 <= s^2 - 1 - 2 log s, and the k leading values of the factors multiply to at least those of J (Horn),
    the layers' squared distances from isometries of rank k_w = Rank J(w) add up to at most ||W||^2 - L r0 - r1:
    a network whose norm is near the bound has nearly isometric layers of low rank.

    Args:
        net: without strides: on one grid.
        result: of `bottleneck(net)`, for the kept channels.
        constant: (c,) value of the constant input; zeros if None. It should belong to what the network was
            trained for.

    Raises:
        ValueError: a network with strides, a classifier's head, or a constant of another size.

    Source: Wen and Jacot 2024, Theorems 3.1, 3.2 and 4.1; the last with constants worked out as said above.
    """
    jacobian = jacobian_symbols(net, constant)
    frequencies = np.argwhere(np.ones(net.size, dtype=bool))
    pooling = pooling_eigenvalues(frequencies, net.size, net.beta)
    values = np.linalg.svd(jacobian, compute_uv=False).astype(np.float64)
    depth, n = len(net.layers), math.prod(net.size)
    seen = np.abs(pooling) > 1e-9  # a frequency that the pooling removes has J = 0: nothing is represented there
    weights, values = 1 / np.square(pooling[seen])[:, None], values[seen]
    counts = kept_values(values).counts
    nonzero = np.arange(values.shape[1]) < counts[:, None]
    logs = np.log(np.where(nonzero, values, 1.0))
    norms = [result.norms[name] for name in result.layers]
    weight_norm = math.fsum(weight for weight, _ in norms)
    upper_rate = result.rank_cbn / n
    r0, r1 = float((weights * nonzero).sum()) / n, float((weights * logs).sum()) * 2 / n
    return RepresentationCost(
        depth=depth,
        squared_parameter_norm=result.squared_parameter_norm,
        weight_norm=weight_norm,
        lower_bound=float((weights * values ** (2 / depth)).sum()) * depth / n,
        r0=r0,
        r1=r1,
        rank_cbn=result.rank_cbn,
        upper_rate=upper_rate,
        constant=result.squared_parameter_norm - depth * upper_rate,
        distances=tuple(
            _distance(layer, seen, counts, weights) / n for layer in map(result.spectrum.__getitem__, result.layers)
        ),
        distance_bound=weight_norm - depth * r0 - r1,
    )


def _distance(
    layer: LayerSingularValues, seen: NDArray[np.bool_], counts: NDArray[np.int64], weights: NDArray[np.float64]
) -> float:
    """sum_w m_w^-2 (sum_{i <= k_w} (s_i - 1)^2 + sum_{i > k_w} s_i^2) over frequencies that the pooling passes."""
    values = layer.values.reshape(-1, layer.distinct.shape[1])[seen]
    isometry = np.arange(values.shape[1]) < counts[:, None]
    return float((weights * np.square(values - isometry)).sum())


def jacobian_symbols(net: CyclicNet, constant: Tensor | None = None) -> NDArray[np.complex128]:
    """(n, c_out, c_in) Jacobian of the network at each frequency, at an input that is the same at every pixel.

    One output pixel's gradient is enough, since f commutes with translations: df[0] / dx[p] = sum_w J(w)
    e^(-2 pi i <w, p> / n) / n.

    Raises:
        ValueError: a network with strides or a head, or a constant of another size.
    """
    if any(layer.stride != 1 for layer in net.convolutions) or net.head is not None:
        raise ValueError("expected a network on one grid, got one with strides or a head: it does not commute")
    channels = net.convolutions[0].weight.shape[1]
    value = torch.zeros(channels) if constant is None else constant
    if value.shape != (channels,):
        raise ValueError(f"expected `constant` of shape ({channels},), one value per channel, got {tuple(value.shape)}")
    precise = copy.deepcopy(net).double()  # the rank of J is read off its small singular values
    x = value.to(precise.convolutions[0].weight).reshape(1, channels, *[1] * len(net.size))
    x = x.expand(1, channels, *net.size).clone().requires_grad_()
    pixel = precise(x)[(0, slice(None), *[0] * len(net.size))]
    rows = torch.stack([torch.autograd.grad(out, x, retain_graph=True)[0][0] for out in pixel])
    spectrum = torch.fft.ifftn(rows, dim=tuple(range(2, rows.ndim)), norm="forward")
    return spectrum.flatten(2).permute(2, 0, 1).cpu().numpy()
