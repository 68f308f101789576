"""First layers that images are seen through, and the last layer on top."""

from __future__ import annotations

import copy
import math
from typing import Any

import fastfreq_kernels as kernels
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastfreq.features.frames import wavelet_filters
from fastfreq.vocabulary import streams

from ._checkpoint import Checkpoint
from ._classified import Classified

GRID = 7  # rows and columns of places that a stem tells apart, at most
KERNEL, LEVELS = 5, 2
STEPS = 500  # of L-BFGS, at most
PARTS = ("epoch", "batch", "weights", "optimizer")  # of the checkpoint of a stem that learns
_RATE, _BATCH = 1e-3, 100


class FilterStem(nn.Module):
    """Filters of 5 x 5, ReLU, means over a grid.

    Args:
        filters: the convolution.
    """

    def __init__(self, filters: nn.Conv2d) -> None:
        super().__init__()
        self.filters = filters

    def forward(self, images: Tensor) -> Tensor:
        """(n, channels, 7, 7), less for smaller images."""
        return pooled(F.relu(self.filters(images)))


def pooled(maps: Tensor) -> Tensor:
    """Means over a grid of at most 7 x 7 places."""
    h, w = maps.shape[-2:]
    return F.adaptive_avg_pool2d(maps, (min(GRID, h), min(GRID, w)))


def filters(inputs: int, channels: int, seed: int) -> FilterStem:
    """Random normal filters, of variance 2 / numbers in a filter, without bias."""
    filters = nn.Conv2d(inputs, channels, KERNEL, padding=KERNEL // 2, bias=False, device="meta")  # draws nothing
    size = tuple(filters.weight.shape)
    drawn = streams.generator("training", seed).standard_normal(size) * math.sqrt(2 / math.prod(size[1:]))
    filters.weight = nn.Parameter(torch.from_numpy(drawn).float())
    return FilterStem(filters)


def learned(
    stem: FilterStem, source: Classified, classes: int, epochs: int, seed: int, checkpoint: Checkpoint
) -> FilterStem:
    """The stem after training with a last layer of its own, which is thrown away; it goes on from a checkpoint."""
    trained = copy.deepcopy(stem)
    generator = streams.generator("training", seed)
    with torch.no_grad():
        numbers = trained(source.samples[:1]).numel()
    drawn = torch.from_numpy(generator.standard_normal((classes, numbers)) / math.sqrt(numbers)).float()
    last, bias = drawn.requires_grad_(), torch.zeros(classes, requires_grad=True)
    weights = [*trained.parameters(), last, bias]
    adam = torch.optim.Adam(weights, lr=_RATE)
    order = streams.generator("training_data", seed)

    def state(epoch: int, done: int) -> dict[str, Any]:
        return dict(zip(PARTS, (epoch, done, [w.detach() for w in weights], adam.state_dict()), strict=True))

    def keep(epoch: int, done: int) -> None:
        at = f"epoch {epoch} of {epochs}, batch {done} of the stem learned from seed {seed}"
        checkpoint.keep(lambda: state(epoch, done), at=at, last=epoch == epochs)

    with torch.enable_grad(), torch.autocast("cpu", enabled=False), checkpoint.guarded():
        first, done = _go_on(checkpoint.before(), weights, adam)
        for epoch in range(epochs):
            batches = torch.from_numpy(order.permutation(len(source.classes))).split(_BATCH)
            for place in range(done, len(batches)) if epoch >= first else ():
                keep(epoch, place)
                logits = trained(source.samples[batches[place]]).flatten(1) @ last.T + bias
                adam.zero_grad()
                F.cross_entropy(logits, source.classes[batches[place]]).backward()
                adam.step()
            done = done if epoch < first else 0
        if first < epochs:
            keep(epochs, 0)
    return trained.requires_grad_(False)


@torch.no_grad()
def _go_on(before: dict[str, Any] | None, weights: list[Tensor], adam: torch.optim.Optimizer) -> tuple[int, int]:
    """Epochs, and batches of the next, that are done; weights are put where they stood."""
    if before is None:
        return 0, 0
    epoch, done, kept, settings = (before[name] for name in PARTS)
    for weight, value in zip(weights, kept, strict=True):
        weight.copy_(value)
    adam.load_state_dict(settings)
    return epoch, done


def wavelet_magnitudes(images: Tensor) -> Tensor:
    """(n, k) approximation and magnitudes of details of two levels of db4, means over at most 7 x 7 places."""
    low, high = wavelet_filters("db4")[:2]
    smooth, details = kernels.dwt2(images, low, high, mode="periodization", levels=LEVELS)
    bands = [smooth, *(level.abs().flatten(1, 2) for level in details)]
    return torch.cat([pooled(band).flatten(1) for band in bands], dim=1)


def last_layer(features: Tensor, target: Tensor, classes: int, penalty: float) -> tuple[Tensor, Tensor]:
    """(classes, k) weights and (classes,) biases at the minimum of the mean cross-entropy and the penalty, float64."""
    weight = torch.zeros(classes, features.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS(
        [weight, bias], max_iter=STEPS, max_eval=2 * STEPS, tolerance_grad=1e-7, tolerance_change=1e-12,
        history_size=20, line_search_fn="strong_wolfe",
    )  # fmt: skip

    def loss() -> Tensor:
        solver.zero_grad()
        value = F.cross_entropy(features @ weight.T + bias, target) + penalty / 2 * weight.square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        solver.step(loss)
    return weight.detach(), bias.detach()
