"""Luo, Ma, Xu, Zhang 2019 (1906.09235): what share of the loss's decrease high frequencies have, per activation.

    python benchmarks/reproductions/luo2019_high_frequency_share.py --out luo

Published, from memory, as the text was not at hand: in the initial, intermediate and final stage the share above eta is
at most C eta^-m, m up to 2 k - 1 for activations in W^(k, inf). Here: networks of two hidden layers, PyTorch's default
weights with the first layer times --gain so that features are as fine as the target, float64.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from wen2024_training import Claim, table

from fastfreq import plots
from fastfreq.plots import _frame
from fastfreq.plots import high_frequency_share as pictures
from fastfreq.results import store
from fastfreq.training import high_frequency_share

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "ReLU": nn.ReLU, "ELU": nn.ELU, "tanh": nn.Tanh, "Mish": nn.Mish, "SiLU": nn.SiLU, "GELU": nn.GELU,
}  # fmt: skip
# how |sigma^(k)| decays, and so the expected order from the slowest to the fastest share; GELU's e^(-k^2 / 2) is above
# SiLU's e^(-pi k) up to k = 2 pi
DECAY = {"ReLU": "k^-2", "ELU": "k^-3", "tanh": "e^(-pi k / 2)", "Mish": "e^(-3 pi k / 4)", "SiLU": "e^(-pi k)"}
DECAY |= {"GELU": "e^(-k^2 / 2)"}
EXPECTED = ("ReLU", "ELU", "tanh", "Mish", "SiLU")


def target(points: np.ndarray) -> np.ndarray:
    return np.sin(2 * points[:, 0]) + np.sin(6 * points[:, 0])


def network(activation: type[nn.Module], *, width: int, gain: float, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Linear(1, width), activation(), nn.Linear(width, width), activation(), nn.Linear(width, 1)
    ).eval()
    with torch.no_grad():
        net[0].weight.mul_(gain)
        net[0].bias.mul_(gain)
    return net


KINKED, SMOOTH = ("ReLU", "ELU"), ("tanh", "Mish", "SiLU", "GELU")


def judged(
    cutoffs: list[float], starts: dict[str, list[Any]], courses: dict[str, Any]
) -> tuple[list[Claim], dict[str, Any]]:
    """Claims, and the figures that they are made of."""
    whole, octaves = len(starts["ReLU"]), math.log2(cutoffs[-1] / cutoffs[0])
    ratio = [float(r.initial[cutoffs.index(8)] / r.initial[0]) for r in starts["tanh, plain"]]
    slopes = {
        name: [-float(np.log2(r.initial[-1] / r.initial[0])) / octaves for r in starts[name]]
        for name in (*KINKED, "ReLU, plain")
    }
    mean = {name: float(np.mean(values)) for name, values in slopes.items()}
    plain = mean["ReLU, plain"]
    fits_hold = 2 <= np.mean([r.exponent() for r in starts["ReLU"]]) <= 3
    fits_hold = bool(fits_hold and 4 <= np.mean([r.exponent() for r in starts["ELU"]]) <= 5)
    fits = {name: round(float(np.mean([r.exponent() for r in starts[name]])), 2) for name in KINKED}
    middle = {name: float(np.median([r.initial[cutoffs.index(6)] for r in starts[name]])) for name in ACTIVATIONS}
    order = sorted(EXPECTED, key=lambda name: -middle[name])
    counts = {n: Counter(r.decay() for r in starts[n]) for n in ACTIVATIONS}
    fast = [counts[n]["super-polynomial"] for n in SMOOTH]
    staged = {n: {s: courses[n].decay(s) for s in ("initial", "intermediate", "final")} for n in ACTIVATIONS}
    kinds = {name: len(set(found.values()) - {"unclear"}) for name, found in staged.items()}
    slow = [counts[n]["super-polynomial"] for n in KINKED]
    claims = [
        Claim("tanh, gain 1: share(8) / share(2) below 1e-8", "any power", max(ratio), max(ratio) < 1e-8),
        Claim("ReLU, gain 1: mean log2 slope in [1, 4]", "1 or more", plain, 1 <= plain <= 4),
        Claim("ELU: mean log2 slope at least 3", "3 or more", mean["ELU"], mean["ELU"] >= 3),
        Claim("exponents from 2 k to 2 k + 1", "2 k - 1 or more", str(fits), fits_hold),
        Claim("ReLU, ELU: super-polynomial in no seed", "power", str(slow), not any(slow)),
        Claim("others: super-polynomial in all seeds", "any power", str(fast), set(fast) == {whole}),
        Claim("order at eta = 6 as |sigma^| says", "-", " > ".join(order), tuple(order) == EXPECTED),
        Claim("one kind of decay in all three stages", "yes", str(kinds), max(kinds.values()) == 1),
    ]  # fmt: skip
    return claims, {
        "exponents": {name: [round(r.exponent(), 2) for r in starts[name]] for name in KINKED},
        "slopes from the first to the last cutoff": slopes,
        "median at eta = 6": middle,
        "decay at the start": {name: dict(found) for name, found in counts.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[41, 42, 43, 44, 45, 46, 47, 48])
    parser.add_argument("--width", type=int, default=100)
    parser.add_argument("--gain", type=float, default=8.0)
    parser.add_argument("--steps", type=int, default=250, help="of gradient descent, for the first seed")
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--out", type=Path, default=Path("luo2019"))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    start, cutoffs = time.perf_counter(), [eta for eta in (2, 3, 4, 6, 8, 12, 16, 24, 32) if eta <= chosen.size / 112]
    starts: dict[str, list[Any]] = {}
    courses: dict[str, Any] = {}
    for name, activation in ACTIVATIONS.items():
        nets = [network(activation, width=chosen.width, gain=chosen.gain, seed=seed) for seed in chosen.seeds]
        starts[name] = [high_frequency_share(net, target, cutoffs=cutoffs, size=chosen.size) for net in nets]
        courses[name] = high_frequency_share(
            copy.deepcopy(nets[0]), target, cutoffs=cutoffs, size=chosen.size, steps=chosen.steps, records=24
        )
        print(name, [round(r.exponent(), 2) for r in starts[name]], courses[name], flush=True)
    for name in ("ReLU", "tanh"):  # the acceptance test: weights as PyTorch draws them, 200 neurons
        nets = [network(ACTIVATIONS[name], width=2 * chosen.width, gain=1.0, seed=seed) for seed in chosen.seeds]
        starts[f"{name}, plain"] = [high_frequency_share(n, target, cutoffs=cutoffs, size=chosen.size) for n in nets]
    claims, figures = judged(cutoffs, starts, courses)
    text = figures | {
        "published": "our reading of 1906.09235, whose text was not at hand",
        "here": {key: getattr(chosen, key) for key in ("seeds", "width", "gain", "steps", "size")}
        | {"seconds": round(time.perf_counter() - start)},
        "claims": [claim._asdict() for claim in claims],
        "cutoffs": cutoffs,
        "initial": {name: [[float(f"{v:.4g}") for v in r.initial] for r in starts[name]] for name in starts},
        "stages, first seed": {
            name: {
                "decay of |sigma^(k)|": DECAY[name],
                "loss": [float(r.loss[0]), float(r.loss[-1])],
                "half at step": int(r.steps[r.half]) if r.loss[r.half] <= r.loss[0] / 2 else None,
            }
            | {stage: [float(f"{v:.4g}") for v in values] for stage, values in r.stages.items()}
            | {"exponents": {s: round(r.exponent(s), 2) for s in r.stages}, "decay": {s: r.decay(s) for s in r.stages}}
            for name, r in courses.items()
        },
    }
    print(f"\n{table(claims)}")
    store.write_text(chosen.out / "luo2019_high_frequency_share.json", json.dumps(text, indent=2) + "\n")
    plots.save_png(
        pictures.plot_many({n: starts[n][0] for n in ACTIVATIONS}), chosen.out / "luo2019_high_frequency_share.png"
    )
    figure = _frame.new_figure(12.6, 7.0)
    for axes, (name, result) in zip(figure.subplots(2, 3).reshape(-1), courses.items(), strict=True):
        result.plot(ax=axes)
        axes.set_title(name, fontsize=10)
    plots.save_png(figure, chosen.out / "luo2019_stages.png")


if __name__ == "__main__":
    main()
