"""The operations behind singular values against torch's solvers on the same device; answers checked before timing.

pytest benchmarks/bench_svd_kernels.py --results benchmarks/results/NAME.json

On a GPU the cases are those of large networks, FLOP/s and bytes/s stand beside the card's own matrix product and copy.
"""

from __future__ import annotations

import fastfreq_kernels as kernels
import numpy as np
import pytest
import torch
from networks import residual_network
from torch import Tensor

import fastfreq as ff

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# channels, side of the grid
CASES = [(32, 56), (64, 56), (128, 28), (256, 14), (512, 14)] if DEVICE == "cuda" else [(32, 16), (64, 16), (128, 8)]
TOLERANCE = 2e-5  # of the largest eigenvalue, in float32


def finished(result: Tensor) -> None:
    """Wait for the device."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    assert len(result)


def problem(channels: int, n: int) -> tuple[Tensor, Tensor, Tensor, tuple[int, int]]:
    """Taps (1, 9, c, c), offsets and distinct frequencies of a 3 x 3 kernel on an n x n grid."""
    generator = torch.Generator().manual_seed(channels)
    taps = torch.randn(1, 9, channels, channels, generator=generator).to(DEVICE)
    offsets = torch.cartesian_prod(torch.arange(3), torch.arange(3)).to(DEVICE)
    every = torch.cartesian_prod(torch.arange(n), torch.arange(n))
    mirrored = (-every) % n
    first = every[:, 0] * n + every[:, 1] <= mirrored[:, 0] * n + mirrored[:, 1]
    return taps, offsets, every[first].to(DEVICE), (n, n)


def some(matrices: Tensor) -> np.ndarray:
    """Four of a batch (1, f, a, b), as NumPy takes them."""
    rows = torch.linspace(0, matrices.shape[1] - 1, 4).long()
    return matrices[0, rows.to(matrices.device)].cpu().numpy()


def ceilings() -> dict[str, float]:
    """What this device reaches: float32 matrix products in TFLOP/s and copies in GB/s; nothing on a CPU."""
    if DEVICE == "cpu":
        return {}
    a = torch.randn(8192, 8192, device=DEVICE)
    big = torch.empty(1 << 28, device=DEVICE)

    def seconds(run) -> float:
        run()
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for _ in range(10):
            run()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1e4

    return {
        "matmul_tflops": 2 * 8192**3 / seconds(lambda: a @ a) / 1e12,
        "copy_gb_per_s": 2 * big.nbytes / seconds(lambda: big.clone()) / 1e9,
    }


@pytest.mark.parametrize("solver", ["eigvalsh", "svdvals"])
@pytest.mark.parametrize("case", CASES, ids=lambda c: f"c{c[0]}_n{c[1]}")
def bench_hermitian_eigenvalues(case, solver, paired, record):
    """Singular values of all symbols by packed Gram matrices, over torch's solver on the complex64 batch."""
    channels, n = case
    taps, offsets, frequencies, grid = problem(channels, n)
    packed = kernels.conv_gram(taps, offsets, frequencies, grid=grid)
    symbols = kernels.conv_symbols(taps, offsets, frequencies, grid=grid)[0]
    grams = symbols @ symbols.mH
    truth = np.linalg.svd(some(symbols[None]).astype(np.complex128), compute_uv=False) ** 2
    values = some(kernels.hermitian_eigenvalues(packed)[..., None])[..., 0]
    worst = float((np.abs(values - truth) / truth.max(axis=1, keepdims=True)).max())
    assert worst <= TOLERANCE
    solve = {"eigvalsh": lambda: torch.linalg.eigvalsh(grams), "svdvals": lambda: torch.linalg.svdvals(symbols)}[solver]
    seconds, solver_seconds, ratio = paired(
        lambda: finished(kernels.hermitian_eigenvalues(packed)), lambda: finished(solve()), rounds=5
    )
    flop = len(frequencies) * 16 / 3 * channels**3  # of a complex Householder tridiagonalisation, the largest part
    record(
        ours_ms=1e3 * seconds, solver_ms=1e3 * solver_seconds, speedup=1 / ratio, error=worst,
        tflops=flop / seconds / 1e12, frequencies=len(frequencies), **ceilings(),
    )  # fmt: skip


