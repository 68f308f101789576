"""Trained networks and photographs beside a development checkout, for what depends on training."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import fastfreq as ff
from fastfreq.models import load_weights

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
# file of definitions, function and arguments, weights
NETWORKS = {
    "resnet18": ("imagenet_nets.py", "resnet18", (), "imagenet_resnet18_ktb_large.safetensors"),
    "resnet50": ("imagenet_nets.py", "resnet50", (), "imagenet_resnet50_ktb_large.safetensors"),
    "resnet20": ("cifar_nets.py", "CifarResNet", (3,), "cifar10_resnet20.safetensors"),
}


def folder() -> Path:
    """Where they lie; skips where they do not."""
    found = Path(__file__).parents[2] / "shared" / "data"
    if not found.exists():
        pytest.skip("needs the development images and weights")
    return found


def network(name: str) -> nn.Module:
    """On pixels, in evaluation mode."""
    definitions, function, arguments, weights = NETWORKS[name]
    spec = importlib.util.spec_from_file_location(name, folder() / definitions)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    net = getattr(module, function)(*arguments)
    load_weights(net, folder() / "weights" / weights)
    return ff.NormalizedModel(net.float().eval(), **IMAGENET).eval()


def photographs(name: str, count: int) -> tuple[Tensor, Tensor]:
    """(n, 3, h, w) float32 images in [0, 1] of the network's kind and labels."""
    if name == "resnet20":
        data = ff.load_data(folder() / "cifar10" / "cifar10_subset.npz", limit=count, batch_size=count)
    else:
        as_trained = ff.data.Preprocessing((224, 224), 256, "bilinear")
        data = ff.load_data(folder() / "imagenet_sample", limit=count, batch_size=count, preprocessing=as_trained)
    images, labels = next(iter(data))
    return (images.float() / 255 if images.dtype == torch.uint8 else images), labels
