"""Networks that are affine in pieces: their layers as arrays, their values and gradients, their break points on a line.

Everything is float64, whatever the network's type. The network's own modules are never run, and never changed.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils import parametrize

FloatArray = NDArray[np.float64]

SUPPORTED = "Linear, ReLU, ReLU6, LeakyReLU, Hardtanh, Identity and Sequential"


@dataclasses.dataclass(frozen=True)
class Affine:
    """z -> W z + b."""

    weight: FloatArray  # (out, in)
    bias: FloatArray  # (out,)


@dataclasses.dataclass(frozen=True)
class Bend:
    """An activation in p + 1 pieces: slopes[j] z + offsets[j] between knots[j - 1] and knots[j]."""

    knots: FloatArray  # (p,) ascending
    slopes: FloatArray  # (p + 1,)
    offsets: FloatArray  # (p + 1,)

    def pieces(self, z: FloatArray) -> NDArray[np.int64]:
        """Which piece each value is in."""
        return np.searchsorted(self.knots, z)


Step = Affine | Bend


def steps_of(model: nn.Module) -> list[Step]:
    """The layers of a network in order.

    Raises:
        ValueError: a module that is no affine map and no activation in affine pieces, that has hooks, or whose weights
            are not finite; the message names it.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected `model` to be a torch.nn.Module, got {type(model).__name__}")
    steps: list[Step] = []
    for name, module in _leaves("", model):
        _check_own(name, module)
        steps += _step_of(name, module)
    if not any(isinstance(step, Affine) for step in steps):
        raise ValueError(f"expected a network with at least one Linear, got {type(model).__name__} without")
    return steps


def _check_own(name: str, module: nn.Module) -> None:
    """Refuse what makes a module compute something else than its class and its weights say."""
    if module._forward_hooks or module._forward_pre_hooks:
        raise ValueError(f"expected modules without hooks, {name!r} has some: what it computes is not its weights'")
    if "forward" in vars(module):
        raise ValueError(f"expected modules with the forward of their class, {name!r} has one of its own")


def _leaves(name: str, module: nn.Module) -> list[tuple[str, nn.Module]]:
    if type(module) is not nn.Sequential:
        return [(name or type(module).__name__, module)]
    _check_own(name or "the network", module)
    # not `named_children`, which leaves out a module that stands there a second time
    return [
        leaf
        for key, child in module._modules.items()
        if child is not None
        for leaf in _leaves(f"{name}.{key}".strip("."), child)
    ]


def _step_of(name: str, module: Any) -> list[Step]:
    kind = type(module)
    if kind is nn.Identity:
        return []
    if kind is nn.Linear or (parametrize.is_parametrized(module) and kind.__mro__[1] is nn.Linear):
        if kind is not nn.Linear:
            module = copy.deepcopy(module).eval()  # what computes a weight may write down how
        if module.weight.is_complex():
            raise ValueError(f"expected real weights, those of {name!r} are {module.weight.dtype}")
        weight = module.weight.detach().cpu().double().numpy().copy()
        bias = np.zeros(len(weight)) if module.bias is None else module.bias.detach().cpu().double().numpy().copy()
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            raise ValueError(f"expected finite weights, those of {name!r} are not")
        return [Affine(weight, bias)]
    if kind is nn.ReLU:
        return [Bend(np.zeros(1), np.array([0.0, 1.0]), np.zeros(2))]
    if kind is nn.LeakyReLU:
        return [Bend(np.zeros(1), np.array([float(module.negative_slope), 1.0]), np.zeros(2))]
    if kind in (nn.Hardtanh, nn.ReLU6):
        ends = np.array([float(module.min_val), float(module.max_val)])
        return [Bend(ends, np.array([0.0, 1.0, 0.0]), np.array([ends[0], 0.0, ends[1]]))]
    raise ValueError(
        f"expected a network of {SUPPORTED}, which is affine in pieces, got {kind.__name__} ({name}); "
        "its Fourier transform has no such closed form: sample it, and use kernels.frequency_response"
    )


def inputs_of(steps: list[Step]) -> int:
    """Number of inputs of the network."""
    return next(step.weight.shape[1] for step in steps if isinstance(step, Affine))


def values_and_slopes(steps: list[Step], points: FloatArray, along: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Values f (n, m) and their derivatives (n, r, m) along (r, d) directions, of the pieces of (n, d) points."""
    z = points
    tangents = np.broadcast_to(along, (len(points), *along.shape))
    for step in steps:
        if isinstance(step, Affine):
            z, tangents = z @ step.weight.T + step.bias, tangents @ step.weight.T
        else:
            piece = step.pieces(z)
            slope = step.slopes[piece]
            z, tangents = slope * z + step.offsets[piece], tangents * slope[:, None]
    return z, tangents


def breaks_on_line(
    steps: list[Step], origin: FloatArray, direction: FloatArray, ends: tuple[float, float]
) -> FloatArray:
    """Ascending t, the ends included, between which the network is affine along origin + t direction.

    Layer by layer: between two breaks every unit is affine, so the places where it meets a knot of its activation
    follow from its values at the breaks.
    """
    t = np.array(ends, dtype=np.float64)
    z = origin + t[:, None] * direction
    for step in steps:
        if isinstance(step, Affine):
            z = z @ step.weight.T + step.bias
            continue
        found = [t]
        for knot in step.knots:
            before, after = z[:-1] - knot, z[1:] - knot
            segment, unit = np.nonzero(np.sign(before) * np.sign(after) < 0)  # products of small ones are 0
            share = before[segment, unit] / (before[segment, unit] - after[segment, unit])
            found.append(t[segment] + share * (t[segment + 1] - t[segment]))
        more = np.unique(np.concatenate(found))
        # every unit at every break: affine between the old ones
        at = np.clip(np.searchsorted(t, more, side="right") - 1, 0, len(t) - 2)
        share = ((more - t[at]) / (t[at + 1] - t[at]))[:, None]
        z = (1 - share) * z[at] + share * z[at + 1]
        piece = step.pieces(z)
        z, t = step.slopes[piece] * z + step.offsets[piece], more
    return t
