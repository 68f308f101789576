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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fastfreq import plots
from fastfreq.layers.bottleneck_result import Bottleneck
from fastfreq.layers.cyclic import CyclicNet
from fastfreq.layers.ranks import decay_schedule, squared_parameter_norm
from fastfreq.plots.bottleneck import describe_kept
from fastfreq.results import store

Batch = Callable[[torch.Generator], tuple[Tensor, Tensor]]
Loss = Callable[[Tensor, Tensor], Tensor]
SETTINGS = ("layers", "channels", "decay", "steps", "batch", "rate", "gain", "seed")


def initialise(net: CyclicNet, *, seed: int, gain: float = 1.4) -> CyclicNet:
    """Gaussian weights of standard deviation gain / sqrt(fan in), biases zero.

    1.4 keeps the energy of images of low frequency, which the pooling passes on, through relu and any depth; at
    frequencies with m_w < 1 it falls by m_w per layer, so that these are used only where they must be. With 1.4 / m_w
    for those of Figure 3 the network learns to pass them all through, which costs more, and stays there.
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


class FrequencyAdam(torch.optim.Optimizer):
    """Adam on the Fourier coefficients of filters, with one second moment per frequency for all pairs of channels.

    Every W(w) moves by about `lr` per entry and step, whatever the size of the image. In the basis of pixels the decay
    of frequencies that the data do not need drowns in the noise of those that they do; with a second moment for each
    pair of channels steps would depend on the channels' basis, and ranks would not fall. Other parameters move by
    about `lr` per entry.
    """

    def __init__(self, net: CyclicNet, lr: float, betas: tuple[float, float] = (0.9, 0.99)) -> None:
        super().__init__(net.parameters(), {"lr": lr, "betas": betas})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step."""
        for group in self.param_groups:
            for parameter in group["params"]:
                self._move(parameter, group["lr"], group["betas"])

    def _move(self, parameter: Tensor, rate: float, betas: tuple[float, float]) -> None:
        axes = tuple(range(2, parameter.ndim))
        gradient = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
        if axes:
            gradient = torch.fft.rfftn(gradient, dim=axes)
        energy = gradient.abs().square().mean(dim=(0, 1)[: parameter.ndim], keepdim=True)
        state = self.state[parameter]
        if not state:
            state |= {"step": 0, "moments": (torch.zeros_like(gradient), torch.zeros_like(energy))}
        state["step"] += 1
        mean, square = (
            moment.lerp_(new, 1 - beta) / (1 - beta ** state["step"])
            for moment, new, beta in zip(state["moments"], (gradient, energy), betas, strict=True)
        )
        change = mean / (square.sqrt() + 1e-20)
        parameter -= rate * (torch.fft.irfftn(change, s=parameter.shape[2:], dim=axes) if axes else change)


