"""A two-layer ReLU network whose parameters are drawn as the linear frequency principle assumes."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from fastfreq.engine.contexts import undisturbed
from fastfreq.vocabulary import numbers, streams
from fastfreq.vocabulary.checks import check_seed

from .lfp_kernel import LFPKernel, check_inputs

FloatArray = NDArray[np.float64]
Form = Literal["offset", "bias"]


@dataclasses.dataclass(frozen=True)
class Fit:
    """How gradient descent ended.

    Attributes:
        steps: taken.
        loss: mean of the squared errors at the end.
        rate: step size.
        converged: whether the loss fell below the tolerance.
    """

    steps: int
    loss: float
    rate: float
    converged: bool


class TwoLayerReLU(nn.Module):
    """h(x) = sum_j a_j relu(w_j.x + |w_j| l_j), or relu(w_j.x + b_j) for form "bias"; float64, (n, d) -> (n, 1).

    Neurons come in pairs with a and -a, so that the network is zero before training. There is no factor 1 / sqrt(m):
    wide networks move little, and their tangent kernel is that of the drawn parameters.

    Args:
        width: m, even.
        dimension: d.
        inner_scale: |w_j|; for distribution "normal" the standard deviation of its entries.
        outer_scale: |a_j|, or its standard deviation.
        reach: l (or b) is uniform over -reach .. reach; more than the largest |x| (or |w.x|).
        form: what is trained beside a and w: offsets l as in 1905.10264, or biases b as in 2010.08153 and `nn.Linear`.
        distribution: "fixed" for |w| and |a| of one size with random direction and sign, or "normal".
        seed: of the parameters.

    Raises:
        ValueError: arguments outside these ranges.
    """

    def __init__(
        self,
        width: int,
        *,
        dimension: int = 1,
        inner_scale: float = 3.0,
        outer_scale: float = 3.0,
        reach: float = 3.0,
        form: Form = "offset",
        distribution: Literal["fixed", "normal"] = "fixed",
        seed: int = 0,
    ) -> None:
        super().__init__()
        m, d = numbers.as_int("width", width), numbers.as_int("dimension", dimension)
        if m < 2 or m % 2 or d < 1:
            raise ValueError(f"expected an even `width` of at least 2 and a `dimension` of at least 1, got {m} and {d}")
        if form not in ("offset", "bias") or distribution not in ("fixed", "normal"):
            raise ValueError(
                f"expected `form` offset or bias, `distribution` fixed or normal, got {form, distribution}"
            )
        for name, value in (("inner_scale", inner_scale), ("outer_scale", outer_scale), ("reach", reach)):
            if not numbers.as_float(name, value) > 0:
                raise ValueError(f"expected `{name}` above 0, got {value}")
        rng, half = streams.generator("two_layer", check_seed(seed)), m // 2
        weights, outer = rng.standard_normal((half, d)), rng.standard_normal(half)
        if distribution == "fixed":
            weights, outer = weights / np.linalg.norm(weights, axis=1, keepdims=True), np.sign(outer)
        shift = rng.uniform(-reach, reach, half)
        self.form, self.reach = form, float(reach)
        self.weight = nn.Parameter(torch.from_numpy(np.concatenate([weights, weights]) * inner_scale))
        self.shift = nn.Parameter(torch.from_numpy(np.concatenate([shift, shift])))
        self.outer = nn.Parameter(torch.from_numpy(np.concatenate([outer, -outer]) * outer_scale))
        self._start = self._now()[:2]  # kernels are of what was drawn, whatever training makes of it

    def forward(self, x: Tensor) -> Tensor:
        """(n, 1) of inputs (n, d)."""
        bias = self.shift * self.weight.norm(dim=1) if self.form == "offset" else self.shift
        return (torch.relu(x.to(self.weight) @ self.weight.T + bias) @ self.outer)[:, None]

    def values(self, points: ArrayLike) -> FloatArray:
        """(n,) outputs at points (n, d)."""
        with torch.no_grad():
            return (
                self(torch.from_numpy(check_inputs("points", points, self.weight.shape[1])))[:, 0]
                .double()
                .cpu()
                .numpy()
            )

    def kernel(self) -> LFPKernel:
        """The kernel of infinitely many such neurons, in the time of gradient descent on half the squared errors."""
        make = LFPKernel.of_offsets if self.form == "offset" else LFPKernel.of_biases
        return make(*self._start, reach=self.reach)

    def limit_kernel(self, *, published: bool = False) -> LFPKernel:
        """The same for biases of infinite range: what the linear frequency principle is about.

        Args:
            published: gamma^2 of 1905.10264, which drops a term in two dimensions and more, in place of the exact one.
        """
        if published:
            return LFPKernel.published(*self._start)
        return (LFPKernel.of_offsets if self.form == "offset" else LFPKernel.of_biases)(*self._start)

    def _now(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        weight, outer, shift = (v.detach().cpu().numpy().copy() for v in (self.weight, self.outer, self.shift))
        return weight, outer, shift

    def tangent_kernel(self, x: ArrayLike, z: ArrayLike) -> FloatArray:
        """(n, m) inner products of the gradients of the output at inputs (n, d) and (m, d), at this width."""
        a, b = (check_inputs(name, v, self.weight.shape[1]) for name, v in (("x", x), ("z", z)))
        w, outer, shift = self._now()
        r = np.linalg.norm(w, axis=1)
        bias, step = (shift * r, r) if self.form == "offset" else (shift, np.ones_like(r))
        before = [v @ w.T + bias for v in (a, b)]
        active = [(p > 0) * outer for p in before]
        kernel = np.maximum(before[0], 0) @ np.maximum(before[1], 0).T + (active[0] * step**2) @ active[1].T
        kernel += (a @ b.T) * (active[0] @ active[1].T)
        if self.form == "offset":  # d/dw of |w| l is l w / |w|
            unit = w / r[:, None]
            first, second = a @ unit.T, b @ unit.T
            kernel += (active[0] * first * shift) @ active[1].T + (active[0] * shift) @ (active[1] * second).T
            kernel += (active[0] * shift**2) @ active[1].T
        return kernel

    def fit(self, inputs: ArrayLike, targets: ArrayLike, *, tolerance: float = 1e-8, steps: int = 20_000) -> Fit:
        """Gradient descent on half the sum of the squared errors, with the step 1 / (largest tangent eigenvalue).

        Args:
            inputs: (n, d).
            targets: (n,).
            tolerance: mean squared error at which it stops.
            steps: at most.

        Raises:
            ValueError: targets that do not fit, or that are not finite.
        """
        x = check_inputs("inputs", inputs, self.weight.shape[1])
        given_targets, most = numbers.as_array("targets", targets), numbers.as_int("steps", steps)
        if given_targets.shape not in ((len(x),), (len(x), 1)) or not np.isfinite(given_targets).all() or most < 0:
            raise ValueError(
                f"expected finite `targets` of shape ({len(x)},) and `steps` from 0, got {given_targets.shape}, {most}"
            )
        y = torch.from_numpy(given_targets.reshape(len(x))).to(self.weight)
        rate = 1 / float(np.linalg.eigvalsh(self.tangent_kernel(x, x))[-1])
        given, parameters = torch.from_numpy(x), list(self.parameters())
        loss, step = math.inf, 0
        with undisturbed(gradients=True), torch.enable_grad():
            for step in range(most + 1):
                error = self(given)[:, 0] - y
                loss = float(error.detach().square().mean())
                if loss <= tolerance or step == most or not math.isfinite(loss):
                    break
                gradients = torch.autograd.grad(0.5 * error.square().sum(), parameters)
                with torch.no_grad():
                    for parameter, gradient in zip(parameters, gradients, strict=True):
                        parameter -= rate * gradient
        return Fit(step, loss, rate, loss <= tolerance)
