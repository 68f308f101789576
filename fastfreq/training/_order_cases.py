"""The ten cases of `frequency_order`: networks and exact flows on the circle, all in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fastfreq.engine.contexts import undisturbed
from fastfreq.vocabulary import streams

from .tangent_kernel import tangent_kernel_decay

FloatArray = NDArray[np.float64]
Descent = Callable[[Iterator[nn.Parameter]], torch.optim.Optimizer]
_POINTS = 128
_ANGLES = np.arange(_POINTS) * (2 * np.pi / _POINTS)
_CIRCLE = torch.from_numpy(np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1))


class Case(NamedTuple):
    """What `frequency_order` makes a result of."""

    setting: str
    model: str
    frequencies: tuple[int, ...]
    amplitudes: FloatArray
    times: FloatArray
    errors: FloatArray
    predicted: FloatArray
    criterion: str = "relative"
    threshold: float = 0.3


def derivative_loss(fails: bool, seed: int, steps: int | None) -> Case:
    """(i): rates |k|^(2 s) |sigma^(k)|^2 for s = 0 and 2."""
    order = 2 if fails else 0
    target = np.sin(np.outer((1, 3, 5), _ANGLES)).sum(axis=0)
    return _trained(_tanh_network(seed), target, (1, 3, 5), steps or 600, order=order)._replace(
        setting=f"tanh network, loss on derivatives of order {order}", model="2-100-100-1 tanh"
    )


def activation(fails: bool, seed: int, steps: int | None) -> Case:
    """(ii): sin(omega w.x + b) holds J_k(omega) of the k-th wave, which peaks near k = omega."""
    omega = 7.0 if fails else 2.5
    target = np.sin(np.outer((1, 3, 5), _ANGLES)).sum(axis=0)
    # plain gradient descent: Adam would even out rates that are near each other
    trained = _trained(
        _SineNetwork(omega, seed), target, (1, 3, 5), steps or 900, descent=lambda p: torch.optim.SGD(p, lr=0.01)
    )
    return trained._replace(setting=f"sine network, inputs times {omega:g}", model="2-200-1 sine")


def amplitude(fails: bool, seed: int, steps: int | None) -> Case:
    """(v): absolute errors of a target whose high frequency is small."""
    small = 0.05 if fails else 1.0
    target = np.sin(_ANGLES) + small * np.sin(5 * _ANGLES)
    return _trained(_tanh_network(seed), target, (1, 5), steps or 600)._replace(
        setting=f"tanh network, sin x + {small:g} sin 5x", model="2-100-100-1 tanh", criterion="absolute"
    )


def density(fails: bool, seed: int, steps: int | None) -> Case:
    """(iii): features on the circle whose kernel has 1 / (1 + k^2), the flow exact; seed and steps have no part."""
    bump = np.exp(8 * (np.cos(_ANGLES - np.pi / 2) - 1))
    target = ((1 - np.sin(_ANGLES)) / 2) ** 3 + bump * np.cos(8 * _ANGLES)
    weights = np.full(_POINTS, 1 / _POINTS)
    if fails:
        weights = np.exp(4 * (np.cos(_ANGLES - np.pi / 2) - 1))
        weights = (weights / weights.mean() * (1 - 1e-3) + 1e-3) / _POINTS
    values, waves = weighted_modes(weights)
    times = np.append(0.0, np.geomspace(1e-1, 1e5, steps or 400))
    root = np.sqrt(weights)
    decay = np.exp(-np.outer(times, values)) * (waves.T @ (root * -target))
    errors = decay @ waves.T / root
    held = tuple(_relative(errors + target, target, (1, 8)))
    where = "nearly all where the target is fine" if fails else "spread evenly"
    rates = np.full(2, np.nan) if fails else 1 / (1 + np.array([1.0, 8.0]) ** 2)
    return Case(f"random features, data {where}", "random features", (1, 8), held[1], times, held[0], rates)


def weighted_modes(weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(eigenvalues ascending, eigenvectors) of sqrt(mu) K sqrt(mu) with K^(k) = 1 / (1 + k^2) on the grid."""
    k = np.fft.fftfreq(_POINTS, 1 / _POINTS)
    row = np.fft.ifft(1 / (1 + k**2), norm="forward").real
    kernel = row[(np.arange(_POINTS)[:, None] - np.arange(_POINTS)[None]) % _POINTS]
    root = np.sqrt(weights)
    values, vectors = np.linalg.eigh(root[:, None] * kernel * root[None])
    return np.maximum(values, 0.0), vectors


