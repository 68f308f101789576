"""ff.filter_curve and ff.noise_curve against bare forward passes, and their operations against plain torch.

pytest benchmarks/bench_bands.py --results benchmarks/results/NAME.json
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bench_end_to_end import DEVICE, LARGE, SMALL, problem, synchronise
from fastfreq_kernels import band_noise, filter_bands

import fastfreq as ff
from fastfreq.engine.network import Network
from fastfreq.vocabulary import masks

BANDS = 20
# name, side, images, batch; sized so that one round is some seconds on two cores
CASES = [(LARGE[0], LARGE[1], 64, 4), (SMALL[0], SMALL[1], 256, 64)]
if DEVICE == "cuda":
    CASES = [("resnet50", 224, 256, 256), (SMALL[0], SMALL[1], 2048, 512)]


def some_bandwidths(side: int) -> list[int]:
    """20 of them, evenly spread."""
    return np.linspace(0, side, BANDS).round().astype(int).tolist()


def by_torch(model, images, labels, kept) -> np.ndarray:
    """Accuracy under each mask, written out with full transforms."""
    found = []
    with torch.inference_mode():
        for mask in torch.from_numpy(kept).to(DEVICE):
            right = 0
            for part, label in zip(images.split(64), labels.split(64), strict=True):
                pixels = part.to(DEVICE).double() / 255
                filtered = torch.fft.ifft2(torch.fft.fft2(pixels) * mask).real
                right += int((model(filtered.float()).argmax(dim=1).cpu() == label).sum())
            found.append(right / len(images))
    return np.array(found)


@pytest.mark.parametrize("question", ["filter", "noise"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0]}_{c[1]}")
def bench_curve(case, precision, question, paired, record):
    """Wall time of a curve over 20 bandwidths over as many bare network(batch) calls, same precision and layout."""
    name, side, n, batch = case
    model, images, labels = problem(name, side, n)
    bandwidths = some_bandwidths(side)
    network = Network(model, precision=precision, channels_last=True, device=None)
    network.cast()
    bare_batch = network.clean_batch(images[:batch].to(DEVICE))

    def bare():
        with torch.inference_mode():
            for _ in range((BANDS + 1) * n // batch):  # one pass more, for the images as they are
                network.net(bare_batch)
        synchronise()

    def ours():
        common = {"bandwidths": bandwidths, "precision": precision, "batch_size": batch}
        if question == "noise":
            return ff.noise_curve(model, images, labels, norm=0.07 * side, **common)
        return ff.filter_curve(model, images, labels, **common)

    if question == "filter" and precision == "fp32":
        expected = by_torch(model, images, labels, masks.stack("low", (side, side), bandwidths))
        assert np.abs(ours().accuracy - expected).max() <= 1 / n  # rounding may tip an image on the fence
    seconds, bare_seconds, ratio = paired(ours, bare, rounds=3)
    record(
        ours_ms_per_image=1e3 * seconds / (n * BANDS), bare_ms_per_image=1e3 * bare_seconds / (n * (BANDS + 1)),
        overhead=ratio, batch=batch, images=n, bandwidths=BANDS,
    )  # fmt: skip


@pytest.mark.parametrize("operation", ["filter_bands", "band_noise"])
@pytest.mark.parametrize("side", [32, 224])
def bench_operation(side, operation, paired, record):
    """An operation against its reference, which is plain torch, to a bfloat16 batch with the channels innermost."""
    n = 256 if side == 32 else 8
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(n, 3, side, side, generator=generator).to(DEVICE)
    kept = torch.from_numpy(masks.stack("low", (side, side), some_bandwidths(side))).to(DEVICE)
    ids = torch.arange(n, device=DEVICE)
    common = {
        "mean": torch.full((3,), 0.45, device=DEVICE), "std": torch.full((3,), 0.23, device=DEVICE), "clip": True,
        "dtype": torch.bfloat16, "channels_last": True,
    }  # fmt: skip

    def run(backend):
        if operation == "filter_bands":
            out = filter_bands(images, kept, backend=backend, **common)
        else:
            out = band_noise(images, kept, ids, norm=0.07 * side, seed=0, backend=backend, **common)
        synchronise()
        return out

    fast = "triton" if DEVICE == "cuda" else "cpu"
    torch.testing.assert_close(run(fast), run("reference"), atol=0.03, rtol=0)  # 2 steps of bfloat16 at 2.4
    seconds, plain_seconds, ratio = paired(lambda: run(fast), lambda: run("reference"), rounds=5)
    record(
        ours_ms_per_image=1e3 * seconds / (n * BANDS), reference_ms_per_image=1e3 * plain_seconds / (n * BANDS),
        speedup=1 / ratio, images=n, bandwidths=BANDS,
    )  # fmt: skip
