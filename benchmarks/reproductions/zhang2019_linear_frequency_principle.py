"""Zhang, Xu, Luo, Ma 2019 (1905.10264) and Luo, Ma, Xu, Zhang 2020 (2010.08153): what wide ReLU networks converge to.

    python benchmarks/reproductions/zhang2019_linear_frequency_principle.py --out lfp

Published, from memory, as the text was not at hand: networks of 500 to 16,000 neurons and the prediction overlap in one
dimension; the sizes of the initial weights lead from splines to straight lines; in two dimensions values of both lie on
the diagonal; the error grows with the FP-norm. Here: widths to 60,000, float64, plain gradient descent, one thread.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.interpolate import CubicSpline
from wen2024_training import Claim, table

from fastfreq import plots
from fastfreq.plots import _frame
from fastfreq.results import store
from fastfreq.training import LFPKernel, TwoLayerReLU, fp_norm, generalization_bound, linear_frequency_principle

X = np.array([-0.9, -0.52, -0.2, 0.14, 0.47, 0.9])
Y = np.array([0.2, -0.5, 0.7, 0.3, -0.6, 0.5])
T = np.linspace(-1, 1, 401)
SCALES = ((1.0, 0.05), (1.0, 1.0), (3.0, 0.3), (3.0, 3.0))


def limits(seeds: list[int]) -> dict[str, float]:
    """B1: the largest distance of A = 0 from linear interpolation, of B = 0 from the natural cubic spline."""
    worst = {"linear": 0.0, "cubic": 0.0}
    for seed in seeds:
        rng = np.random.default_rng(seed)
        x, y = np.cumsum(rng.uniform(0.05, 1.0, 11)), rng.standard_normal(11)
        t = np.linspace(x[0], x[-1], 1001)
        truth = {"linear": np.interp(t, x, y), "cubic": CubicSpline(x, y, bc_type="natural")(t)}
        for name, kernel in (("linear", LFPKernel(1, 0.0, 1.0)), ("cubic", LFPKernel(1, 1.0, 0.0))):
            found = linear_frequency_principle(x, y, points=t, kernel=kernel).predicted[-1]
            worst[name] = max(worst[name], float(np.abs(found - truth[name]).max()))
    return worst


def lattice(cutoff: int) -> dict[str, float]:
    """B2: closed form against the lattice of waves of the paper."""
    differences, residuals = [], []
    for inner, outer in SCALES:
        kernel = TwoLayerReLU(2, inner_scale=inner, outer_scale=outer).limit_kernel()
        closed = linear_frequency_principle(X, Y, points=T, kernel=kernel)
        waves = linear_frequency_principle(X, Y, points=T, kernel=kernel, method="lattice", period=40, cutoff=cutoff)
        inside = np.abs(T) <= X[-1]  # beyond, one is periodic and the other linear
        differences.append(float(np.abs(closed.predicted - waves.predicted)[-1, inside].max()))
        residuals.append(float(np.abs(waves.residuals).max()))
    return {"largest difference": max(differences), "largest residual": max(residuals)}


def trained(width: int, seed: int, steps: int) -> dict[str, Any]:
    """B3: one network, after gradient descent, beside the prediction."""
    net = TwoLayerReLU(width, seed=seed)
    fit = net.fit(X, Y, steps=steps)
    found = linear_frequency_principle(X, Y, points=T, kernel=net.limit_kernel(), trained=net.values(T))
    return {"width": width, "seed": seed, "rms": found.rms, "correlation": found.correlation, **vars(fit)}


def plane(seed: int, width: int, trained_width: int, steps: int) -> list[dict[str, Any]]:
    """B4: eight points in two dimensions: least-norm solution of the finite width, trained network, predictions."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-1, 1, (8, 2)), rng.standard_normal(8)
    axis = np.linspace(-1, 1, 17)
    t = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    rows = []
    for form in ("offset", "bias"):
        for inner, outer in ((1.0, 0.05), (1.0, 1.0), (3.0, 3.0)):
            options: dict[str, Any] = {"dimension": 2, "form": form, "inner_scale": inner, "outer_scale": outer}
            options |= {"reach": 3.0 if form == "offset" else 3.0 * inner, "seed": seed}
            net = TwoLayerReLU(width, **options)
            least = net.tangent_kernel(t, x) @ np.linalg.solve(net.tangent_kernel(x, x), y)
            row: dict[str, Any] = {"form": form, "inner": inner, "outer": outer}
            smaller = None
            if inner == outer:  # with 0.05 plain gradient descent does not converge in any time
                smaller = TwoLayerReLU(trained_width, **options)
                row["fit"] = vars(smaller.fit(x, y, steps=steps))
            for name, published in (("exact", False), ("published", True)):
                kernel = net.limit_kernel(published=published)
                found = linear_frequency_principle(x, y, points=t, kernel=kernel, trained=least)
                row[name] = {
                    "correlation": found.correlation,
                    "relative": found.rms / float(np.sqrt(np.mean(least**2))),
                }
                if smaller is not None:
                    beside = linear_frequency_principle(x, y, points=t, kernel=kernel, trained=smaller.values(t))
                    row[name] |= {"trained correlation": beside.correlation, "trained rms": beside.rms}
                    row["figure"] = beside
            rows.append(row)
            print({k: v for k, v in row.items() if k != "figure"}, flush=True)
    return rows