def feature_learning(fails: bool, seed: int, steps: int | None) -> Case:
    """(iv): f = sum_k u_k v_k k^-1 sqrt(2) sin(k x), by gradient descent, from weights that are large or small."""
    frequencies, wanted = np.array([1, 3, 5]), np.array([0.1, 1.0, 5.0])
    size = 1e-3 if fails else 30.0
    rng = streams.generator("frequency_order", seed)
    u, v = (size * (1 + 0.1 * rng.standard_normal(3)) for _ in range(2))
    v = u.copy() if fails else v
    shape, goal = 1 / frequencies, wanted
    offset = u * v * shape if not fails else np.zeros(3)  # large weights start at the function zero, as centred
    rates = (u**2 + v**2) * shape**2
    rate = 0.2 / float(rates.max()) if not fails else 0.02
    count = steps or (2000 if not fails else 6000)
    errors = np.empty((count + 1, 3))
    for step in range(count + 1):
        residual = u * v * shape - offset - goal
        errors[step] = np.abs(residual) / goal
        u, v = u - rate * residual * shape * v, v - rate * residual * shape * u
    how = "small, on a plateau" if fails else "large, hardly moving"
    times = np.arange(count + 1.0)
    return Case(f"two layers of weights u v, {how}", "diagonal", (1, 3, 5), goal, times, errors, rates)


# ---------------------------------------------------------------- networks
def _tanh_network(seed: int, width: int = 100) -> nn.Module:
    layers: list[nn.Module] = []
    for inputs, outputs in ((2, width), (width, width), (width, 1)):
        layers += [nn.Linear(inputs, outputs, dtype=torch.float64), nn.Tanh()]
    network = nn.Sequential(*layers[:-1])
    rng = streams.generator("frequency_order", seed)
    with torch.no_grad():
        for layer in network:
            if isinstance(layer, nn.Linear):
                bound = layer.in_features**-0.5
                for parameter in (layer.weight, layer.bias):
                    parameter.copy_(torch.from_numpy(rng.uniform(-bound, bound, tuple(parameter.shape))))
    return network


class _SineNetwork(nn.Module):
    """sum_j a_j sin(omega w_j.x + b_j) with unit w_j, in pairs of a and -a: zero at the start."""

    def __init__(self, omega: float, seed: int, width: int = 200) -> None:
        super().__init__()
        rng, half = streams.generator("frequency_order", seed), width // 2
        angle, phase, outer = (
            rng.uniform(0, 2 * np.pi, (2, half)),
            rng.uniform(0, 2 * np.pi, half),
            rng.choice([-1.0, 1.0], half),
        )
        weight = np.stack([np.cos(angle[0]), np.sin(angle[0])], axis=1)
        self.omega = omega
        self.weight = nn.Parameter(torch.from_numpy(np.concatenate([weight, weight])))
        self.bias = nn.Parameter(torch.from_numpy(np.concatenate([phase, phase])))
        self.outer = nn.Parameter(torch.from_numpy(np.concatenate([outer, -outer]) * width**-0.5))

    def forward(self, x: Tensor) -> Tensor:
        """(n, 1) of points (n, 2) on the circle."""
        return (torch.sin(self.omega * x @ self.weight.T + self.bias) @ self.outer)[:, None]


def _trained(
    network: nn.Module,
    target: FloatArray,
    frequencies: tuple[int, ...],
    steps: int,
    *,
    order: int = 0,
    descent: Descent = lambda parameters: torch.optim.Adam(parameters, lr=1e-3),
) -> Case:
    """Training on the mean square of the error's derivatives of an order; its mean counts as of order 0."""
    k = torch.fft.fftfreq(_POINTS, 1 / _POINTS, dtype=torch.float64).abs()
    weight = torch.where(k == 0, 1.0, k ** (2 * order))
    places = np.array(frequencies)
    angles = _ANGLES / (2 * np.pi)
    decay = tangent_kernel_decay(network.eval(), _CIRCLE, frequencies=places, coordinates=angles)
    rates = decay.rates * places.astype(np.float64) ** (2 * order)
    wanted = torch.from_numpy(target)
    optimizer = descent(network.parameters())
    seen = []
    with undisturbed(gradients=True), torch.enable_grad():
        for step in range(steps + 1):
            output = network(_CIRCLE)[:, 0]
            seen.append(output.detach().numpy().copy())
            if step < steps:
                optimizer.zero_grad()
                (weight * torch.fft.fft(output - wanted, norm="forward").abs().square()).sum().backward()
                optimizer.step()
    errors, amplitudes = _relative(np.stack(seen), target, frequencies)
    times = np.arange(steps + 1.0)
    return Case("", "", frequencies, amplitudes, times, errors, rates)


def _relative(outputs: FloatArray, target: FloatArray, frequencies: tuple[int, ...]) -> tuple[FloatArray, FloatArray]:
    """(|h^(k) - f^(k)| / |f^(k)|, |f^(k)|) of outputs (r, n)."""
    size, distance = (np.abs(np.fft.fft(v, norm="forward")[..., list(frequencies)]) for v in (target, outputs - target))
    return distance / size, size
