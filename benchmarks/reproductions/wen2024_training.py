"""What the reproductions of Wen and Jacot 2024 share: training with loss + lambda ||theta||^2, and a first small task.

The paper gives depth, channels, lambda and the pooling's beta; optimiser, rate, batch and number of steps are ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fastfreq.layers.cyclic import CyclicNet
from fastfreq.layers.ranks import parameter_norm

Batch = Callable[[torch.Generator], tuple[Tensor, Tensor]]


def initialise(net: CyclicNet, *, seed: int, gain: float = 1.4) -> CyclicNet:
    """Gaussian weights of standard deviation gain / sqrt(fan in), biases zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in net.convolutions:
            fan_in = layer.weight[0].numel()
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) * gain / math.sqrt(fan_in))
            layer.bias.zero_()
        if net.head is not None:
            net.head.weight.copy_(torch.randn(net.head.weight.shape, generator=generator) / net.head.in_features**0.5)
            net.head.bias.zero_()
    return net


def train(
    net: CyclicNet,
    batch: Batch,
    loss: Callable[[Tensor, Tensor], Tensor],
    *,
    decay: float,
    steps: int,
    rate: float = 3e-3,
    seed: int = 0,
    report: Callable[[int, float], None] = lambda _step, _loss: None,
) -> float:
    """Adam with a cosine rate on loss + decay ||theta||^2; the loss of the last batch, without the decay."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(net.parameters(), rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    value = math.nan
    for step in range(steps):
        inputs, targets = batch(generator)
        fit = loss(net(inputs), targets)
        (fit + decay * parameter_norm(net)).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        value = fit.item()
        if step % max(1, steps // 20) == 0:
            report(step, value)
    return value


def band_pass(*, seed: int, steps: int = 2500, decay: float = 4e-3) -> tuple[CyclicNet, float]:
    """A network of 6 layers and 8 channels on 16 pixels that learns to pass frequencies 0 and 1 of white noise."""
    layers, channels, n = 6, 8, 16
    net = initialise(CyclicNet([1, *[channels] * (layers - 1), 1], (n,), beta=0.5), seed=seed)
    band = torch.zeros(n)
    band[[0, 1, -1]] = 1

    def batch(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x = torch.randn(64, 1, n, generator=generator)
        return x, torch.fft.ifft(torch.fft.fft(x) * band).real

    error = train(net, batch, torch.nn.functional.mse_loss, decay=decay / layers, steps=steps, seed=seed)
    return net.eval(), error
