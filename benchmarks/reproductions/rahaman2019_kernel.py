"""Rahaman et al. 2019, frequency components of the fit of MNIST: eigenvectors of a kernel, smooth ones first.

    python benchmarks/reproductions/rahaman2019_kernel.py --mnist mnist_train.npz

Published: 2,000 images of 3 and 8, RBF kernel of width 1.25 on pixels in [0, 1], white noise on -1 .. 1 added to the
labels, 6 layers of 256 units, Adam at 1e-4, 5,000 steps; coefficients in bins of 20 eigenvectors.
Scaled: 800 images, Adam at 3e-4, 1,000 steps, two networks.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from rahaman2019_claims import claim, conclude, figures, options, trained
from rahaman2019_label_noise import two_digits

import fastfreq as ff
from fastfreq.vocabulary.statistics import rank_correlation


def main() -> None:
    chosen = options(__doc__ or "", seeds=(51, 52), mnist=True, steps=1000, rate=3e-4, width=256, samples=800)
    images, labels = two_digits(chosen.mnist, (3, 8), chosen.samples)
    train = functools.partial(
        ff.training.kernel_learning, images, labels, seeds=chosen.seeds,
        recipe=ff.training.Recipe(
            checkpoint=chosen.checkpoint,
            network=functools.partial(ff.training.relu_network, width=chosen.width),
            optimizer=functools.partial(torch.optim.Adam, lr=chosen.rate), steps=chosen.steps, record_every=20,
        ),
    )  # fmt: skip
    found = trained(chosen, "kernel", train)
    rho = found.rank_correlation()
    runs = [found.runs[seed] for seed in found.seeds]
    half = np.array([np.searchsorted(-run.loss, -0.5 * run.loss[0]) for run in runs]).clip(0, len(found.steps) - 1)
    early = [rank_correlation(np.arange(run.error.shape[1]), run.error[i]) for run, i in zip(runs, half, strict=True)]
    dips = [run.pure_loss.min() for run in runs]
    rises = [run.pure_loss[-1] / run.pure_loss.min() for run in runs]
    claims = [
        claim("rank correlation of bin and step at which it is learnt", "smooth first", rho, rho > 0.7),
        claim("rank correlation of bin and error, at half of the first loss", "positive", early, np.array(early) > 0.7),
        claim("loss against labels without noise: least", "dips", dips, np.array(dips) < 0.2),
        claim("the same: last over least", "rises", rises, np.array(rises) > 1.3),
    ]
    shown = {
        "learnt_at": found.first_hit(),
        "dip_at": [found.steps[run.pure_loss.argmin()] for run in runs],
        "last_loss": [run.loss[-1] for run in runs],
    }
    conclude(
        "kernel", chosen, {"kernel": found}, claims,
        published="5,000 steps: bins of smooth eigenvectors are fitted first; a dip at step 150 to 200",
        scaled=f"{chosen.samples} images, {chosen.steps} steps at {chosen.rate:g}, {len(chosen.seeds)} networks",
        figures=figures(shown),
    )  # fmt: skip


if __name__ == "__main__":
    main()
