"""Residual networks of the usual shapes, with random weights: what is timed does not depend on training."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """Two 3 x 3 convolutions, or 1 x 1, 3 x 3, 1 x 1 when `bottleneck`, and a shortcut."""

    def __init__(self, channels: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        out = 4 * width if bottleneck else width
        plan = [(1, 1), (3, stride), (1, 1)] if bottleneck else [(3, stride), (3, 1)]
        widths = [width, width, out] if bottleneck else [width, out]
        layers: list[nn.Module] = []
        previous = channels
        for (kernel, step), target in zip(plan, widths, strict=True):
            layers += [nn.Conv2d(previous, target, kernel, step, kernel // 2, bias=False), nn.BatchNorm2d(target)]
            layers += [nn.ReLU()]
            previous = target
        self.branch = nn.Sequential(*layers[:-1])
        self.shortcut = nn.Identity()
        if stride != 1 or channels != out:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.branch(x) + self.shortcut(x))


def _stages(widths: list[int], depths: list[int], bottleneck: bool) -> tuple[nn.Sequential, int]:
    blocks, channels = [], widths[0]
    for i, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        for j in range(depth):
            blocks.append(Block(channels, width, 2 if i and not j else 1, bottleneck))
            channels = 4 * width if bottleneck else width
    return nn.Sequential(*blocks), channels


def residual_network(name: str) -> nn.Sequential:
    """ "resnet20" (32 x 32, 10 classes), "resnet18" or "resnet50" (224 x 224, 1000 classes), seeded, in eval mode."""
    torch.manual_seed(0)
    if name == "resnet20":
        body, channels = _stages([16, 32, 64], [3, 3, 3], bottleneck=False)
        stem = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
        classes = 10
    else:
        deep = name == "resnet50"
        body, channels = _stages([64, 128, 256, 512], [3, 4, 6, 3] if deep else [2, 2, 2, 2], deep)
        stem = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        classes = 1000
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]
    return nn.Sequential(*stem, body, *head).eval()
