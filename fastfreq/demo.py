"""The built-in example: real handwritten digits and three small networks that were trained on them."""

from __future__ import annotations

from importlib import resources
from typing import Literal

import torch
from safetensors.torch import load
from torch import Tensor, nn

NETWORKS = ("natural", "gaussian", "adversarial")
EPS = 2.5
"""L2 norm of the example's perturbations: a root mean square of 0.31 per pixel.

Digits have several times the contrast of photographs, so they need more than the 0.125 of the paper's 4.0 at 32 x 32.
"""


def load_digits(split: Literal["train", "test"] = "test") -> tuple[Tensor, Tensor]:
    """Scikit-learn's handwritten digits: images (n, 1, 8, 8) in [0, 1] and labels (n,).

    Of every nine images in their order the last four are held out, so the split never moves: 1,000 images to train
    on, 797 to test on.

    Raises:
        ImportError: scikit-learn is not installed.
        ValueError: a split that is neither "train" nor "test".

    Source: UCI "Optical Recognition of Handwritten Digits", test part, 1,797 images of 8 x 8 in 17 grey levels.
    """
    if split not in ("train", "test"):
        raise ValueError(f"expected the split 'train' or 'test', got {split!r}")
    try:
        from sklearn.datasets import load_digits as load_sklearn_digits
    except ImportError as error:
        raise ImportError("expected scikit-learn for the digits; pip install 'fastfreq[demo]'") from error
    pixels, target = load_sklearn_digits(return_X_y=True)
    images = torch.as_tensor(pixels).float().view(-1, 1, 8, 8) / 16
    labels = torch.as_tensor(target).long()
    held_out = torch.arange(len(labels)) % 9 >= 5
    keep = held_out if split == "test" else ~held_out
    return images[keep], labels[keep]


class DigitsNet(nn.Module):
    """Four 3 x 3 convolutions with batch norm at full resolution, global average pooling, a linear head.

    Without pooling in between, what the network does with high frequencies is its own choice.
    """

    def __init__(self) -> None:
        super().__init__()
        widths = (1, 24, 32, 32, 48)
        layers: list[nn.Module] = []
        for before, after in zip(widths, widths[1:], strict=False):
            layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], 10)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, 10) of images (n, 1, 8, 8) in [0, 1]."""
        return self.head(self.features(images).mean(dim=(2, 3)))


def load_network(name: str) -> DigitsNet:
    """One of the trained networks, in evaluation mode: "natural", "gaussian" or "adversarial".

    Made by ``benchmarks/reproductions/train_demo_networks.py``.

    Raises:
        ValueError: there is no such network.
    """
    if name not in NETWORKS:
        raise ValueError(f"expected a network of {', '.join(NETWORKS)}, got {name!r}")
    weights = load((resources.files("fastfreq") / "demo_weights" / f"{name}.safetensors").read_bytes())
    network = DigitsNet()
    network.load_state_dict(weights)
    return network.eval()
