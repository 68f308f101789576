"""Singular values of convolutions against Sedghi's method in its best configuration; answers checked before timing.

pytest benchmarks/bench_singular_values.py --results benchmarks/results/NAME.json
"""

from __future__ import annotations

import functools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sedghi_baseline
import torch
from networks import residual_network
from torch import nn

import fastfreq as ff
from fastfreq.layers.discovery import find_convolutions
from fastfreq.layers.symbols import conv_symbols_of

THREADS = torch.get_num_threads()
CASES = [(16, 32), (64, 32), (128, 32), (256, 16), (512, 14)]
GUARANTEED = {"exact": 1e-13, "high": 1e-7, "fast": 3.5e-4}
ROUNDS = {16: 15, 64: 9, 128: 5, 256: 5, 512: 3}


def convolution(channels: int) -> nn.Conv2d:
    torch.manual_seed(channels)
    return nn.Conv2d(channels, channels, 3, padding=1, padding_mode="circular", bias=False)


@pytest.mark.parametrize("accuracy", list(GUARANTEED))
@pytest.mark.parametrize("case", CASES, ids=lambda c: f"c{c[0]}_n{c[1]}")
def bench_one_layer(case, accuracy, paired, record):
    """Every singular value of one 3 x 3 convolution, by accuracy."""
    channels, n = case
    layer = convolution(channels)
    weight = layer.weight.detach()

    def ours():
        return ff.singular_values(layer, input_size=(n, n), accuracy=accuracy)

    def theirs():
        return sedghi_baseline.best(weight, (n, n), THREADS)

    result = ours()
    some = np.linspace(0, len(result.frequencies) - 1, 12).astype(int)
    taps = weight.double().numpy()
    worst = 0.0
    for row in some:
        ky, kx = result.frequencies[row]
        angle = 2 * np.pi * (ky * np.arange(3)[:, None] + kx * np.arange(3)[None, :]) / n
        truth = np.linalg.svd((taps * np.exp(1j * angle)).sum(axis=(2, 3)), compute_uv=False)
        worst = max(worst, np.abs(result.distinct[row] - truth).max() / truth.max())
    assert worst <= GUARANTEED[accuracy]
    everywhere = np.sort(result.values.reshape(n * n, -1).ravel())
    assert np.abs(everywhere - np.sort(theirs().numpy().ravel())).max() <= 1e-4 * result.norm
    if accuracy == "exact":
        by_numpy = np.sort(sedghi_baseline.numpy_in_threads(weight, (n, n), THREADS).ravel())
        assert np.abs(everywhere - by_numpy).max() <= GUARANTEED[accuracy] * result.norm
    seconds, their_seconds, ratio = paired(ours, theirs, rounds=ROUNDS[channels])
    double = sedghi_in_float64(channels, n)
    record(
        ours_ms=1e3 * seconds, sedghi_best_ms=1e3 * their_seconds, speedup=1 / ratio, error=worst,
        sedghi_float64_ms=1e3 * double, speedup_over_float64=double / seconds, frequencies=len(result.frequencies),
    )  # fmt: skip


@functools.cache
def sedghi_in_float64(channels: int, n: int) -> float:
    """Median seconds of the baseline in complex128, by the faster of two LAPACKs; once for each case."""
    weight = convolution(channels).weight.detach().double()
    return min(
        _median(lambda: sedghi_baseline.best(weight, (n, n), THREADS)),
        _median(lambda: sedghi_baseline.numpy_in_threads(weight, (n, n), THREADS)),
    )


def _median(call: Callable[[], object]) -> float:
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


@pytest.mark.parametrize("case", CASES[:4], ids=lambda c: f"c{c[0]}_n{c[1]}")
def bench_sedghi_as_written(case, paired, record):
    """The published lines against the configuration that the other figures are measured against."""
    channels, n = case
    weight = convolution(channels).weight.detach()
    kernel = weight.permute(2, 3, 1, 0).contiguous().numpy()

    def written():
        return sedghi_baseline.as_written(kernel, (n, n))

    def best():
        return sedghi_baseline.best(weight, (n, n), THREADS)

    np.testing.assert_allclose(np.sort(written().ravel()), np.sort(best().numpy().ravel()), atol=1e-4)
    seconds, best_seconds, ratio = paired(written, best, rounds=3)
    record(as_written_ms=1e3 * seconds, sedghi_best_ms=1e3 * best_seconds, times_slower=ratio)