def train(
    net: CyclicNet,
    batch: Batch,
    loss: Loss,
    optimizer: torch.optim.Optimizer,
    *,
    decay: float,
    steps: int,
    ramp: bool = True,
    seed: int = 0,
    report: Callable[[int, float], None] = lambda _step, _loss: None,
) -> float:
    """A cosine rate on loss + decay ||theta||^2; the loss of the last batch, without the decay.

    With a ramp the decay grows from a hundredth to its full value over the first half: at full value from the start
    deep networks go to zero before they have learnt anything.
    """
    generator = torch.Generator().manual_seed(seed)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    value = math.nan
    for step in range(steps):
        inputs, targets = batch(generator)
        fit = loss(net(inputs), targets)
        penalty = decay_schedule(step, steps, decay=decay) if ramp else decay
        (fit + penalty * squared_parameter_norm(net)).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        value = fit.item()
        if step % max(1, steps // 20) == 0:
            report(step, value)
    return value


def band_pass(*, seed: int, steps: int = 2500, decay: float = 4e-3) -> tuple[CyclicNet, float]:
    """A network of 6 layers and 8 channels on 16 pixels that learns to pass frequencies 0 and 1 of white noise.

    From weights with a gain of 1.4, as in deeper networks, 4 of 10 seeds keep a third channel after these steps.
    """
    layers, channels, n = 6, 8, 16
    net = initialise(CyclicNet([1, *[channels] * (layers - 1), 1], (n,), beta=0.5), seed=seed, gain=1.0)
    band = torch.zeros(n)
    band[[0, 1, -1]] = 1

    def batch(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x = torch.randn(64, 1, n, generator=generator)
        return x, torch.fft.ifft(torch.fft.fft(x) * band).real

    mse, adam = torch.nn.functional.mse_loss, torch.optim.Adam(net.parameters(), lr=0.003)
    error = train(net, batch, mse, adam, decay=decay / layers, steps=steps, ramp=False, seed=seed)
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
    description: str,
    *,
    steps: int,
    layers: int,
    decay: float,
    gain: float,
    channels: int = 12,
    batch: int = 48,
    rate: float = 0.02,
    mnist: bool = False,
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
    parser.add_argument("--batch", type=int, default=batch)
    parser.add_argument("--rate", type=float, default=rate, help="change of each entry of W(w) per step, at first")
    parser.add_argument(
        "--gain", type=float, default=gain, help="standard deviation of weights x sqrt(fan in), at first"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("wen2024"), help="folder for the JSON and the figures")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.set_flush_denormal(True)
    return chosen


def train_as_chosen(net: CyclicNet, batch: Batch, loss: Loss, chosen: argparse.Namespace) -> float:
    """Initialise and train by the command line's numbers, printing the loss; the seconds it took."""
    start = time.perf_counter()
    initialise(net, seed=chosen.seed, gain=chosen.gain)
    train(
        net, batch, loss, FrequencyAdam(net, chosen.rate), decay=chosen.decay, steps=chosen.steps, seed=chosen.seed,
        report=lambda step, value: print(f"step {step}: loss {value:.4g}", flush=True),
    )  # fmt: skip
    net.eval()
    return time.perf_counter() - start


class Claim(NamedTuple):
    """One row of a figure's table."""

    claim: str
    published: str
    measured: str | float
    holds: bool


def gaps(result: Bottleneck) -> tuple[str, bool]:
    """The gap of each middle layer, last value kept / first not kept, and whether all have one."""
    kept = [result.kept[layer] for layer in result.middle]
    return ", ".join(f"{k.gap:.2g}" if k.found else "none" for k in kept), all(k.found for k in kept)


def table(claims: Sequence[Claim]) -> str:
    """Claims as columns of text: claim, published, measured, holds."""
    cells = [
        (c.claim, c.published, f"{c.measured:.3g}" if isinstance(c.measured, float) else c.measured) for c in claims
    ]
    rows = [(*Claim._fields,), *((*row, "yes" if c.holds else "no") for row, c in zip(cells, claims, strict=True))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def conclude(
    name: str,
    chosen: argparse.Namespace,
    result: Bottleneck,
    claims: Sequence[Claim],
    *,
    published: str,
    seconds: float,
    details: dict[str, Any],
) -> None:
    """Print the claims, write them with all numbers, and draw the paper's figure."""
    text = {
        "published": published,
        "here": {key: getattr(chosen, key) for key in SETTINGS}
        | {"input": list(result.spectrum.input_size), "training seconds": round(seconds)},
        "claims": [claim._asdict() for claim in claims],
        "details": details,
        "kept by most middle layers": {str(k): count for k, count in result.network_kept.items()},
        "kept": {layer: describe_kept(result.kept_frequencies(layer)) for layer in result.layers},
        "gaps": {layer: round(result.kept[layer].gap, 2) for layer in result.layers},
        "rank": round(result.rank_cbn, 3),
    }
    print(f"{name}, {seconds:.0f} s of training\n\n{table(claims)}", flush=True)
    store.write_text(chosen.out / f"{name}.json", json.dumps(text, indent=2) + "\n")
    plots.save_png(result.plot(), chosen.out / f"{name}.png")
