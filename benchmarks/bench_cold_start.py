"""The first call on a fresh machine: seconds that compiling takes, and that importing takes over torch.

pytest benchmarks/bench_cold_start.py --results benchmarks/results/NAME.json

Each process has one thread and counts its own CPU time, which other work on the machine stretches less than the clock.
What compiling takes is the first call less the second in a new process, which finds everything in the cache.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

_IMPORT = """
import torch, time, importlib
before = time.process_time()
import fastfreq
getattr(fastfreq, {name!r})
print(time.process_time() - before)
"""
_CALL = """
import sys, time, torch
torch.set_num_threads(1)
sys.path.insert(0, {folder!r})
import fastfreq as ff
from networks import residual_network
network, images = residual_network("resnet18"), torch.rand(8, 3, 224, 224)
before = time.process_time()
{call}
print(time.process_time() - before)
"""
CALLS = {
    "singular_values_exact": "ff.singular_values(network, input_size=(3, 64, 64), accuracy='exact')",
    "singular_values_high": "ff.singular_values(network, input_size=(3, 64, 64), accuracy='high')",
    "image_spectrum": "ff.image_spectrum(images)",
    "filter_curve": "ff.filter_curve(network, images[:2], torch.zeros(2).long(), kind='low', bandwidths=(8,))",
}
ROUNDS = 3


def seconds(code: str, cache: Path) -> float:
    """What a new process prints."""
    settings = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], env=settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return float(done.stdout.split()[-1])


@pytest.mark.parametrize("name", CALLS)
def bench_first_call(name, tmp_path, record):
    pytest.importorskip("numba")
    code = _CALL.format(folder=str(Path(__file__).parent), call=CALLS[name])
    first, second = [], []
    for i in range(ROUNDS):
        for found in (first, second):
            found.append(seconds(code, tmp_path / str(i)))
    compiling = statistics.median(a - b for a, b in zip(first, second, strict=True))
    assert compiling > 0.1  # it was compiled, and kept
    record(first_seconds=statistics.median(first), second_seconds=statistics.median(second), compiling=compiling)


@pytest.mark.parametrize("name", ["heatmap", "singular_values", "image_spectrum"])
def bench_import(name, tmp_path, record):
    found = [seconds(_IMPORT.format(name=name), tmp_path) for _ in range(5)]
    record(seconds_over_torch=statistics.median(found))
