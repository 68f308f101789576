"""Bare forward passes of trained networks on one core, each way that torch offers, by instruction set.

pytest benchmarks/bench_cpu_passes.py --results benchmarks/results/NAME.json

Each way is a ratio of CPU time to eager float32 passes in channels_last, taken in turn in one process; each instruction
set has a process. Answers are checked first: float32 ways by their logits, int8 by the classes of other images.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import trained
from torch import Tensor, nn

from fastfreq.engine import quantized
from fastfreq.engine.compilation import Compiled
from fastfreq.engine.folding import fold_batch_norms
from fastfreq.engine.network import Network

NETWORKS = {"resnet18": (8, 5, 64), "resnet20": (64, 11, 400)}  # images in a pass, rounds, images to compare classes on
ISAS = {"avx512": {}, "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}}
MISS = 1e-4  # of the largest logit


def ways(model: nn.Module, images: Tensor) -> dict[str, Callable[[], Tensor]]:
    """Logits of `images`, by name."""
    some = images[:2]

    def network(channels_last: bool, fold: bool) -> Network:
        made = Network(model, precision="fp32", channels_last=channels_last, device=None)
        if fold:
            fold_batch_norms(made, made.clean_batch(some))
        return made

    def eager(channels_last: bool, fold: bool) -> Callable[[], Tensor]:
        made = network(channels_last, fold)
        batch = made.clean_batch(images)
        return lambda: made.net(batch)

    def fused() -> Callable[[], Tensor]:
        made = network(True, True)
        batch = made.clean_batch(images)
        traced = torch.jit.freeze(torch.jit.trace(made.net, batch, check_trace=False))
        packed = torch.jit.optimize_for_inference(traced)
        for _ in range(2):  # which look at shapes
            packed(batch)
        return lambda: packed(batch)

    def compiled(fold: bool, frozen: bool) -> Callable[[], Tensor]:
        import torch._inductor.config as inductor

        torch._dynamo.reset()
        made = network(True, fold)
        batch = made.clean_batch(images)
        fast = Compiled(made, len(images))

        def run() -> Tensor:
            with inductor.patch(freezing=frozen):
                return fast(batch)

        return run

    def int8() -> Callable[[], Tensor]:
        made = network(True, True)
        quantized.quantize(made, some)
        batch = made.clean_batch(images)
        return lambda: made.net(batch)

    return {
        "eager_channels_last": eager(True, False),
        "eager": eager(False, False),
        "folded": eager(True, True),
        "folded_fused_packed": fused(),
        "compiled": compiled(False, False),
        "compiled_folded": compiled(True, False),
        "compiled_frozen": compiled(False, True),
        "compiled_folded_frozen": compiled(True, True),
        "int8": int8(),
    }


def measured(name: str) -> dict[str, float]:
    """In this process, on one thread."""
    torch.set_num_threads(1)
    size, rounds, compared = NETWORKS[name]
    model = trained.network(name)
    images, labels = trained.photographs(name, size + compared)
    with torch.inference_mode():
        calls = ways(model, images[:size])
        wanted = calls["eager_channels_last"]()
        for way, call in calls.items():
            miss = float((call() - wanted).abs().max() / wanted.abs().max())
            assert way == "int8" or miss <= MISS, (way, miss)
        seconds: dict[str, list[float]] = {way: [] for way in calls}
        for i in range(rounds + 1):
            for way, call in calls.items():
                start = time.process_time()
                call()
                if i:
                    seconds[way].append(time.process_time() - start)
        int8 = Network(model, precision="int8", channels_last=True, device=None)
        quantized.quantize(int8, images[:2])
        rest = images[size:].split(32)
        exact = torch.cat([model(part) for part in rest]).argmax(dim=1)
        rounded = torch.cat([int8(int8.clean_batch(part)) for part in rest]).argmax(dim=1)
    base = seconds["eager_channels_last"]
    figures = {
        f"{way}_over_eager_channels_last": statistics.median(a / b for a, b in zip(spent, base, strict=True))
        for way, spent in seconds.items()
        if spent is not base
    }
    figures["eager_channels_last_cpu_ms_per_image"] = 1e3 * statistics.median(base) / size
    figures["int8_same_class"] = float((exact == rounded).float().mean())
    figures["top1_fp32"] = float((exact == labels[size:]).float().mean())
    figures["top1_int8"] = float((rounded == labels[size:]).float().mean())
    return figures


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", NETWORKS)
def bench_cpu_passes(name, isa, record, tmp_path):
    trained.folder()
    # inductor takes what it compiled for one instruction set for the other: logits of 1e5
    cache = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | ISAS[isa] | cache | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    done = subprocess.run([sys.executable, __file__, name], env=environment, capture_output=True, text=True, check=True)
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["int8_same_class"] >= 0.9
    record(**figures)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(json.dumps(measured(sys.argv[1])))
