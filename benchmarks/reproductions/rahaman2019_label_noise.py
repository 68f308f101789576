"""Rahaman et al. 2019, Figure 5: a wave of low frequency in the labels of MNIST ruins validation, one of high does not.

    python benchmarks/reproductions/rahaman2019_label_noise.py --mnist mnist_train.npz

Published: digits 3 and 8, all of them, 80 % to train on, 6 layers of 256 units, Adam at 1e-4, 5,000 steps on all
samples at once; k = 0.05, 0.2, 1 with amplitude 1 and others.
Scaled: the first 1,000 of these digits to train on and the next 500 to validate on, 6 layers of 128 units, Adam at
3e-4, 600 steps; k = 4 and no noise beside the published ones.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from rahaman2019_claims import claim, conclude, figures, options

import fastfreq as ff


def two_digits(path: str, digits: tuple[int, int], count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `count` images of two digits, and their labels."""
    with np.load(path, allow_pickle=False) as data:
        images, labels = data["images"], data["labels"]
    kept = np.flatnonzero(np.isin(labels, digits))[:count]
    if len(kept) < count:
        raise ValueError(f"expected {count} images of the digits {digits}, {path} has {len(kept)}")
    return images[kept], labels[kept]


def main() -> None:
    chosen = options(
        __doc__ or "", seeds=(41, 42), mnist=True, steps=600, rate=3e-4, width=128, training=1000, validation=500,
        frequencies=(0.0, 0.05, 0.2, 1.0, 4.0),
    )  # fmt: skip
    images, labels = two_digits(chosen.mnist, (3, 8), chosen.training + chosen.validation)
    n = chosen.training
    found = ff.training.label_noise(
        images[:n], labels[:n], validation=(images[n:], labels[n:]), frequencies=chosen.frequencies, seeds=chosen.seeds,
        recipe=ff.training.Recipe(
            network=functools.partial(ff.training.relu_network, width=chosen.width),
            optimizer=functools.partial(torch.optim.Adam, lr=chosen.rate), steps=chosen.steps, record_every=10,
        ),
    )  # fmt: skip
    least, last = found.least, found.last
    at = {k: i for i, k in enumerate(chosen.frequencies)}
    low, high = least[:, at[0.05]], least[:, at[4.0]]
    rise = last[:, at[4.0]] / high
    order = least[:, 1:].mean(axis=0)
    claims = [
        claim("least validation loss, k = 0.05 over k = 4", "> 4", low / high, low > 4 * high),
        claim("k = 4: last over least validation loss", "> 2", rise, rise > 2),
        claim("k = 4: least over that without noise", "near", high / least[:, 0], high < 6 * least[:, 0]),
        claim("least validation loss falls with k", "falls", order, np.diff(order) < 0),
    ]  # fmt: skip
    shown = {"frequencies": found.frequencies, "least": least, "last": last, "norms": found.norms}
    conclude(
        "label_noise", chosen, {"": found}, claims,
        published="5,000 steps: low k ruins the validation loss from the start, for high k it dips, then rises",
        scaled=f"{n} + {chosen.validation} images, width {chosen.width}, {chosen.steps} steps at {chosen.rate:g}",
        figures=figures(shown),
    )  # fmt: skip


if __name__ == "__main__":
    main()
