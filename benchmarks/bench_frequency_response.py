"""`frequency_response` against finufft and the complex matrix product, at the same precision; answers checked first.

pytest benchmarks/bench_frequency_response.py --results benchmarks/results/NAME.json
"""

from __future__ import annotations

import importlib
import math

import pytest
import torch
from fastfreq_kernels import frequency_response
from torch import Tensor

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
POINTS, OUTPUTS, COUNT = 60_000, 10, 256  # MNIST's images and classes
DTYPES = {"fp32": torch.float32, "fp64": torch.float64}
ASKED = {"fp32": 1e-6, "fp64": 1e-12}  # of finufft, whose answers are then no closer than ours


def problem(d: int, precision: str) -> tuple[Tensor, Tensor]:
    """Points in the unit cube and values."""
    random = torch.Generator().manual_seed(d)
    points = torch.rand(POINTS, d, generator=random, dtype=torch.float64)
    values = torch.randn(POINTS, OUTPUTS, generator=random, dtype=torch.float64)
    return points.to(DEVICE, DTYPES[precision]), values.to(DEVICE, DTYPES[precision])


def error_of(found: Tensor, points: Tensor, values: Tensor, frequencies: Tensor) -> float:
    """Largest error over the mean of |values|, of some frequencies."""
    some = torch.linspace(0, len(frequencies) - 1, 64, device=DEVICE).long()
    given = points.double(), values.double(), frequencies[some].double()
    exact = frequency_response(*given, backend="reference")
    return float(((found[some] - exact).abs() / values.double().abs().mean(dim=0)).max())


def finished(result: Tensor) -> Tensor:
    """Wait for the device."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return result


@pytest.mark.skipif(DEVICE == "cuda", reason="finufft is a library for CPUs")
@pytest.mark.parametrize("sizes", [(COUNT,), (16, 16), (64, 64)], ids=lambda sizes: "x".join(map(str, sizes)))
@pytest.mark.parametrize("precision", DTYPES)
def bench_grid(precision, sizes, paired, record):
    """Frequencies -N/2 .. N/2 - 1 on one axis or two, over finufft with all outputs in one call and its own threads."""
    finufft = pytest.importorskip("finufft")
    points, values = problem(len(sizes), precision)
    axes = [torch.arange(size, dtype=torch.float64) - size // 2 for size in sizes]
    frequencies = torch.cartesian_prod(*axes).view(-1, len(sizes))
    angles = [(2 * math.pi * x).contiguous().numpy() for x in points.T]
    strengths = torch.complex(values, torch.zeros_like(values)).T.contiguous().numpy()
    transform = getattr(finufft, f"nufft{len(sizes)}d1")

    def ours() -> Tensor:
        return frequency_response(points, values, frequencies)

    def theirs() -> Tensor:
        threads = torch.get_num_threads()
        found = transform(*angles, strengths, sizes, eps=ASKED[precision], isign=-1, nthreads=threads)
        return torch.from_numpy(found).view(OUTPUTS, -1).T / POINTS

    error, other = (error_of(found, points, values, frequencies) for found in (ours(), theirs()))
    assert error <= min(other, 1e-6)
    seconds, finufft_seconds, ratio = paired(ours, theirs, rounds=9)
    record(ours_ms=1e3 * seconds, finufft_ms=1e3 * finufft_seconds, of_finufft=ratio, error=error, finufft_error=other)


@pytest.mark.parametrize("d", [1, 2, 784])
@pytest.mark.parametrize("precision", DTYPES)
def bench_any_frequencies(precision, d, paired, record):
    """Random frequencies over exp(-2 pi i X K^T) and one matrix product; both hold it in n K complex numbers."""
    points, values = problem(d, precision)
    random = torch.Generator().manual_seed(0)
    frequencies = torch.rand(COUNT, d, generator=random, dtype=torch.float64).to(DEVICE, DTYPES[precision])
    frequencies = 20 / d * (frequencies - 0.5)
    complex_values = torch.complex(values, torch.zeros_like(values))

    def ours() -> Tensor:
        return finished(frequency_response(points, values, frequencies))

    def theirs() -> Tensor:
        waves = torch.exp(-2j * math.pi * (frequencies @ points.T))
        return finished(waves @ complex_values / POINTS)

    error, other = (error_of(found, points, values, frequencies) for found in (ours(), theirs()))
    assert error <= max(other, 1e-12)
    seconds, product_seconds, ratio = paired(ours, theirs, rounds=3)
    record(
        ours_ms=1e3 * seconds, product_ms=1e3 * product_seconds, speedup=1 / ratio, error=error, product_error=other,
        waves_mb=POINTS * COUNT * complex_values.element_size() / 1e6,
    )  # fmt: skip


@pytest.mark.skipif(DEVICE == "cuda", reason="ways on a CPU")
@pytest.mark.parametrize("precision", DTYPES)
def bench_gradient(precision, paired, record):
    """Forward and backward with respect to the values over the matrix product's."""
    points, values = problem(1, precision)
    random = torch.Generator().manual_seed(0)
    frequencies = 20 * torch.rand(COUNT, 1, generator=random, dtype=torch.float64).to(DTYPES[precision])
    values.requires_grad_()

    def gradient(response: Tensor) -> Tensor:
        (found,) = torch.autograd.grad(torch.view_as_real(response).square().sum(), values)
        return found

    def ours() -> Tensor:
        return gradient(frequency_response(points, values, frequencies))

    def theirs() -> Tensor:
        waves = torch.exp(-2j * math.pi * (frequencies @ points.T))
        return gradient(waves @ values.to(waves.dtype) / POINTS)

    torch.testing.assert_close(ours(), theirs(), rtol=1e-3, atol=1e-9)
    seconds, product_seconds, ratio = paired(ours, theirs, rounds=3)
    record(ours_ms=1e3 * seconds, product_ms=1e3 * product_seconds, speedup=1 / ratio)


@pytest.mark.skipif(DEVICE == "cuda", reason="ways on a CPU")
@pytest.mark.parametrize("precision", DTYPES)
def bench_grid_without_finufft(precision, monkeypatch, paired, record):
    """A 64 x 64 grid by spreading line by line, over the same with finufft."""
    pytest.importorskip("finufft")
    points, values = problem(2, precision)
    axis = torch.arange(64, dtype=torch.float64) - 32
    frequencies = torch.cartesian_prod(axis, axis)
    ways = importlib.import_module("fastfreq_kernels.frequency_response._cpu")

    def run(has: bool) -> Tensor:
        monkeypatch.setattr(ways, "_FINUFFT", has)
        return frequency_response(points, values, frequencies)

    assert error_of(run(False), points, values, frequencies) <= 1e-6
    seconds, finufft_seconds, ratio = paired(lambda: run(False), lambda: run(True), rounds=5)
    record(ours_ms=1e3 * seconds, finufft_ms=1e3 * finufft_seconds, of_finufft=ratio)
