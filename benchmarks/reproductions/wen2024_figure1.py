"""Wen and Jacot 2024, Figure 1: a network that classifies MNIST keeps constant frequencies only.

    python benchmarks/reproductions/wen2024_figure1.py --images t10k-images-idx3-ubyte.gz \\
        --labels t10k-labels-idx1-ubyte.gz

Published: 28 x 28, 11 layers of 60 channels, lambda 0.005, beta 0.5, down-sampling by 2 at layers 2 and 4, a linear
classifier on the mean over pixels; six singular values at frequency zero are near 1, all others near 0.
Scaled, to take minutes on one core: 8 layers of 16 channels on the 10,000 test images (the last 1,000 held out),
mean-pooled to 14 x 14, one down-sampling by 2 at layer 2.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from wen2024_training import conclude, options, read_idx, train_as_chosen

from fastfreq.core.bottleneck import BottleneckResult
from fastfreq.layers.bottleneck import bottleneck
from fastfreq.layers.cyclic import CyclicNet

PUBLISHED = "28 x 28, 11 layers of 60 channels, lambda 0.005, beta 0.5; six values at frequency zero kept, no other"
SIZE = (14, 14)


def load(images: Path, labels: Path) -> tuple[Tensor, Tensor]:
    pixels = torch.from_numpy(read_idx(images).copy()).float()[:, None] / 255
    return torch.nn.functional.avg_pool2d(pixels, 2), torch.from_numpy(read_idx(labels).astype(np.int64))


def strongest(result: BottleneckResult, layer: str) -> tuple[list[float], float]:
    """The singular values of a layer at frequency zero, and the largest one elsewhere."""
    spectrum = result.spectrum[layer]
    zero = ~spectrum.frequencies.any(axis=1)
    return spectrum.distinct[zero][0].round(2).tolist(), round(float(spectrum.distinct[~zero].max()), 2)


def main() -> None:
    chosen = options(__doc__ or "", steps=6000, decay=0.005, mnist=True)
    images, labels = load(chosen.images, chosen.labels)
    held_out = len(images) - len(images) // 10
    strides = [1, 2, *[1] * (chosen.layers - 2)]
    net = CyclicNet([1, *[chosen.channels] * chosen.layers], SIZE, beta=0.5, strides=strides, classes=10)

    def batch(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        rows = torch.randint(held_out, (chosen.batch,), generator=generator)
        return images[rows], labels[rows]

    seconds = train_as_chosen(net, batch, torch.nn.functional.cross_entropy, chosen)
    with torch.no_grad():
        accuracy = (net(images[held_out:]).argmax(dim=1) == labels[held_out:]).double().mean().item()
    result = bottleneck(net, input_size=(1, *SIZE))
    zero, elsewhere = {}, {}
    for layer in result.middle:
        zero[layer], elsewhere[layer] = strongest(result, layer)
    kept = {layer: result.kept_frequencies(layer) for layer in result.middle}
    conclude(
        "figure1",
        chosen,
        result,
        published=PUBLISHED,
        seconds=seconds,
        measured={
            "held-out accuracy": accuracy,
            "values at frequency zero": zero,
            "largest value elsewhere": elsewhere,
            "kept at zero": {layer: found.get((0, 0), 0) for layer, found in kept.items()},
        },
        checks={
            "learnt: held-out accuracy at least 0.9": accuracy >= 0.9,
            "every middle layer has a gap": all(result.kept[layer].found for layer in result.middle),
            "middle layers keep frequency zero only": all(set(found) == {(0, 0)} for found in kept.values()),
        },
    )


if __name__ == "__main__":
    main()
