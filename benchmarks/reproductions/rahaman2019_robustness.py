"""Rahaman et al. 2019, perturbed parameters: a network's low frequencies survive random steps in their space.

    python benchmarks/reproductions/rahaman2019_robustness.py

Published: frequencies 10, 15, ..., 50, 200 points, 6 layers of 256 units, Adam at 3e-4, 60,000 steps, 5 networks, 100
directions for each of 100 deltas up to 5. That is

    python ... --frequencies 10 15 20 25 30 35 40 45 50 --samples 200 --width 256 --rate 3e-4 --steps 60000

Scaled: frequencies 2, 4, ..., 16, 100 points, 6 layers of 128 units, 6,000 steps of Adam at 1e-3 on a cosine, two
networks, 6 deltas. What is not fitted has no robustness: after 7,000 steps at the published frequencies networks of 256
units had only 0.06 to 0.6 of the highest ones, whose ratios then say nothing.

At the published frequencies, width, rate, steps and directions (results/
rahaman2019_robustness_published_frequencies.json) two networks have at least .55 of every frequency, and rank
correlations of -.98 and -.97 at delta 3; 30,000 steps at 1e-3 on a cosine left one of two with .2 of k = 50, and -.63.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from rahaman2019_claims import claim, conclude, figures, options, trained

import fastfreq as ff


def main() -> None:
    chosen = options(
        __doc__ or "", seeds=(21, 22), steps=6000, rate=1e-3, width=128, samples=100, directions=100,
        frequencies=tuple(range(2, 17, 2)), deltas=(0.5, 1.0, 2.0, 3.0, 4.0, 5.0),
    )  # fmt: skip
    recipe = ff.training.Recipe(
        checkpoint=chosen.checkpoint,
        network=functools.partial(ff.training.relu_network, width=chosen.width),
        optimizer=functools.partial(torch.optim.Adam, lr=chosen.rate),
        schedule=functools.partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=chosen.steps),
        steps=chosen.steps,
    )
    train = functools.partial(
        ff.training.parameter_robustness, chosen.frequencies, deltas=chosen.deltas, directions=chosen.directions,
        samples=chosen.samples, seeds=chosen.seeds, recipe=recipe,
    )  # fmt: skip
    found = trained(chosen, "robustness", train)
    rho = {delta: found.rank_correlation(delta) for delta in found.deltas}
    fitted = np.array([found.runs[seed].fitted for seed in found.seeds])
    low, high = found.mean_ratio[:, 0], found.mean_ratio[:, -1]
    claims = [
        claim("learnt: least amplitude / target's", "> 0.5", fitted.min(), fitted.min() > 0.5),
        *[
            claim(f"rank correlation of frequency and ratio, delta {delta:g}", "<= -0.85 at 3", r, r <= -0.85)
            for delta, r in rho.items()
        ],
        claim("ratio of the lowest over that of the highest, by delta", "> 1", low / high, low > high),
    ]
    shown = {"frequencies": found.frequencies, "deltas": found.deltas, "fitted": fitted, "ratio": found.mean_ratio}
    conclude(
        "robustness", chosen, {"robustness": found}, claims,
        published="5 networks, 100 directions: low frequencies are robust, high ones fall first",
        scaled=f"k {chosen.frequencies[0]} to {chosen.frequencies[-1]}, width {chosen.width}, {chosen.steps} steps, "
        f"{chosen.directions} directions, {len(chosen.seeds)} networks",
        figures=figures(shown),
    )  # fmt: skip


if __name__ == "__main__":
    main()
