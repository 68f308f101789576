"""Shared by all tests: threads, poisoned memory, small networks and images."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # with which cuBLAS is deterministic, and does not warn
os.environ["FASTFREQ_CACHE_DIR"] = tempfile.mkdtemp(prefix="fastfreq-tests-")  # what runs remember stays there
torch.set_num_threads(min(2, os.cpu_count() or 1))
# fresh memory is filled with NaN, so an output that was never written cannot pass for a result
torch.use_deterministic_algorithms(True, warn_only=True)


class TinyNet(nn.Module):
    """Three convolutions and a head: sensitive enough that maps are not flat."""

    def __init__(self, channels: int = 3, classes: int = 5) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.body = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.head = nn.Linear(16, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        return self.head(torch.relu(self.body(x)).mean(dim=(2, 3)))


@pytest.fixture
def make_net():
    """A seeded TinyNet in evaluation mode, with batch statistics that are not trivial."""

    def make(channels: int = 3, classes: int = 5, seed: int = 0) -> TinyNet:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            net = TinyNet(channels, classes)
            nn.init.normal_(net.head.weight, std=2.0)
            net.norm.running_mean.normal_(0, 0.1)
            net.norm.running_var.uniform_(0.5, 2)
            net.eval()
            with torch.no_grad():  # classes are equally likely, so that small changes matter
                logits = net(torch.rand(64, channels, 11, 14) * 0.6 + 0.2)
                net.head.bias -= logits.mean(dim=0)
        return net

    return make


@pytest.fixture
def make_images():
    """Seeded images in [0, 1] and the labels that a network gives them, so that the clean error is 0."""

    def make(net: nn.Module, n: int = 12, shape: tuple[int, int, int] = (3, 11, 14), seed: int = 0):
        rng = np.random.default_rng(seed)
        images = torch.from_numpy(rng.uniform(0.2, 0.8, (n, *shape)).astype(np.float32))
        with torch.inference_mode():
            labels = net(images).argmax(dim=1)
        return images, labels.clone()

    return make


@pytest.fixture
def one_thread():
    """Small matrices and layers: handing them to other threads costs more than they do."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def shared_data() -> Path:
    """Real images and weights beside a development checkout; tests that want them skip where they are absent."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.exists():
        pytest.skip("needs the development images and weights")
    return folder
