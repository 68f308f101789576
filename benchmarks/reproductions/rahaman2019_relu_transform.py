"""Rahaman et al. 2019, Theorem 1: the Fourier transform of ReLU networks, exactly, along facet normals and elsewhere.

    python benchmarks/reproductions/rahaman2019_relu_transform.py

The paper proves O(k^-2) along normals of facets and O(k^-(d+1)) in general, with constants bounded by the network's
Lipschitz constant, and shows no transform. Here: the square pyramid, whose slopes are known, and networks of two and
of sixteen inputs (on a plane) before and after training, in closed form by polygons; slopes beside the theorem's, the
largest part of the Lipschitz bound that is reached, and the transform against the midpoint rule.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

import fastfreq as ff
from fastfreq import plots
from fastfreq.results import store
from fastfreq.training.relu_transform import ReLUTransform

SQUARE = np.array([[-1.5, -1.5], [1.5, -1.5], [1.5, 1.5], [-1.5, 1.5]])
ANGLES = {0: -2, 45: -2, 90: -2, 17: -3, 31: -3, 62: -3}  # the pyramid's, with the order that the theorem has
RADII = np.geomspace(20, 160, 2000)


def pyramid() -> nn.Sequential:
    """max(0, 1 - max(|x|, |y|))."""
    sides, larger, top = nn.Linear(2, 4, bias=False), nn.Linear(4, 2, bias=False), nn.Linear(2, 1)
    with torch.no_grad():
        sides.weight[:] = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
        larger.weight[:] = torch.tensor([[1.0, 1, -1, -1], [0, 0, 1, 1]])
        top.weight[:], top.bias[:] = -1.0, 1.0
    return nn.Sequential(sides, nn.ReLU(), larger, nn.ReLU(), top, nn.ReLU())


def unit(degrees: float) -> np.ndarray:
    return np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])


def network(inputs: int) -> nn.Sequential:
    torch.manual_seed(inputs)
    return nn.Sequential(
        nn.Linear(inputs, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1)
    )


def fitted(net: nn.Sequential, inputs: int, steps: int) -> float:
    """Train on sin(4 pi x_1) cos(2 pi x_2) over the cube; the last loss."""
    random = torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(net.parameters(), lr=2e-3)
    loss = torch.zeros(())
    for _ in range(steps):
        x = torch.rand(1024, inputs, generator=random) * 3 - 1.5
        target = torch.sin(2 * torch.pi * x[:, :1]) * torch.cos(torch.pi * x[:, 1:2])
        loss = (net(x) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return float(loss.detach())


def by_midpoints(net: nn.Sequential, k: np.ndarray, axes: np.ndarray, n: int) -> np.ndarray:
    """(K, 1) the transform over the square by the midpoint rule on n x n points."""
    side = -1.5 + 3 * (np.arange(n) + 0.5) / n
    points = np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)
    wide = nn.Sequential(*net).double()
    with torch.no_grad():
        values = torch.cat([wide(part) for part in torch.from_numpy(points @ axes).split(1 << 18)])
    net.float()
    total = ff.kernels.frequency_response(
        torch.from_numpy(points), values, torch.from_numpy(k).contiguous(), reduction="sum"
    )
    return total.numpy() * (3 / n) ** 2


def figures(net: nn.Sequential, axes: np.ndarray) -> dict[str, object]:
    """Pieces, error, slopes along the twelve directions, share of the bound."""
    start = time.perf_counter()
    k = np.concatenate([np.geomspace(20, 5000, 400)[:, None] * unit(a) for a in range(7, 180, 15)])
    result = ff.training.relu_transform(net, k, window=SQUARE, directions=axes)
    seconds = time.perf_counter() - start
    some = np.random.default_rng(0).uniform(-3, 3, (8, 2))
    exact = ff.training.relu_transform(net, some, window=SQUARE, directions=axes).transform
    errors = {n: float(np.abs(by_midpoints(net, some, axes, n) - exact).max()) for n in (500, 1000, 2000)}
    spans = {"20 to 160": (20, 160), "600 to 5000": (600, 5000)}
    slopes = {
        name: [round(result.decay(along=unit(a), from_=low, to=high), 2) for a in range(7, 180, 15)]
        for name, (low, high) in spans.items()
    }
    return {
        "pieces": result.pieces, "seconds": round(seconds, 2), "facet length": round(result.facet_length, 1),
        "Lipschitz bound": round(result.lipschitz, 2), "distance to the midpoint rule by n": errors,
        "slopes of bends' part": slopes,
        "largest share of the bound": float(f"{(np.abs(result.facets[:, 0]) / result.bounds).max():.2g}"),
        "mean |bends' part| below |k| = 40": float(f"{np.abs(result.facets[result.radius < 40]).mean():.3g}"),
    }  # fmt: skip


def of_pyramid() -> tuple[ReLUTransform, dict[str, object]]:
    k = np.concatenate([RADII[:, None] * unit(a) for a in ANGLES])
    result = ff.training.relu_transform(pyramid(), k, window=SQUARE)
    slopes = {str(a): round(result.decay(along=unit(a)), 3) for a in ANGLES}
    held = all(abs(slopes[str(a)] - order) <= (0.15 if order == -2 else 0.25) for a, order in ANGLES.items())
    return result, {"slopes by angle": slopes, "within .15 of -2 and .25 of -3": held}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path("relu_transform"))
    options = parser.parse_args()
    drawn, text = of_pyramid()
    found: dict[str, object] = {"pyramid": text}
    for inputs in (2, 16):
        net = network(inputs)
        axes = np.eye(2, inputs)
        before = figures(net, axes)
        loss = fitted(net, inputs, options.steps)
        found[f"{inputs} inputs, before training"] = before
        found[f"{inputs} inputs, after {options.steps} steps"] = {"loss": round(loss, 4), **figures(net, axes)}
        print(json.dumps(found, indent=1), flush=True)
    store.write_text(options.out / "rahaman2019_relu_transform.json", json.dumps(found, indent=2) + "\n")
    plots.save_png(drawn.plot(), options.out / "rahaman2019_relu_transform.png")


if __name__ == "__main__":
    main()