@pytest.mark.parametrize("operation", ["conv_symbols", "conv_gram"])
@pytest.mark.parametrize("case", CASES, ids=lambda c: f"c{c[0]}_n{c[1]}")
def bench_matrices(case, operation, paired, record):
    """From taps to matrices, over the reference in plain torch."""
    channels, n = case
    taps, offsets, frequencies, grid = problem(channels, n)
    run = getattr(kernels, operation)
    ours = run(taps, offsets, frequencies, grid=grid)
    exact = run(taps.double(), offsets, frequencies, grid=grid, backend="reference")
    worst = float((ours - exact).abs().max() / exact.abs().max())
    assert worst <= 1e-5
    del exact
    seconds, torch_seconds, ratio = paired(
        lambda: finished(run(taps, offsets, frequencies, grid=grid)),
        lambda: finished(run(taps, offsets, frequencies, grid=grid, backend="reference")),
        rounds=5,
    )
    record(
        ours_ms=1e3 * seconds, torch_ms=1e3 * torch_seconds, speedup=1 / ratio, error=worst,
        gb_per_s=ours.nbytes / seconds / 1e9,
    )  # fmt: skip


@pytest.mark.skipif(DEVICE == "cpu", reason="on a CPU both are LAPACK's")
@pytest.mark.parametrize("case", [(16, 56), (32, 56), (64, 56)], ids=lambda c: f"c{c[0]}_n{c[1]}")
def bench_channel_svd(case, paired, record):
    """One-sided Jacobi over torch.linalg.svd, with vectors, complex64."""
    channels, n = case
    taps, offsets, frequencies, grid = problem(channels, n)
    symbols = kernels.conv_symbols(taps, offsets, frequencies, grid=grid)[0]
    u, s, vh = kernels.channel_svd(symbols, backend="triton")
    worst = float((u * s[:, None] @ vh - symbols).abs().max() / s.max())
    assert worst <= 1e-5
    seconds, torch_seconds, ratio = paired(
        lambda: finished(kernels.channel_svd(symbols, backend="triton")[1]),
        lambda: finished(torch.linalg.svd(symbols, full_matrices=False)[1]),
        rounds=5,
    )
    record(ours_ms=1e3 * seconds, torch_ms=1e3 * torch_seconds, speedup=1 / ratio, error=worst)


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"c{c[0]}_n{c[1]}")
def bench_gram_iteration(case, paired, record):
    """Upper bounds of spectral norms over the reference in plain torch; how far above the truth stands beside."""
    channels, n = case
    taps, offsets, frequencies, grid = problem(channels, n)
    symbols = kernels.conv_symbols(taps, offsets, frequencies, grid=grid)[0]
    bounds = kernels.gram_iteration(symbols, iterations=8)
    above = some(bounds[None, :, None, None])[:, 0, 0] / np.linalg.norm(some(symbols[None]), 2, axis=(1, 2)) - 1
    assert (above >= -1e-6).all() and above.max() < 0.05
    seconds, torch_seconds, ratio = paired(
        lambda: finished(kernels.gram_iteration(symbols, iterations=8)),
        lambda: finished(kernels.gram_iteration(symbols, iterations=8, backend="reference")),
        rounds=5,
    )
    flop = len(frequencies) * 8 * 8 * channels**3
    record(
        ours_ms=1e3 * seconds, torch_ms=1e3 * torch_seconds, speedup=1 / ratio, above=float(above.max()),
        tflops=flop / seconds / 1e12,
    )  # fmt: skip


@pytest.mark.skipif(DEVICE == "cpu", reason="bench_singular_values.py has it on a CPU")
@pytest.mark.parametrize("accuracy", ["high", "fast"])
def bench_resnet50_on_a_gpu(accuracy, benchmark, record):
    """All 53 convolutions of a ResNet-50 at 224 x 224; checked against LAPACK's largest values on the host."""
    model = residual_network("resnet50").eval()
    on_host = ff.singular_values(model, input_size=(3, 224, 224), accuracy="high")
    model = model.to(DEVICE)
    results = []

    def run():
        results.append(ff.singular_values(model, input_size=(3, 224, 224), accuracy=accuracy))
        torch.cuda.synchronize()

    benchmark.pedantic(run, rounds=5, warmup_rounds=1)
    worst = max(abs(results[0][name].norm / layer.norm - 1) for name, layer in on_host.items())
    assert worst <= {"high": 2e-7, "fast": 3.5e-4}[accuracy]
    record(ours_ms=1e3 * benchmark.stats.stats.median, error=worst, layers=len(on_host))
