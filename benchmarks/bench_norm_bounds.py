"""Upper bounds of a convolution's norm that do not grow with the image: how far above it, and in what CPU time.

pytest benchmarks/bench_norm_bounds.py --results benchmarks/results/NAME.json

"tensor" is sqrt(h w) times the norm of the kernel as a tensor (Grishina, Gorbunov, Rakhuba 2024), found by 100 steps of
the alternating maximisation of their section 4: from below, so no bound; "unfolded" is the least of the norms of the
kernel as four matrices times sqrt(h w) (Singla, Feizi 2021), which is one.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
import trained
from torch import Tensor, nn

import fastfreq as ff
from fastfreq.layers.discovery import find_convolutions


def by_stride(weight: Tensor, stride: int) -> Tensor:
    """(o, i s^2, h / s, w / s): a strided convolution is one of the phases of its input."""
    o, i, h, w = weight.shape
    rows, columns = -(-h // stride), -(-w // stride)
    padded = F.pad(weight, (0, columns * stride - w, 0, rows * stride - h))
    phases = padded.reshape(o, i, rows, stride, columns, stride).permute(0, 1, 3, 5, 2, 4)
    return phases.reshape(o, i * stride**2, rows, columns)


def unfolded(kernel: Tensor) -> float:
    """The least norm of four unfoldings, in float64, times sqrt(h w)."""
    o, i, h, w = kernel.shape
    matrices = [
        kernel.reshape(o, -1), kernel.permute(1, 0, 2, 3).reshape(i, -1),
        kernel.permute(0, 2, 1, 3).reshape(o * h, -1), kernel.permute(0, 3, 1, 2).reshape(o * w, -1),
    ]  # fmt: skip
    squares = []
    for matrix in (m.double() for m in matrices):
        gram = matrix @ matrix.T if len(matrix) <= matrix.shape[1] else matrix.T @ matrix
        squares.append(float(torch.linalg.eigvalsh(gram)[-1]))
    return math.sqrt(h * w * min(squares))


def tensor_norm(kernel: Tensor, iterations: int = 100) -> float:
    """Alternating maximisation of |sum W a b c d| over complex unit vectors from a random start, times sqrt(h w)."""
    generator = torch.Generator().manual_seed(0)
    o, i, h, w = kernel.shape
    whole, norm = kernel.to(torch.cfloat), 0.0
    a, b, c = (torch.randn(n, dtype=torch.cfloat, generator=generator) for n in (o, i, h))
    for _ in range(iterations):
        part = torch.tensordot(a, whole, dims=1)
        d = _unit(torch.einsum("ihw,i,h->w", part, b, c))
        c = _unit(torch.einsum("ihw,i,w->h", part, b, d))
        b = _unit(torch.einsum("ihw,h,w->i", part, c, d))
        a = torch.einsum("oihw,i,h,w->o", whole, b, c, d).conj()
        norm = float(torch.linalg.vector_norm(a))
        a = a / norm
    return norm * math.sqrt(h * w)


def _unit(x: Tensor) -> Tensor:
    return x.conj() / torch.linalg.vector_norm(x)


def _seconds(call: Callable[[], float]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


@pytest.mark.parametrize("name", ["resnet18", "resnet20"])
def bench_norm_bounds(name, record):
    """Every convolution larger than 1 x 1 of a trained network, over its norm by Lanczos at its own image size."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = trained.network(name)
        side = 32 if name == "resnet20" else 224
        ratios: dict[str, list[float]] = {"bound": [], "unfolded": [], "tensor": []}
        seconds: dict[str, float] = dict.fromkeys(["high", *ratios], 0.0)
        for found in find_convolutions(model, (3, side, side))[0]:
            layer = found.module
            if not isinstance(layer, nn.Conv2d) or layer.kernel_size == (1, 1):
                continue
            kernel = by_stride(layer.weight.detach(), int(layer.stride[0]))
            size = found.input_size
            calls = {
                "high": lambda layer=layer, size=size: float(ff.spectral_norm(layer, input_size=size).detach()),
                "bound": lambda layer=layer, size=size: float(
                    ff.spectral_norm(layer, input_size=size, accuracy="bound").detach()
                ),
                "unfolded": lambda kernel=kernel: unfolded(kernel),
                "tensor": lambda kernel=kernel: tensor_norm(kernel),
            }
            norm = calls["high"]()
            for kind, call in calls.items():
                seconds[kind] += min(_seconds(call) for _ in range(2))
                if kind != "high":
                    ratios[kind].append(call() / norm)
                    assert kind == "tensor" or ratios[kind][-1] >= 1
            assert ratios["bound"][-1] <= 1.02  # of all frequencies 1.01; the layer's own may miss the largest
    finally:
        torch.set_num_threads(threads)
    record(
        **{f"{kind}_above_median": statistics.median(found) - 1 for kind, found in ratios.items()},
        **{f"{kind}_above_largest": max(found) - 1 for kind, found in ratios.items()},
        **{f"{kind}_over_high_cpu": seconds[kind] / seconds["high"] for kind in ratios},
        high_cpu_ms=1e3 * seconds["high"], layers=len(ratios["bound"]),
    )  # fmt: skip
