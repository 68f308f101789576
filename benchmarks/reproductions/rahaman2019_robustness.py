"""Rahaman et al. 2019, Figure 2: low frequencies of a trained network survive random steps in parameter space.

    python benchmarks/reproductions/rahaman2019_robustness.py

Published: frequencies 10, 15, ..., 50, 200 points, 6 layers of 256 units, Adam at 3e-4, 60,000 steps, 5 networks, 100
directions for each of 100 deltas up to 5.
Scaled: 7,000 steps of Adam at 1e-3 on a cosine, with which all frequencies are fitted, two networks, 6 deltas.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from rahaman2019_claims import claim, conclude, figures, options, trained

import fastfreq as ff


def main() -> None:
    chosen = options(__doc__ or "", seeds=(21, 22), steps=7000, directions=100, deltas=(0.5, 1.0, 2.0, 3.0, 4.0, 5.0))
    recipe = ff.training.Recipe(
        optimizer=functools.partial(torch.optim.Adam, lr=1e-3),
        schedule=functools.partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=chosen.steps),
        steps=chosen.steps,
    )
    train = functools.partial(
        ff.training.parameter_robustness, tuple(range(10, 51, 5)), deltas=chosen.deltas, directions=chosen.directions,
        seeds=chosen.seeds, recipe=recipe,
    )  # fmt: skip
    found = trained(chosen, "robustness", train)
    rho = {delta: found.rank_correlation(delta) for delta in chosen.deltas}
    fitted = np.array([found.runs[seed].fitted for seed in found.seeds])
    claims = [
        claim("all frequencies are fitted: least amplitude / target's", "near 1", fitted.min(), fitted.min() > 0.8),
        *[claim(f"rank correlation of frequency and ratio, delta {delta:g}", "<= -0.85 at 3", r, r <= -0.85)
          for delta, r in rho.items()],
    ]  # fmt: skip
    shown = {
        "frequencies": found.frequencies,
        "deltas": found.deltas,
        "fitted": fitted,
        "ratio": found.mean_ratio,
        "last_loss": [found.runs[seed].loss[-1] for seed in found.seeds],
    }
    conclude(
        "robustness", chosen, {"robustness": found}, claims,
        published="5 networks, 100 directions: low frequencies are robust, high ones fall first",
        scaled=f"{chosen.steps} steps at 1e-3 on a cosine, {len(chosen.seeds)} networks, {len(chosen.deltas)} deltas",
        figures=figures(shown),
    )  # fmt: skip


if __name__ == "__main__":
    main()
