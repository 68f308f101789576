"""Rahaman et al. 2019, label noise: a wave of low frequency in MNIST's labels ruins validation, one of high dips.

    python benchmarks/reproductions/rahaman2019_label_noise.py --mnist mnist_train.npz

Published: digits 3 and 8, all of them, 80 % to train on, 6 layers of 256 units, Adam at 1e-4, 5,000 steps on all
samples at once; k = 0.05, 0.2, 1 with amplitude 1 and others.
Scaled: the first 1,500 of these digits to train on and the next 500 to validate on, 6 layers of 128 units, Adam at
3e-4, 300 steps; k = 0.02, 4 and no noise beside the published ones.

Low is relative to the norms |x|. Those of 3 and 8 are 9.8 +- 1.5: sin(2 pi 0.05 |x|) is near zero there, and a network
that learns all of it has a validation loss of only 0.2 from it, which is where the published curve stays too. At 0.02
the wave is near 1. Digits 0 and 1 have norms of 8.9 +- 2.3 and are told apart more easily. Of scikit-learn's digits,
below 5 or not, norms are 3.9 +- 0.3: there sin(2 pi 0.05 |x|) is near 1, and the factor of 4 is from there (1,000 to
train on, twice the steps).
"""

from __future__ import annotations

import functools
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rahaman2019_claims import claim, conclude, figures, options, trained

import fastfreq as ff
from fastfreq import demo


def two_digits(path: Path, digits: tuple[int, int], count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `count` images of two digits, and their labels."""
    with np.load(path, allow_pickle=False) as data:
        images, labels = data["images"], data["labels"]
    kept = np.flatnonzero(np.isin(labels, digits))[:count]
    if len(kept) < count:
        raise ValueError(f"expected {count} images of the digits {digits}, {path} has {len(kept)}")
    return images[kept], labels[kept]


def measured(chosen: Namespace, digits: tuple[int, int], frequencies: tuple[float, ...]) -> Any:
    n = chosen.training
    images, labels = two_digits(chosen.mnist, digits, n + chosen.validation)
    return ff.training.label_noise(
        images[:n], labels[:n], validation=(images[n:], labels[n:]), frequencies=frequencies, seeds=chosen.seeds,
        recipe=recipe(chosen, chosen.steps),
    )  # fmt: skip


def recipe(chosen: Namespace, steps: int) -> ff.training.Recipe:
    return ff.training.Recipe(
        checkpoint=chosen.checkpoint, network=functools.partial(ff.training.relu_network, width=chosen.width),
        optimizer=functools.partial(torch.optim.Adam, lr=chosen.rate), steps=steps, record_every=10,
    )  # fmt: skip


def small_digits(chosen: Namespace) -> Any:
    """Digits of 8 x 8 pixels, below 5 or not."""
    (images, labels), held_out = (demo.load_digits(split) for split in ("train", "test"))
    return ff.training.label_noise(
        images, labels >= 5, validation=(held_out[0], held_out[1] >= 5), frequencies=(0.0, 0.05, 4.0),
        seeds=chosen.seeds, recipe=recipe(chosen, 2 * chosen.steps),
    )  # fmt: skip


def main() -> None:
    chosen = options(
        __doc__ or "", seeds=(41, 42), mnist=True, steps=300, rate=3e-4, width=128, training=1500, validation=500
    )
    first = functools.partial(measured, chosen, (3, 8), (0.0, 0.02, 0.05, 0.2, 1.0, 4.0))
    second = functools.partial(measured, chosen, (0, 1), (0.0, 0.05, 4.0))
    found, easier = trained(chosen, "label_noise", first), trained(chosen, "label_noise_0_and_1", second)
    small = trained(chosen, "label_noise_small_digits", lambda: small_digits(chosen))
    every = {"3 and 8": found, "0 and 1": easier, "small digits": small}
    claims = []
    for name, result in every.items():
        k, least, last = list(result.frequencies), result.least, result.last
        for low in (0.02, 0.05):
            if low in k:
                ratio = least[:, k.index(low)] / least[:, k.index(4.0)]
                claims.append(claim(f"{name}: least validation loss, k = {low:g} over k = 4", "> 4", ratio, ratio > 4))
        rise = last[:, k.index(4.0)] / least[:, k.index(4.0)]
        clean = least[:, k.index(4.0)] - least[:, 0]
        claims.append(claim(f"{name}: k = 4, last over least validation loss", "> 2", rise, rise > 2))
        claims.append(claim(f"{name}: k = 4, least less that without noise", "near 0", clean, clean < 0.1))
    middle = found.least.mean(axis=0)[1:]
    claims.append(claim("3 and 8: least validation loss by k", "falls", middle, np.diff(middle) < 0))
    shown = {
        name: {
            "frequencies": r.frequencies, "least": r.least, "least_at": [row["least_at"] for row in r.table()],
            "last": r.last, "norms": r.norms,
        }
        for name, r in every.items()
    }  # fmt: skip
    conclude(
        "label_noise", chosen, {"label_noise": found, "label_noise_0_and_1": easier, "label_noise_small_digits": small},
        claims,
        published="5,000 steps, 3 and 8: at k = 0.05 the loss stays near 0.2; at high k it dips, then rises",
        scaled=f"{chosen.training} images, width {chosen.width}, {chosen.steps} steps at {chosen.rate:g}",
        figures=figures(shown),
    )  # fmt: skip


if __name__ == "__main__":
    main()
