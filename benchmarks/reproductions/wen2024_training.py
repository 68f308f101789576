"""What the reproductions of Wen and Jacot 2024 share: training with loss + lambda ||theta||^2, and a first small task.

The paper gives depth, channels, lambda and the pooling's beta; optimiser, rate, batch and number of steps are ours.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastfreq import plots
from fastfreq.core import store
from fastfreq.core.bottleneck import BottleneckResult
from fastfreq.layers.cyclic import CyclicNet
from fastfreq.layers.ranks import decay_schedule, parameter_norm

Batch = Callable[[torch.Generator], tuple[Tensor, Tensor]]
Loss = Callable[[Tensor, Tensor], Tensor]


def initialise(net: CyclicNet, *, seed: int, gain: float = 1.4) -> CyclicNet:
    """Gaussian weights of standard deviation gain / sqrt(fan in), biases zero.

    1.4 keeps the energy of images of low frequency, which the pooling passes on, through relu and any depth; images
    at frequencies with m_w < 1 need 1.4 / m_w.
    """
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


def parameter_groups(net: CyclicNet, rate: float) -> list[dict[str, Any]]:
    """Adam's rates: rate / n for filters of n pixels, rate / 16 for biases and head.

    Adam moves every pixel of a filter by its rate, hence the filter's value at frequency zero by n times as much:
    with one rate for all sizes, training of small images is slow or that of large ones never begins.
    """
    filters = [{"params": [layer.weight], "lr": rate / math.prod(layer.size)} for layer in net.convolutions]
    others = [layer.bias for layer in net.convolutions] + ([] if net.head is None else list(net.head.parameters()))
    return [*filters, {"params": others, "lr": rate / 16}]


def train(
    net: CyclicNet,
    batch: Batch,
    loss: Loss,
    *,
    decay: float,
    steps: int,
    rate: float = 0.075,
    ramp: bool = True,
    seed: int = 0,
    report: Callable[[int, float], None] = lambda _step, _loss: None,
) -> float:
    """Adam with a cosine rate on loss + decay ||theta||^2; the loss of the last batch, without the decay.

    With a ramp the decay grows from a hundredth to its full value over the first half: at full value from the start
    deep networks go to zero before they have learnt anything.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(parameter_groups(net, rate))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    value = math.nan
    for step in range(steps):
        inputs, targets = batch(generator)
        fit = loss(net(inputs), targets)
        penalty = decay_schedule(step, steps, decay=decay) if ramp else decay
        (fit + penalty * parameter_norm(net)).backward()
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

    mse = torch.nn.functional.mse_loss
    error = train(net, batch, mse, decay=decay / layers, steps=steps, rate=0.048, ramp=False, seed=seed)
    return net.eval(), error


def read_idx(path: Path) -> np.ndarray:
    """An array of an idx file of bytes, packed by gzip or not: the usual MNIST files."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        data = file.read()
    if data[:3] != b"\0\0\x08":
        raise ValueError(f"expected an idx file of bytes, such as t10k-images-idx3-ubyte.gz, {path} is none")
    shape = struct.unpack(f">{data[3]}I", data[4 : 4 + 4 * data[3]])
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def first_phase(images: np.ndarray, axis: int) -> np.ndarray:
    """(n,) angle of sum_p x_p exp(2 pi i p / side) of images (n, h, w): the place of their mass on the circle."""
    side = images.shape[1 + axis]
    return np.angle(images.sum(axis=2 - axis) @ np.exp(2j * np.pi * np.arange(side) / side))


def circular_fit(phase: np.ndarray, place: np.ndarray) -> float:
    """Best R^2 of place = +-phase + constant, both angles: 1 - var(residual) / var(place), about circular means."""
    residuals = [_about_mean(place - sign * phase).var() for sign in (1, -1)]
    return float(1 - min(residuals) / _about_mean(place).var())


def _about_mean(angle: np.ndarray) -> np.ndarray:
    return np.angle(np.exp(1j * angle) * np.conj(np.exp(1j * angle).mean()))


def options(
    description: str, *, steps: int, decay: float, layers: int = 8, channels: int = 16, mnist: bool = False
) -> argparse.Namespace:
    """Command line of a reproduction; one thread and no denormals, which slow these small networks tenfold."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    if mnist:
        parser.add_argument("--images", type=Path, required=True, help="idx file of images")
        parser.add_argument("--labels", type=Path, required=True, help="idx file of labels")
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--layers", type=int, default=layers)
    parser.add_argument("--channels", type=int, default=channels)
    parser.add_argument("--decay", type=float, default=decay, help="lambda of loss + lambda ||theta||^2")
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--rate", type=float, default=0.075, help="change of a filter at frequency zero, per step")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("wen2024"), help="folder for the JSON and the figures")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.set_flush_denormal(True)
    return chosen


def train_as_chosen(
    net: CyclicNet, batch: Batch, loss: Loss, chosen: argparse.Namespace, *, gain: float = 1.4
) -> float:
    """Initialise and train by the command line's numbers, printing the loss; the seconds it took."""
    start = time.perf_counter()
    initialise(net, seed=chosen.seed, gain=gain)
    train(
        net, batch, loss, decay=chosen.decay, steps=chosen.steps, rate=chosen.rate, seed=chosen.seed,
        report=lambda step, value: print(f"step {step}: loss {value:.4g}", flush=True),
    )  # fmt: skip
    net.eval()
    return time.perf_counter() - start


def conclude(
    name: str,
    chosen: argparse.Namespace,
    result: BottleneckResult,
    *,
    published: str,
    seconds: float,
    measured: dict[str, Any],
    checks: dict[str, bool],
) -> None:
    """Print and write the numbers, and draw the paper's figure beside them."""
    text = {
        "published": published,
        "here": {key: getattr(chosen, key) for key in ("layers", "channels", "decay", "steps", "batch", "rate", "seed")}
        | {"input": list(result.spectrum.input_size), "training seconds": round(seconds)},
        "measured": {key: round(value, 4) if isinstance(value, float) else value for key, value in measured.items()},
        "kept by most middle layers": {str(k): count for k, count in result.network_kept.items()},
        "rank": round(result.rank_cbn, 3),
        "gaps": {layer: round(result.kept[layer].gap, 2) for layer in result.layers},
        "reproduced": checks,
    }
    print(json.dumps(text, indent=2), flush=True)
    store.write_text(chosen.out / f"{name}.json", json.dumps(text, indent=2) + "\n")
    plots.save_png(result.plot(), chosen.out / f"{name}.png")
