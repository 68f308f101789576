"""Rahaman et al. 2019, a delta function: what of it is fitted, by depth, width and weight clip.

    python benchmarks/reproductions/rahaman2019_delta.py

Published: depth raises it significantly, width considerably less, a larger weight clip too; sizes are not known to us.
Here: 64 samples, sqrt(64) at one of them, Adam at 1e-3 on a cosine, 1,000 steps, three networks each; of
depth 4, width 64 and no clip where these are not varied.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from rahaman2019_claims import claim, conclude, figures, options, trained

import fastfreq as ff


def main() -> None:
    chosen = options(__doc__ or "", seeds=(61, 62, 63), steps=1000)
    schedule = functools.partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=chosen.steps)
    recipe = ff.training.Recipe(checkpoint=chosen.checkpoint, steps=chosen.steps, schedule=schedule)
    found = trained(chosen, "delta", lambda: ff.training.delta_fit(seeds=chosen.seeds, recipe=recipe))
    reach, slopes = found.reach.mean(axis=0), {name: found.per_doubling(name) for name in ("depth", "width")}
    claims = [
        *[claim(f"share fitted, {name} {found.values[found.of(name)].tolist()}", "rises", reach[found.of(name)],
                np.diff(reach[found.of(name)]) > -0.01) for name in ("depth", "width", "clip")],
        claim("share gained per doubling of parameters: by depth, by width", "depth more", list(slopes.values()),
              slopes["depth"] > 2 * slopes["width"]),
    ]  # fmt: skip
    shown = {
        "varied": found.varied, "values": found.values, "parameters": found.parameters, "share_fitted": found.reach,
    }  # fmt: skip
    conclude(
        "delta", chosen, {"delta": found}, claims,
        published="depth strongly, width weakly, and a larger weight clip raise what is fitted",
        scaled=f"sizes are ours: 64 samples, {chosen.steps} steps",
        figures=figures(shown),
    )  # fmt: skip


if __name__ == "__main__":
    main()
