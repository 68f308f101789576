"""Rahaman et al. 2019, appendix: the spectrum of a network falls faster than those of nearest neighbours.

    python benchmarks/reproductions/rahaman2019_neighbours.py

Published: the network's spectrum decays faster than that of k nearest neighbours; data and sizes are not known to us.
Here: random labels of 100 random points of the unit square, 6 layers of 128 units, Adam at 1e-3, 3,000 steps, three
sets of points. In the plane jumps along curves give radius^-3/2, kinks of a continuous function radius^-5/2.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from rahaman2019_claims import claim, conclude, figures, options, trained

import fastfreq as ff


def main() -> None:
    chosen = options(__doc__ or "", seeds=(71, 72, 73), steps=3000, width=128)
    train = functools.partial(
        ff.training.neighbour_spectra, (1, 3, 5), seeds=chosen.seeds,
        recipe=ff.training.Recipe(
            checkpoint=chosen.checkpoint,
            network=functools.partial(ff.training.relu_network, width=chosen.width),
            optimizer=functools.partial(torch.optim.Adam, lr=1e-3), steps=chosen.steps, record_every=chosen.steps,
        ),
    )  # fmt: skip
    found = trained(chosen, "neighbours", train)
    own, others = found.exponents()
    share, other_shares = found.high_shares()
    loss = [found.runs[seed].loss for seed in found.seeds]
    claims = [
        claim("the network fits the points: loss, of 1", "< 0.1", loss, np.array(loss) < 0.1),
        claim("exponent of decay, network", "larger", own, own > others.max(axis=1)),
        claim("exponent of decay, 1-NN (jumps: 1.5)", "smaller", others[:, 0], abs(others[:, 0] - 1.5) < 0.2),
        claim("share of energy beyond what points say: network", "less than 1-NN", share, share < other_shares[:, 0]),
    ]
    shown = {
        "exponents": {"network": own, "neighbours": others},
        "high_shares": {"network": share, "neighbours": other_shares},
    }
    conclude(
        "neighbours", chosen, {"neighbours": found}, claims,
        published="the network's spectrum decays faster than that of k nearest neighbours",
        scaled=f"data and sizes are ours: 100 points in the plane, {chosen.steps} steps",
        figures=figures(shown),
    )  # fmt: skip


if __name__ == "__main__":
    main()
