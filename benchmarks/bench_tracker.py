"""What following a training costs: a look of `ff.FrequencyTracker` over an epoch of CIFAR-10; answers validated first.

pytest benchmarks/bench_tracker.py --results benchmarks/results/NAME.json

An epoch is 50,000 images of 32 x 32 forward and backward in batches of 128, with SGD; a few batches are timed and
counted up. A look is at the defaults, 4,096 probes, with five widths of the filter and the projection. Processor time,
of one thread: a share that other work on the machine does not move.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from networks import residual_network
from torch import Tensor, nn

import fastfreq as ff
from fastfreq.training import Filtering, Projection
from fastfreq.training.filtering import squared_distances

EPOCH, BATCH, PROBES = 50_000, 128, 4096
ROUNDS, STEPS = 3, 3
WIDTHS = (20.0, 28.0, 40.0, 56.0, 80.0)  # as the defaults: each the double of the last but one
ALLOWED = 0.05


def small_network() -> nn.Sequential:
    """That of the paper on CIFAR-10, less than half the work of a ResNet-20."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(64 * 14 * 14, 400), nn.ReLU(), nn.Linear(400, 10),
    )  # fmt: skip


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "published": small_network,
    "resnet20": lambda: residual_network("resnet20"),
}


@pytest.fixture(scope="module")
def data() -> tuple[Tensor, Tensor]:
    """4,096 images that are blurred noise, and classes."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.random((PROBES, 3, 8, 8), dtype=np.float32))
    images = torch.nn.functional.interpolate(coarse, size=32, mode="bilinear")
    return images, torch.from_numpy(rng.integers(0, 10, PROBES))


def train(net: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> None:
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(net(images), labels).backward()
    optimizer.step()


def validate(tracker: ff.FrequencyTracker, net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Largest relative difference of the filter's errors to the definition in float64, on the same outputs."""
    modes = net.training
    with torch.no_grad():
        outputs = torch.cat([net.eval()(some) for some in images.split(512)]).double().softmax(dim=1)
    net.train(modes)
    targets = torch.nn.functional.one_hot(labels, 10).double()
    square = squared_distances(images.double().flatten(1)).double()
    low, high = (part[-1, :, 0] for part in tracker.history.low_high())
    worst = 0.0
    for j, delta in enumerate(WIDTHS):
        kernel = torch.exp(-square / (2 * delta))
        kernel /= kernel.sum(dim=1, keepdim=True)
        parts = [(kernel @ v, v - kernel @ v) for v in (outputs - targets, targets)]
        for found, i in ((low[j], 0), (high[j], 1)):
            expected = float(parts[0][i].norm() / parts[1][i].norm())
            worst = max(worst, abs(found / expected - 1))
    return worst


@pytest.mark.parametrize("name", NETWORKS)
def bench_look_over_epoch(name, data, benchmark, record, request):
    """Processor time of a look over that of an epoch's training steps, in turn, medians."""
    images, labels = data
    threads = torch.get_num_threads()
    request.addfinalizer(lambda: torch.set_num_threads(threads))
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = NETWORKS[name]().train()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9)
    tracker = ff.FrequencyTracker(images, labels, measures=[Filtering(WIDTHS), Projection()])
    assert len(tracker._probes) == PROBES
    steps, looks = [], []
    step = 0

    def look() -> None:
        nonlocal step
        tracker.step(net, step)
        step += 1

    def timed(call: Callable[[], None], seconds: list[float]) -> None:
        start = time.process_time()
        call()
        seconds.append(time.process_time() - start)

    def rounds() -> None:
        for i in range(ROUNDS):
            for j in range(STEPS):
                rows = slice((STEPS * i + j) * BATCH, (STEPS * i + j + 1) * BATCH)
                timed(lambda rows=rows: train(net, optimizer, images[rows], labels[rows]), steps)
            timed(look, looks)

    train(net, optimizer, images[:BATCH], labels[:BATCH])
    look()
    worst = validate(tracker, net, images, labels)
    assert worst < 1e-4
    benchmark.pedantic(rounds, rounds=1, iterations=1)
    epoch = statistics.median(steps) * EPOCH / BATCH
    share = statistics.median(looks) / epoch
    record(
        look_seconds=statistics.median(looks), epoch_seconds=epoch, share_of_epoch=share, probes=PROBES,
        widths=len(WIDTHS), worst_relative_error=worst,
    )  # fmt: skip
    assert share < ALLOWED
