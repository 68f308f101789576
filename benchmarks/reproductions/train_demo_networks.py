"""Train the three networks of `fastfreq report`: naturally, with Gaussian noise, and adversarially.

    python benchmarks/reproductions/train_demo_networks.py [--out DIR]

The trade-off of Yin et al. 2019, Figure 3, in small and in relative terms: the natural network breaks most at high
frequencies, the other two only at low ones. In absolute terms they are also better at most low frequencies, where the
paper's adversarially trained network is worse; a few cells, such as (0, +-2), go the paper's way. What differs
from the paper: 8 x 8 digits instead of CIFAR-10, a 31,000-parameter network instead
of a WideResNet, Gaussian noise with a fixed standard deviation, PGD in L2 as in their
appendix. One seed, one thread: the same weights every time on one machine.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

import fastfreq as ff
from fastfreq import demo
from fastfreq.results import store
from fastfreq.vocabulary import fourier

EPOCHS, BATCH = 30, 50
NOISE = 0.3  # standard deviation per pixel
RADIUS, STEPS = 1.0, 7  # L2 ball and steps of PGD


def pgd(net: nn.Module, images: Tensor, labels: Tensor, *, radius: float, steps: int) -> Tensor:
    """L2 projected gradient ascent on the loss from a random start, clipped to [0, 1]."""

    def project(delta: Tensor) -> Tensor:
        norm = delta.flatten(1).norm(dim=1).clamp_min(1e-12)[:, None, None, None]
        delta = delta * (radius / norm).clamp(max=1)
        return (images + delta).clamp(0, 1) - images

    delta = project(torch.randn_like(images) * radius / 8)
    net.eval()  # batch statistics belong to the training step, not to the search
    for _ in range(steps):
        delta.requires_grad_(True)
        (gradient,) = torch.autograd.grad(F.cross_entropy(net(images + delta), labels, reduction="sum"), delta)
        norm = gradient.flatten(1).norm(dim=1).clamp_min(1e-12)[:, None, None, None]
        delta = project(delta.detach() + 2.5 * radius / steps * gradient / norm)
    return (images + delta).detach()


def train(name: str, images: Tensor, labels: Tensor) -> demo.DigitsNet:
    """One network, trained on perturbed images as its name says."""
    torch.manual_seed(0)
    net = demo.DigitsNet()
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=EPOCHS * -(-len(images) // BATCH))
    for _ in range(EPOCHS):
        for index in torch.randperm(len(images)).split(BATCH):
            batch, target = images[index], labels[index]
            if name == "gaussian":
                batch = (batch + NOISE * torch.randn_like(batch)).clamp(0, 1)
            elif name == "adversarial":
                batch = pgd(net, batch, target, radius=RADIUS, steps=STEPS)
            net.train()
            loss = F.cross_entropy(net(batch), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval()


def summary(net: nn.Module, images: Tensor, labels: Tensor) -> dict[str, float]:
    """Clean and PGD accuracy, and the mean error of the map at low and at high frequencies."""
    result = ff.heatmap(net, images, labels, eps=demo.EPS)
    grid = np.abs(fourier.centred_grid((8, 8))).max(axis=-1)
    attacked = pgd(net, images, labels, radius=RADIUS, steps=20)
    with torch.inference_mode():
        robust = float((net(attacked).argmax(dim=1) == labels).float().mean())
    return {
        "clean accuracy": 1 - result.clean_error,
        "PGD accuracy": robust,
        "error, max(|ky|, |kx|) <= 1": float(result.error[grid <= 1].mean()),
        "error, max(|ky|, |kx|) >= 3": float(result.error[grid >= 3].mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(demo.__file__).parent / "demo_weights"
    parser.add_argument("--out", type=Path, default=default, help="default: where the package keeps them")
    out = parser.parse_args().out
    torch.set_num_threads(1)
    images, labels = demo.load_digits("train")
    test_images, test_labels = demo.load_digits("test")
    for name in demo.NETWORKS:
        net = train(name, images, labels)
        with store.atomic_path(out / f"{name}.safetensors") as temporary:
            save_file({k: v.contiguous() for k, v in net.state_dict().items()}, temporary)
        figures = summary(net, test_images, test_labels)
        print(f"{name:12s}", ", ".join(f"{k} {v:.3f}" for k, v in figures.items()), flush=True)


if __name__ == "__main__":
    main()