def bounds(seeds: list[int]) -> list[dict[str, float]]:
    """B5: mean error of 40 samples of sines against the bound, for rising frequency."""
    kernel, t, rows = LFPKernel(1, 1.0, 1.0), np.arange(1024) / 1024, []
    for k in (1, 2, 4, 8):
        norm = fp_norm(np.sin(2 * np.pi * k * t), kernel=kernel)
        errors = []
        for seed in seeds:
            x = np.sort(np.random.default_rng(seed).uniform(0, 1, 40))
            found = linear_frequency_principle(x, np.sin(2 * np.pi * k * x), points=t, kernel=kernel).predicted[-1]
            errors.append(float(np.abs(found - np.sin(2 * np.pi * k * t)).mean()))
        bound = generalization_bound(norm, kernel=kernel, samples=40, largest=1.0)
        rows.append(
            {"frequency": k, "norm": norm, "error": float(np.mean(errors)), "worst": max(errors), "bound": bound}
        )
    return rows


def dynamics(width: int, seed: int) -> list[dict[str, float]]:
    """The network on its way, beside the prediction in its own time."""
    rows = []
    for steps in (10, 100, 1000):
        net = TwoLayerReLU(width, seed=seed)
        fit = net.fit(X, Y, steps=steps)
        found = linear_frequency_principle(
            X, Y, points=T, kernel=net.kernel(), times=[steps * fit.rate], trained=net.values(T)
        )
        rows.append({"steps": steps, "rms": found.rms, "spread": float(net.values(T).std())})
    return rows


