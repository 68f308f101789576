"""E, Ma, Wu 2019 (1912.12777): which rates the frequency principle follows from, and five ways in which it fails.

    python benchmarks/reproductions/e2019_frequency_order.py --out e

The text was not at hand: rates |k|^(2 s) |sigma^(k)|^2 and the five modes are our reading. What is known at second hand
is that differentiation in the loss speeds high frequencies up. Last, the tangent kernel's decay per frequency of real
networks, with the memory it takes beside that of the Jacobian, which is never formed.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from wen2024_training import Claim, table

from fastfreq import demo, plots
from fastfreq.plots import frequency_order as pictures
from fastfreq.results import store
from fastfreq.training import frequency_order, predicted_rates, tangent_kernel_decay, torus_flow

MODES = {
    "derivative_loss": "(i)", "activation": "(ii)", "density": "(iii)", "feature_learning": "(iv)", "amplitude": "(v)",
}  # fmt: skip


def exact_rates() -> dict[str, list[float]]:
    """E1: sigma(x) = (x (2 pi - x))^2, |sigma^(k)| = 24 / k^4, from its samples; rates over that of k = 1."""
    n, k = 8192, np.arange(1, 9)
    x = np.arange(n) * 2 * np.pi / n
    sigma = np.fft.fft(np.square(x * (2 * np.pi - x)), norm="forward")[k]
    rates = {s: predicted_rates(sigma, frequencies=k, order=s) for s in (0, 2, 4, 5)}
    return {str(s): (r / r[0]).tolist() for s, r in rates.items()}


def flow_error() -> float:
    """The flow against the matrix exponential of the dense kernel, 63 points, in float64."""
    n, rng = 63, np.random.default_rng(77)
    x = np.arange(n) * 2 * np.pi / n
    sigma, wanted = np.exp(np.cos(x)), rng.standard_normal(n)
    features = sigma[(np.arange(n)[:, None] - np.arange(n)[None]) % n]
    values, vectors = np.linalg.eigh(features @ features.T / n**2)
    flow = torus_flow(wanted, transform=np.fft.fft(sigma, norm="forward"), times=(0.5, 5.0, 50.0))
    truth = [wanted - vectors @ (np.exp(-values * t) * (vectors.T @ wanted)) for t in flow.times]
    return float(np.abs(flow.values - np.stack(truth)).max())


def cases(seeds: list[int], steps: int | None) -> tuple[list[dict[str, Any]], list[Any]]:
    """Each mode, where it holds and where it fails."""
    rows, shown = [], []
    for mode in MODES:
        for fails in (False, True):
            exact = mode == "density"
            for seed in seeds[: 1 if exact else None]:
                found = frequency_order(mode, fails=fails, seed=seed, steps=None if exact else steps)
                shown += [found] if seed == seeds[0] else []
                row: dict[str, Any] = {"mode": mode, "case": found.case, "seed": None if exact else seed}
                row |= {"learned at": dict(zip(found.frequencies.tolist(), map(str, found.hits()), strict=True))}
                row |= {"order": found.order(), "order of relative errors": found.order("relative")}
                row |= {
                    "rates of the tangent kernel at the start": [
                        None if np.isnan(r) else float(r) for r in found.predicted
                    ],
                    "they say": found.predicted_order,
                }
                rows.append(row)
                print(row, flush=True)
    return rows, shown


def tangent_decays(width: int, samples: int) -> dict[str, Any]:
    """Rates by frequency: networks along the first principal direction of digits, and one too wide for its Jacobian."""
    text: dict[str, Any] = {}  # the wide one first: the process's peak of memory is only known as it grows
    torch.manual_seed(5)
    net = nn.Sequential(nn.Linear(1, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)).eval()
    x = torch.linspace(0, 1, samples)[:, None]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    found = tangent_kernel_decay(net, x, frequencies=[0, 1, 2, 4, 8], chunk=64)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    text["wide"] = {
        "rates": found.rates.tolist(), "exponent": found.exponent, "parameters": found.parameters, "samples": samples,
        "Jacobian, MiB": round(4 * samples * found.parameters / 2**20, 3), "memory grown by, MiB": round(grown),
        "seconds": round(time.perf_counter() - start, 1),
    }  # fmt: skip
    print(text["wide"], flush=True)
    few = min(samples, 100)
    images, _ = demo.load_digits("train")
    flat = images.flatten(1).double().numpy()
    centred = flat - flat.mean(axis=0)
    along = centred @ np.linalg.svd(centred, full_matrices=False)[2][0]
    along = (along - along.min()) / np.ptp(along)
    for name in ("natural", "adversarial"):
        start = time.perf_counter()
        found = tangent_kernel_decay(
            demo.load_network(name), images[:few], frequencies=range(min(7, few // 4)), coordinates=along[:few]
        )
        text[f"digits, {name}"] = {
            "rates": found.rates.tolist(), "alignment": found.alignment.tolist(), "parameters": found.parameters,
            "exponent": found.exponent, "seconds": round(time.perf_counter() - start, 1),
        }  # fmt: skip
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[51, 52, 53, 54, 55])
    parser.add_argument("--steps", type=int, default=None, help="of training, in place of each case's own number")
    parser.add_argument("--width", type=int, default=2000, help="of the network whose Jacobian would be large")
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--out", type=Path, default=Path("e2019"))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    rates, error, decays = exact_rates(), flow_error(), tangent_decays(chosen.width, chosen.samples)
    rows, shown = cases(chosen.seeds, chosen.steps)
    k = np.arange(1.0, 9)
    claims = [
        Claim("flow equals the matrix exponential to 1e-13", "-", error, error < 1e-13),
        Claim("s = 0 and 2: rates fall", "holds", f"{rates['0'][1]:.3g}, {rates['2'][1]:.3g} at k = 2",
              bool((np.diff(rates["0"]) < 0).all() and (np.diff(rates["2"]) < 0).all())),
        Claim("s = 4 = alpha: all alike to 1e-6", "-", float(np.ptp(rates["4"])), float(np.ptp(rates["4"])) < 1e-6),
        Claim("s = 5: k^2 to 1e-5", "reversed", float(np.abs(rates["5"] / k**2 - 1).max()),
              bool(np.abs(rates["5"] / k**2 - 1).max() < 1e-5)),
    ]  # fmt: skip
    for mode, number in MODES.items():
        for case, wanted in (("holds", "holds"), ("fails", "reversed")):
            found = [row["order"] for row in rows if (row["mode"], row["case"]) == (mode, case)]
            count = f"{found.count(wanted)} of {len(found)}"
            published = "differentiation speeds high ones" if (mode, case) == ("derivative_loss", "fails") else "-"
            claims.append(Claim(f"{number} {mode}, {case}: order {wanted}", published, count, set(found) == {wanted}))
    relative = [row["order of relative errors"] for row in rows if (row["mode"], row["case"]) == ("amplitude", "fails")]
    claims.append(
        Claim("(v): relative order holds all the same", "-", str(relative.count("holds")), set(relative) == {"holds"})
    )
    wide = decays["wide"]
    share = wide["memory grown by, MiB"] / wide["Jacobian, MiB"]
    claims.append(Claim("tangent decay: memory below a tenth of n x P", "-", share, share < 0.1))
    text = {
        "published": "our reading of 1912.12777, whose text was not at hand",
        "here": {"seeds": chosen.seeds, "steps": chosen.steps, "seconds": round(time.perf_counter() - start)},
        "claims": [claim._asdict() for claim in claims],
        "rates over that of k = 1, by s": rates,
        "cases": rows,
        "tangent kernels": decays,
    }
    print(f"\n{table(claims)}")
    store.write_text(chosen.out / "e2019_frequency_order.json", json.dumps(text, indent=2) + "\n")
    plots.save_png(pictures.plot_many(shown), chosen.out / "e2019_frequency_order.png")


if __name__ == "__main__":
    main()
