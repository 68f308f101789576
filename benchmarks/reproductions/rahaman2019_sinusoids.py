"""Rahaman et al. 2019, Figure 1: ten sinusoids of equal and of growing amplitudes, and the norms of the layers.

    python benchmarks/reproductions/rahaman2019_sinusoids.py

Published: frequencies 5, 10, ..., 50, 200 points, 6 layers of 256 units, Adam at 3e-4, 80,000 steps, 10 networks (the
authors' notebooks: 60,000 steps, 20 networks); low frequencies first in both settings, norms grow as high ones come.
Scaled: 40,000 steps, by which every frequency is learnt, and two networks of each setting. Single networks swap
neighbouring frequencies: rank correlations .88 to .99 of each, .99 and 1 of the mean amplitudes.
"""

from __future__ import annotations

import functools

import numpy as np
from rahaman2019_claims import claim, conclude, figures, options, trained

import fastfreq as ff

AMPLITUDES = {"equal": 1.0, "growing": 0.1 * np.arange(1, 11)}


def main() -> None:
    chosen = options(__doc__ or "", seeds=(11, 12), steps=40_000)
    recipe = ff.training.Recipe(checkpoint=chosen.checkpoint, steps=chosen.steps, record_every=100)
    results, claims, shown = {}, [], {}
    for name, amplitudes in AMPLITUDES.items():
        settings = {"amplitudes": amplitudes, "seeds": chosen.seeds, "recipe": recipe}
        train = functools.partial(ff.training.sinusoid_learning, **settings)
        found = results[f"sinusoids_{name}"] = trained(chosen, f"sinusoids_{name}", train)
        rho, early = found.rank_correlation(), found.amplitude_correlation(min(2000, chosen.steps))
        mean = found.mean_rank_correlation()
        at = found.record_of(min(2000, chosen.steps))
        low = np.array([found.runs[seed].amplitude[at, 0] for seed in found.seeds])
        high = np.array([found.runs[seed].amplitude[at, -1] for seed in found.seeds])
        norms = found.mean_norms
        grown = [norms[i, 1:-1].mean() for i in (0, at, -1)]
        claims += [
            claim(f"{name}: rank correlation of frequency and step, mean of networks", ">= 0.9", mean, mean >= 0.9),
            claim(f"{name}: the same of each network", ">= 0.9", rho, rho >= 0.9),
            claim(f"{name}: of frequency and amplitude, step 2,000", "<= -0.85", early, early <= -0.85),
            claim(f"{name}: amplitude at k = 5, step 2,000", ">= 0.9", low, low >= 0.9),
            claim(f"{name}: amplitude at k = 50, step 2,000", "<= 0.15", high, high <= 0.15),
            claim(f"{name}: norms of all layers grow", "yes", norms[-1] / norms[0], norms[-1] > norms[0]),
            claim(f"{name}: inner layers' norms at step 0, 2,000 and the last", "rise", grown, np.diff(grown) > 0),
        ]  # fmt: skip
        shown[name] = {
            "frequencies": found.frequencies,
            "learnt_at": found.first_hit(),
            "learnt_at_with_phase": found.first_hit(by="error"),
            "rank_correlation_with_phase": found.rank_correlation(by="error"),
            "last_amplitude": found.mean_amplitude[-1],
            "norms_of_layers": {"first": norms[0], "step_2000": norms[at], "last": norms[-1]},
        }
    conclude(
        "sinusoids", chosen, results, claims,
        published="80,000 steps, 10 networks: low before high in both settings; layers' norms grow",
        scaled=f"{chosen.steps} steps, {len(chosen.seeds)} networks",
        figures=figures(shown),
    )  # fmt: skip


if __name__ == "__main__":
    main()
