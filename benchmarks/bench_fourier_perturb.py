"""Speed of `fourier_perturb`: `pytest benchmarks/bench_fourier_perturb.py -s`, answers validated before they are timed.

Bytes are the output once and the images once. On a GPU the time is the median between two events, with the cache
flushed, and is set against a device copy measured in the same run. Target on an H200: 85 % of what a copy writes
per second; not yet measured.
"""

import statistics

import pytest
import torch
from fastfreq_kernels import fourier_perturb
from fastfreq_kernels._testing import Case, assert_matches_reference

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BACKENDS = ["reference", "compiled", "triton"] if DEVICE == "cuda" else ["reference", "compiled", "cpu"]
FREQUENCIES = 256 if DEVICE == "cuda" else 1  # a CPU evaluates one frequency on a batch of images at a time
SIZES = {"32x32": (256, 32), "224x224": (16, 224)}


def gpu_seconds(run):
    """Median of 20 runs, each after a write that displaces the cache."""
    flush = torch.empty(2**28, dtype=torch.uint8, device="cuda")
    seconds = []
    for _ in range(20):
        flush.zero_()
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        end.record()
        end.synchronize()
        seconds.append(start.elapsed_time(end) / 1e3)
    return statistics.median(seconds)


@pytest.fixture(scope="module")
def copied_per_second():
    """Bytes that a device copy writes per second."""
    if DEVICE == "cpu":
        return None
    source, target = (torch.empty(2**30, dtype=torch.uint8, device="cuda") for _ in range(2))
    return source.numel() / gpu_seconds(lambda: target.copy_(source))


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # inductor's own, on its first import in 2.13
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", SIZES)
def test_fourier_perturb(benchmark, record, copied_per_second, size, backend):
    n, side = SIZES[size]
    case = Case(size, n=n, h=side, w=side, f=FREQUENCIES, dtype=torch.bfloat16, channels_last=True)
    arguments, keywords = case.inputs(seed=1, device=DEVICE)
    operation = fourier_perturb
    if backend == "compiled":
        operation, keywords["backend"] = torch.compile(fourier_perturb, fullgraph=True), "reference"
    else:
        keywords["backend"] = backend

    def run():
        return operation(*arguments, **keywords)

    checked = {k: v for k, v in keywords.items() if k != "backend"}
    images, frequencies, signs = arguments
    out = run()
    for f in sorted({0, FREQUENCIES - 1}):
        rows = slice(f, f + 1)
        assert_matches_reference(out[f * n : (f + 1) * n], images, frequencies[rows], signs[rows], **checked)
    written = out.numel() * out.element_size()
    count = written + images.numel() * images.element_size()
    del out

    benchmark.group = f"fourier_perturb {size}, {FREQUENCIES} frequencies x {n} images, bf16 channels_last, {DEVICE}"
    figures = {}
    if DEVICE == "cuda":
        seconds = gpu_seconds(run)
        benchmark.pedantic(lambda: (run(), torch.cuda.synchronize()), rounds=5)
        figures["share_of_copy_writes"] = written / seconds / copied_per_second
        figures["share_of_copy_traffic"] = count / seconds / (2 * copied_per_second)
    else:
        benchmark.pedantic(run, rounds=50, warmup_rounds=5)
        seconds = benchmark.stats.stats.median
    figures |= {"bytes": count, "gb_per_second": count / seconds / 1e9}
    figures["ms_per_image_and_frequency"] = 1e3 * seconds / (FREQUENCIES * n)
    benchmark.extra_info.update(figures)
    record(**figures)
