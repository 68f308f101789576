"""Rahaman et al. 2019, Figures 3 and 4: on curves of more petals high frequencies are learnt sooner.

    python benchmarks/reproductions/rahaman2019_manifolds.py

Published: 1,000 points, frequencies 20, 40, ..., 200, L = 0, 4, 10, 16, 6 layers of 256 units, Adam at 3e-4, 50,000
steps; classes on a grid of k = 50 ... 400 and L = 0 ... 20.
Scaled: 500 points, frequencies 10, 20, ..., 80, 6 layers of 128 units, Adam at 1e-3; 2,500 steps for the target and
1,200 for a grid of 4 x 4 with k = 25 ... 100, two networks for each L and one for each cell.
"""

from __future__ import annotations

import functools

import torch
from rahaman2019_claims import claim, conclude, figures, options, trained

import fastfreq as ff


def main() -> None:
    chosen = options(
        __doc__ or "", seeds=(31, 32), steps=2500, shapes=(0.0, 4.0, 10.0, 16.0), width=128,
        classes=(25, 50, 75, 100), petals=(0.0, 7.0, 14.0, 20.0), class_seeds=(33,), class_steps=1200,
    )  # fmt: skip
    settings = {
        "checkpoint": chosen.checkpoint,
        "network": functools.partial(ff.training.relu_network, width=chosen.width),
        "optimizer": functools.partial(torch.optim.Adam, lr=1e-3),
    }
    learn = functools.partial(
        ff.training.manifold_learning, chosen.shapes, frequencies=tuple(range(10, 81, 10)), samples=500,
        seeds=chosen.seeds, recipe=ff.training.Recipe(**settings, steps=chosen.steps, record_every=50),
    )  # fmt: skip
    classify = functools.partial(
        ff.training.manifold_classification, chosen.classes, shapes=chosen.petals, samples=500,
        seeds=chosen.class_seeds, recipe=ff.training.Recipe(**settings, steps=chosen.class_steps, record_every=250),
    )  # fmt: skip
    learnt, classified = trained(chosen, "manifolds", learn), trained(chosen, "manifolds_classes", classify)
    loss, high = learnt.late_loss, learnt.mean_amplitude[:, -1, -1]
    ratio = loss[:, 2] / loss[:, 0]
    by_shape, by_frequency = classified.shape_correlation(), classified.frequency_correlation()
    claims = [
        claim("late loss at L = 10 over loss at L = 0", "< 0.6", ratio, ratio < 0.6),
        claim("amplitude at the highest frequency, L = 0, 4, 10, 16", "rises", high, high[1:] > high[0]),
        claim("classes: correlation of loss and L, for each k", "negative", by_shape, by_shape < 0),
        claim("classes: correlation of loss and k, for each L", "positive", by_frequency, by_frequency > 0),
    ]  # fmt: skip
    shown = {
        "loss": loss,
        "last_amplitude": learnt.mean_amplitude[:, -1],
        "classes": {"accuracy": classified.mean_accuracy, "loss": classified.mean_loss},
    }
    conclude(
        "manifolds", chosen, {"manifolds": learnt, "manifolds_classes": classified}, claims,
        published="50,000 steps: the larger L, the sooner high frequencies are learnt (Figures 3 and 4)",
        scaled=f"500 points, k to 80, width {chosen.width}, {chosen.steps} steps at 1e-3; grid 4 x 4",
        figures=figures(shown),
    )  # fmt: skip


if __name__ == "__main__":
    main()
