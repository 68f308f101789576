"""The error of a network under a Gaussian window, and what of it lies at which frequencies."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from fastfreq.vocabulary import numbers

from ._products import pulled, pushed

FloatArray = NDArray[np.float64]
Seen = tuple[float, FloatArray, FloatArray, float]  # L, and by cutoff L+, |dL+/dt| / |dL/dt|; |grad L|
HALF_WIDTH = 14.0  # of the interval, in standard deviations: the window's edge, e^-49, is below what float64 resolves


class WindowedError:
    """v = (h - f) sqrt(rho) on a grid without edges, its loss and the losses above cutoffs."""

    def __init__(
        self, net: nn.Module, target: Callable[[FloatArray], ArrayLike], deviation: float, size: int, dimension: int
    ) -> None:
        axis = (np.arange(size) - size // 2) * (2 * HALF_WIDTH * deviation / size)
        mesh = np.meshgrid(*[axis] * dimension, indexing="ij")
        points = np.stack(mesh, axis=-1).reshape(-1, dimension).astype(np.float64)
        peak = (2 * np.pi * deviation**2) ** (-dimension / 2)
        density = peak * np.exp(-np.square(points).sum(axis=1) / (2 * deviation**2))
        wanted = numbers.as_array("target", target(points.copy()))  # which may be written over
        if wanted.shape[:1] != points.shape[:1] or wanted.ndim > 2 or not np.isfinite(wanted).all():
            raise ValueError(f"expected finite targets for {len(points)} points, got shape {wanted.shape}")
        self.net, self.points, self.grid = net, torch.from_numpy(points), (size,) * dimension
        self.target = torch.from_numpy(wanted.reshape(len(points), -1))
        cell = (axis[1] - axis[0]) ** dimension
        self.window = torch.from_numpy(np.sqrt(density * cell))[:, None]  # the sum of v^2 is the integral
        frequency = np.fft.fftfreq(size, axis[1] - axis[0])
        mesh = np.meshgrid(*[frequency] * dimension, indexing="ij")
        self.radius = torch.from_numpy(np.sqrt(np.square(np.stack(mesh)).sum(axis=0)))
        self.parameters = {k: p for k, p in net.named_parameters() if p.requires_grad}
        self.trained = [p for p in net.parameters() if p.requires_grad]
        if not self.trained:
            raise ValueError("expected a model with parameters that require gradients, it has none")
        with torch.no_grad():
            try:
                shape = self._raw(dict(self.parameters)).shape
            except RuntimeError as error:
                raise ValueError(
                    f"expected a model of inputs (n, {dimension}), {type(net).__name__} does not take them: {error}; "
                    f"give another `dimension`"
                ) from error
        if shape != self.target.shape:
            raise ValueError(f"expected outputs of the targets' shape {tuple(self.target.shape)}, got {tuple(shape)}")

    def _raw(self, parameters: dict[str, Any]) -> Tensor:
        return torch.func.functional_call(self.net, parameters, (self.points.clone(),)).reshape(len(self.points), -1)

    def __call__(self, parameters: dict[str, Any]) -> Tensor:
        """(n, outputs) v."""
        return (self._raw(parameters) - self.target) * self.window

    def transform(self, v: Tensor) -> Tensor:
        """Its transform, whose squares add up to the loss."""
        grid = v.reshape(*self.grid, -1)
        return torch.fft.fftn(grid, dim=tuple(range(len(self.grid))), norm="ortho")

    def descent(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        """Gradient descent by 1 / (2 lambda), lambda the largest eigenvalue of J J^T after ten power steps."""
        here = {k: p.detach() for k, p in self.parameters.items()}
        v, size = self(here).detach(), 1.0
        for _ in range(10):
            v = pushed(self, here, pulled(self, here, v / v.norm()))
            size = float(v.norm())
        return torch.optim.SGD(parameters, lr=0.5 / size if size > 0 and math.isfinite(size) else 1.0)

    def look(self, etas: FloatArray) -> Seen:
        """(L, L+, |dL+/dt| / |dL/dt|, |grad L|): dL+/dt = 2 Re <v^, d v^/dt> above eta, along -grad L."""
        here = {k: p.detach() for k, p in self.parameters.items()}
        v = self(here).detach()
        direction = {k: -2 * g for k, g in pulled(self, here, v).items()}
        at, change = self.transform(v), self.transform(pushed(self, here, direction))
        energy, rate = at.abs().square().sum(dim=-1), 2 * (at.conj() * change).real.sum(dim=-1)
        above = [self.radius > eta for eta in etas]
        total = float(rate.sum())
        high = np.array([float(energy[part].sum()) for part in above])
        share = np.array([abs(float(rate[part].sum())) for part in above])
        length = math.sqrt(sum(float(g.square().sum()) for g in direction.values()))
        return float(energy.sum()), high, share / abs(total) if total else np.full(len(etas), np.nan), length