def draw(runs: list[dict[str, Any]], rows: list[dict[str, Any]], width: int, steps: int) -> Figure:
    """Curves of two initialisations, error over width, and the plane's diagonal."""
    figure = _frame.new_figure(12.6, 4.2)
    curves, widths, diagonal = figure.subplots(1, 3)
    for (inner, outer), colour in zip(((3.0, 3.0), (3.0, 0.3)), _frame.COLOURS, strict=False):
        net = TwoLayerReLU(width, inner_scale=inner, outer_scale=outer, seed=40)
        label = f"|w| = {inner:g}, |a| = {outer:g}"
        found = linear_frequency_principle(X, Y, points=T, kernel=net.limit_kernel()).predicted[-1]
        curves.plot(T, found, color=colour, label=f"predicted, {label}")
        if inner == outer:
            net.fit(X, Y, steps=steps)
            curves.plot(T, net.values(T), "--", color="black", linewidth=1, label=f"trained, {label}")
    curves.plot(X, Y, "ko", markersize=5)
    curves.set_xlabel("input")
    curves.set_ylabel("output")
    distinct = sorted({run["width"] for run in runs})
    for run in runs:
        style = {"color": _frame.COLOURS[0 if run["converged"] else 1], "marker": "o" if run["converged"] else "x"}
        widths.plot(run["width"], run["rms"], markersize=4, **style)
    reference = 0.03 * np.sqrt(20_000 / np.array(distinct))
    widths.plot(distinct, reference, color="0.5", label="0.03 sqrt(20,000 / m)")
    widths.set_xscale("log")
    widths.set_yscale("log")
    widths.set_xlabel("width m (crosses: not converged)")
    widths.set_ylabel("rms of trained - predicted")
    for row, colour in zip([r for r in rows if "figure" in r], _frame.COLOURS, strict=False):
        found = row["figure"]
        diagonal.plot(
            found.predicted[-1],
            found.trained,
            ".",
            color=colour,
            markersize=3,
            label=f"{row['form']}, {row['inner']:g}",
        )
    diagonal.axline((0, 0), slope=1, color="0.5")
    diagonal.set_xlabel("predicted by the published gamma^2, 2-D")
    diagonal.set_ylabel("trained")
    for axes in (curves, widths, diagonal):
        axes.legend(frameon=False, fontsize=7)
        axes.grid(alpha=0.25)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102, 103, 104, 105, 106])
    parser.add_argument("--widths", type=int, nargs="+", default=[10, 30, 100, 300, 1250, 2500, 5000, 10_000, 20_000])
    parser.add_argument("--largest", type=int, default=60_000, help="width of the last runs and of the plane")
    parser.add_argument("--steps", type=int, default=20_000, help="of gradient descent at most")
    parser.add_argument("--cutoff", type=int, default=4000)
    parser.add_argument("--out", type=Path, default=Path("zhang2019"))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    start = time.perf_counter()
    b1, b2, b5 = limits(chosen.seeds), lattice(chosen.cutoff), bounds(chosen.seeds)
    jobs = [(w, s) for w in chosen.widths for s in chosen.seeds] + [(chosen.largest, s) for s in chosen.seeds[:2]]
    runs = []
    for width, seed in jobs:
        runs.append(trained(width, seed, chosen.steps if width >= 1000 else min(chosen.steps, 5000)))
        print(runs[-1], flush=True)
    wide = [r for r in runs if r["width"] >= 1000]
    mean = {
        w: float(np.sqrt(np.mean([r["rms"] ** 2 for r in runs if r["width"] == w]))) for w in {r["width"] for r in runs}
    }
    fitted = sorted({r["width"] for r in wide}) or sorted(mean)
    slope = (
        float(np.polyfit(np.log(fitted), np.log([mean[w] for w in fitted]), 1)[0]) if len(fitted) > 1 else float("nan")
    )
    widest = max(chosen.widths)
    rows = plane(chosen.seeds[0], chosen.largest, widest, min(chosen.steps, 5000))
    exact = [row["exact"]["correlation"] for row in rows]
    beside = [row["exact"]["trained correlation"] for row in rows if "fit" in row]
    published = [row["published"]["correlation"] for row in rows if row["form"] == "offset"]
    worst = max(r["rms"] for r in runs if r["width"] == widest)
    errors = [row["error"] for row in b5]
    claims = [
        Claim("A = 0: distance from linear interpolation, 1e-10", "the same", b1["linear"], b1["linear"] < 1e-10),
        Claim("B = 0: distance from the natural spline, 1e-10", "the same", b1["cubic"], b1["cubic"] < 1e-10),
        Claim("lattice of waves within .01", "-", b2["largest difference"], b2["largest difference"] < 0.01),
        Claim("residual of the lattice below 1e-8", "0", b2["largest residual"], b2["largest residual"] < 1e-8),
        Claim(f"rms at width {widest:,} at most .03, worst seed", "curves overlap", worst, worst <= 0.03),
        Claim("error falls as m^(-.5 +- .1), widths from 1,000", "-", slope, abs(slope + 0.5) <= 0.1),
        Claim("2-D, exact operator: least correlation .985", "on the diagonal", min(exact), min(exact) >= 0.985),
        Claim("2-D, trained: least correlation .985", "on the diagonal", min(beside), min(beside) >= 0.985),
        Claim("2-D, gamma^2 of 1905.10264, offsets: .985", "on the diagonal", min(published), min(published) >= 0.985),
        Claim(
            "error rises with the FP-norm",
            "yes",
            ", ".join(f"{e:.3g}" for e in errors),
            bool((np.diff(errors) > 0).all()),
        ),
        Claim(
            "bound above every error",
            "yes",
            min(r["bound"] / r["worst"] for r in b5),
            all(r["bound"] >= r["worst"] for r in b5),
        ),
    ]
    text = {
        "published": "our reading of 1905.10264 and 2010.08153, whose texts were not at hand",
        "here": {"seeds": chosen.seeds, "steps at most": chosen.steps, "seconds": round(time.perf_counter() - start)},
        "claims": [claim._asdict() for claim in claims],
        "mean rms by width": {str(w): mean[w] for w in sorted(mean)},
        "runs": runs,
        "on the way, in the network's time": dynamics(min(widest, 20_000), chosen.seeds[0]),
        "two dimensions": [{k: v for k, v in row.items() if k != "figure"} for row in rows],
        "bound": b5,
    }
    print(f"\n{table(claims)}")
    store.write_text(chosen.out / "zhang2019_linear_frequency_principle.json", json.dumps(text, indent=2) + "\n")
    picture = draw(runs, rows, widest, min(chosen.steps, 5000))
    plots.save_png(picture, chosen.out / "zhang2019_linear_frequency_principle.png")


if __name__ == "__main__":
    main()
