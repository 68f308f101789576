"""Wen and Jacot 2024, Figure 3: shapes of low frequency on a pattern of high frequency are kept apart.

    python benchmarks/reproductions/wen2024_figure3.py

Published: 10 layers of 60 channels, lambda 0.0005, beta 0.25; the images have energy around (5, 5) only, and the
bottleneck keeps frequencies with |w|_1 <= 2 for the shape and one, (5, 5), for the pattern.
Scaled, to take minutes on one core: 10 layers of 12 channels on 15 x 15 pixels, lambda 0.01 beside a loss that is the
mean over pixels. An image is
s(p) cos(2 pi 5 (p_1 + p_2) / 15 + phi), with a random phase phi and a shape s of random Fourier coefficients at
|w|_1 <= 2, shifted and scaled to reach from 0 to 1; the network learns to return its input.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from wen2024_training import Claim, conclude, gaps, options, train_as_chosen

from fastfreq.layers.bottleneck import bottleneck
from fastfreq.layers.cyclic import CyclicNet

PUBLISHED = "10 layers of 60 channels, lambda 0.0005, beta 0.25; |w|_1 <= 2 and one pair, (5, 5), are kept"
SIDE, PATTERN, REACH = 15, 5, 2


def make_images(count: int, generator: torch.Generator) -> Tensor:
    """(count, 1, 15, 15): positive shapes with |w|_1 <= 2 times the pattern."""
    k = torch.fft.fftfreq(SIDE, 1 / SIDE)
    low = (k[:, None].abs() + k[None].abs()) <= REACH
    shape = torch.fft.ifft2(torch.fft.fft2(torch.randn(count, SIDE, SIDE, generator=generator)) * low).real
    shape = shape - shape.amin(dim=(1, 2), keepdim=True)
    shape = shape / shape.amax(dim=(1, 2), keepdim=True)
    phase = 2 * math.pi * torch.rand(count, 1, 1, generator=generator)
    place = torch.arange(SIDE)
    pattern = torch.cos(2 * math.pi * PATTERN * (place[:, None] + place[None]) / SIDE + phase)
    return (shape * pattern)[:, None]


def split(kept: dict[tuple[int, ...], int]) -> tuple[int, int, int]:
    """How many frequencies are kept at 0 < |w|_1 <= 2, within one of +-(5, 5), and elsewhere."""
    low = {k for k in kept if 0 < sum(map(abs, k)) <= REACH}
    near = {k for k in kept if min(np.abs(np.add(k, PATTERN)).max(), np.abs(np.subtract(k, PATTERN)).max()) <= 1}
    return len(low), len(near), len(set(kept) - low - near - {(0, 0)})


def main() -> None:
    chosen = options(__doc__ or "", steps=1000, decay=0.01, layers=10, gain=1.2)
    size = (SIDE, SIDE)
    net = CyclicNet([1, *[chosen.channels] * (chosen.layers - 1), 1], size, beta=0.25)

    def batch(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x = make_images(chosen.batch, generator)
        return x, x

    seconds = train_as_chosen(net, batch, torch.nn.functional.mse_loss, chosen)
    test = make_images(200, torch.Generator().manual_seed(chosen.seed + 1))
    with torch.no_grad():
        error = ((net(test) - test).square().mean() / test.square().mean()).item()
    result = bottleneck(net, input_size=(1, *size))
    low, near, elsewhere = split(result.network_kept)
    claims = [
        Claim("learnt: error / energy below 0.1", "not given", error, error < 0.1),
        Claim("every middle layer has a gap", "yes", *gaps(result)),
        Claim("frequencies kept near (5, 5), both of a pair", "2", str(near), near == 2),
        Claim("frequencies kept at |w|_1 <= 2, besides (0, 0)", "some of 12", str(low), low > 0),
        Claim("frequencies kept elsewhere", "0", str(elsewhere), elsewhere == 0),
    ]
    conclude("figure3", chosen, result, claims, published=PUBLISHED, seconds=seconds, details={})


if __name__ == "__main__":
    main()