@pytest.mark.parametrize("case", [(384, 14), (192, 28), (96, 56)], ids=lambda c: f"c{c[0]}_n{c[1]}")
def bench_depthwise(case, record):
    """CPU time of all values of a 7 x 7 depthwise layer, in float64, over that of `rfft2` and a sort on its grid."""
    channels, n = case
    torch.manual_seed(0)
    layer = nn.Conv2d(channels, channels, 7, padding=3, groups=channels, bias=False)
    grid = conv_symbols_of(layer, input_size=(n, n)).grid
    weight = layer.weight.detach().double()[:, 0]

    def ours():
        return ff.singular_values(layer, input_size=(n, n))

    def theirs():
        moduli = torch.fft.rfft2(weight, s=grid).abs().reshape(channels, -1).T
        return moduli.sort(dim=1, descending=True).values

    assert abs(ours().norm / float(theirs().max()) - 1) <= 1e-12
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    torch.set_num_threads(1)
    try:
        for i in range(16):
            for side, call in (("ours", ours), ("theirs", theirs)):
                start = time.process_time()
                call()
                if i:
                    seconds[side].append(time.process_time() - start)
    finally:
        torch.set_num_threads(THREADS)
    record(
        ours_cpu_ms=1e3 * statistics.median(seconds["ours"]),
        rfft2_and_sort_cpu_ms=1e3 * statistics.median(seconds["theirs"]),
        speedup=statistics.median(b / a for a, b in zip(*seconds.values(), strict=True)),
    )


def bench_largest_value_only(paired, record):
    """The spectral norm alone: against all values by Sedghi's method."""
    layer = convolution(512)
    weight = layer.weight.detach()

    def ours():
        return float(ff.spectral_norm(layer, input_size=(14, 14)).detach())

    def theirs():
        return float(sedghi_baseline.best(weight, (14, 14), THREADS).max())

    error = abs(ours() / theirs() - 1)
    assert error <= 1e-5  # theirs is float32
    seconds, their_seconds, ratio = paired(ours, theirs, rounds=3)
    double = sedghi_in_float64(512, 14)
    record(
        ours_ms=1e3 * seconds, sedghi_best_ms=1e3 * their_seconds, speedup=1 / ratio, error=error,
        sedghi_float64_ms=1e3 * double, speedup_over_float64=double / seconds,
    )  # fmt: skip


def bench_largest_value_against_gram_iteration(paired, record):
    """The spectral norm alone: against Gram iteration on the matrix of every distinct frequency."""
    layer = convolution(512)
    symbols = conv_symbols_of(layer, input_size=(14, 14))
    norm = float(ff.spectral_norm(layer, input_size=(14, 14)).detach())
    figures = {}

    def matrices_of_all():
        taps = symbols.taps.detach()
        return ff.kernels.conv_symbols(taps, symbols.offsets, symbols.frequencies, grid=symbols.grid)[0]

    def theirs():
        matrices = matrices_of_all()
        for iterations in range(1, 20):
            figures["bound"] = float(gram_iteration(matrices, iterations).max())
            if figures["bound"] <= norm * (1 + 1e-3):
                figures["iterations"] = iterations
                break

    theirs()
    iterations = figures["iterations"]

    def once():
        return float(gram_iteration(matrices_of_all(), iterations).max())

    assert norm * (1 - 1e-5) <= once() <= norm * (1 + 1e-3)
    seconds, their_seconds, ratio = paired(
        lambda: float(ff.spectral_norm(layer, input_size=(14, 14)).detach()), once, rounds=3
    )
    matrices = matrices_of_all()
    start = time.perf_counter()
    bound = float(ff.kernels.gram_iteration(matrices, iterations=iterations).max())
    certified_seconds = time.perf_counter() - start
    assert bound >= norm * (1 - 1e-6)
    record(
        ours_ms=1e3 * seconds, gram_iteration_ms=1e3 * their_seconds, speedup=1 / ratio, iterations=iterations,
        certified_ms=1e3 * certified_seconds, certified_above=bound / norm - 1,
    )  # fmt: skip


