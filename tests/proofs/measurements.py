"""Measurements of a second or two, each in a process of its own that may be killed."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import fastfreq as ff
from fastfreq.engine import checkpoint
from tests.conftest import TinyNet

SHAPE = (3, 17, 20)
SAVE_EVERY = 0.02  # seconds: a killed run is often in the middle of a save


@dataclasses.dataclass(frozen=True)
class Timed:
    """A measurement and how many images of it take about a second."""

    images: int
    measure: Callable[..., Any]


def darker(images: torch.Tensor, severity: int = 1) -> torch.Tensor:
    """A corruption."""
    return images * (1 - 0.1 * severity)


def noisy(images: torch.Tensor, severity: int = 1) -> torch.Tensor:
    """A random one."""
    return (images + 0.05 * severity * torch.randn_like(images)).clamp(0, 1)


MEASUREMENTS = {
    "heatmap": Timed(
        1536,
        functools.partial(ff.heatmap, eps=1.0, size=(5, 7), metrics=("error", "loss"), layers=("body",)),
    ),
    "noise_curve": Timed(
        1536,
        functools.partial(ff.noise_curve, norm=2.0, kind="high", bandwidths=(1, 3, 5, 8), metrics=("error", "loss")),
    ),
    "gradient_heatmap": Timed(3072, functools.partial(ff.gradient_heatmap, eps=1.0, size=(7, 7), class_maps=True)),
    "corruption_report": Timed(
        1536,
        functools.partial(ff.corruption_report, corruptions={"darker": darker, "noisy": noisy}, severities=(1, 3, 5)),
    ),
}


def network() -> nn.Module:
    """Seeded, in evaluation mode, with classes that are about equally likely."""
    torch.manual_seed(0)
    net = TinyNet(SHAPE[0], 5)
    nn.init.normal_(net.head.weight, std=2.0)
    nn.init.uniform_(net.norm.get_buffer("running_var"), 0.5, 2)
    net.eval()
    with torch.no_grad():
        net.head.bias -= net(torch.rand(64, *SHAPE)).mean(dim=0)
    return net


def run(name: str, **options: Any) -> Any:
    """The result of a measurement."""
    timed = MEASUREMENTS[name]
    rng = np.random.default_rng(1)
    images = torch.from_numpy(rng.random((timed.images, *SHAPE), dtype=np.float32))
    net = network()
    with torch.no_grad():
        labels = net(images).argmax(dim=1)
    labels[::7] = (labels[::7] + 1) % 5
    return timed.measure(net, images, labels, batch_size=16, **options)


def run_and_save(name: str, path: Path, result: Path) -> None:
    """In a process: go on from the checkpoint at `path`, save what comes back at `result`, end."""
    torch.set_num_threads(1)
    os.environ["FASTFREQ_CACHE_DIR"] = str(path.parent.parent)
    checkpoint._SAVE_EVERY = SAVE_EVERY
    run(name, checkpoint=path).save(result)