def gram_iteration(matrices: torch.Tensor, iterations: int) -> torch.Tensor:
    """Upper bounds of spectral norms, (f,): Delattre et al. 2023, Algorithm 1, written from its definition.

    `kernels.gram_iteration` adds what rounding may have taken away, which at 512 channels is more than 1e-3.
    """
    log_scale = torch.zeros(len(matrices))
    for _ in range(iterations):
        norms = torch.linalg.matrix_norm(matrices)
        log_scale = 2 * (log_scale + norms.log())
        matrices = matrices / norms[:, None, None]
        matrices = matrices.mH @ matrices
    return ((torch.linalg.matrix_norm(matrices).log() + log_scale) / 2**iterations).exp()


def resnet50_baseline(model: nn.Module) -> list[torch.Tensor]:
    """All frequencies of every k > 1 layer; 1 x 1 layers once, which the method as published does not do."""
    values = []
    for layer in find_convolutions(model, (3, 224, 224))[0]:
        symbols = conv_symbols_of(layer.module, input_size=layer.input_size)
        taps = symbols.taps.detach()
        if symbols.constant:
            values.append(torch.linalg.svdvals(taps[0, 0]))
            continue
        every = torch.cartesian_prod(*(torch.arange(n) for n in symbols.grid))
        for part in every.split(max(1, (256 << 20) // (taps[0, 0].numel() * 8))):
            matrices = ff.kernels.conv_symbols(taps, symbols.offsets, part, grid=symbols.grid)[0]
            values.append(sedghi_baseline.split(torch.linalg.svdvals, matrices, THREADS))
    return values


@pytest.fixture(scope="module")
def sedghi_resnet50() -> tuple[float, float]:
    """(largest value, seconds) of the baseline on a whole network: minutes, so once in a run."""
    model = residual_network("resnet50").eval()
    start = time.perf_counter()
    values = resnet50_baseline(model)
    return max(float(v.max()) for v in values), time.perf_counter() - start


@pytest.mark.parametrize("accuracy", ["high", "fast"])
def bench_resnet50(accuracy, sedghi_resnet50, benchmark, record):
    """All 53 convolutions of a ResNet-50 at 224 x 224, as they are padded."""
    model = residual_network("resnet50").eval()
    largest, their_seconds = sedghi_resnet50
    results = []
    benchmark.pedantic(
        lambda: results.append(ff.singular_values(model, input_size=(3, 224, 224), accuracy=accuracy)), rounds=3
    )
    assert len(results[0]) == 53
    assert abs(max(results[0].norms.values()) / largest - 1) <= 1e-4
    seconds = benchmark.stats.stats.median
    record(ours_s=seconds, sedghi_best_s=their_seconds, speedup=their_seconds / seconds, layers=len(results[0]))


_MEMORY = """
import sys, torch
sys.path.insert(0, sys.argv[1])
import fastfreq as ff
from networks import residual_network
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
torch.set_num_threads(2)
model = residual_network("resnet50").eval()
before = peak()
ff.singular_values(model, input_size=(3, 224, 224), accuracy="high")
print(peak(), before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads peak memory as Linux tells it")
def bench_resnet50_peak_memory(benchmark, record):
    """Peak resident memory of the whole process, in MiB."""
    peaks = []

    def run():
        folder = str(__file__).rsplit("/", 1)[0]
        done = subprocess.run([sys.executable, "-c", _MEMORY, folder], capture_output=True, text=True, check=True)
        peaks.extend(float(v) for v in done.stdout.split())

    benchmark.pedantic(run, rounds=1)
    record(peak_mib=peaks[0], before_mib=peaks[1])
    assert peaks[0] < 2048
