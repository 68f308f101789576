"""What an activation's decay does to the order of learning: fourteen activations, one network, one target.

    python benchmarks/reproductions/activation_order.py

The question is the field's own ("what about Swish and Mish?"), the figure nobody's: no published values stand beside
it. A two-layer network sum_j a_j sigma(w_j x + b_j) with |w_j| = 1 at the start learns sin x + sin 2x + ... + sin 6x on
128 even points by Adam on the full batch. While |w_j| = 1, a unit holds sigma^(k) of frequency k, so what the six
frequencies' errors do should follow `ff.training.activation_decay`: beside each activation stands how far |sigma^|
falls from k = 1 to 6. That is so exactly where the w_j stay, and b_j and a_j alone are trained; where w_j move, a unit
can become steeper and hold higher frequencies, tanh most.

Checked: low frequencies first, whatever the activation (Spearman of frequency and final error above 0); and with |w_j|
kept, a faster decay leaves more of the high ones (over the activations, Spearman of that fall and of the error at
k = 4, 5, 6). With all weights trained that does not have to hold, and its figure stands beside.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import matplotlib
import numpy as np
import torch
from scipy import stats
from torch import Tensor

import fastfreq as ff
from fastfreq import plots
from fastfreq.plots import _frame
from fastfreq.results import store
from fastfreq.training.activation_decay import KNOWN, ActivationDecay

POINTS, WIDTH = 128, 256
FREQUENCIES = np.arange(1, 7)
SHOWN = ("ReLU", "ELU", "tanh", "Mish", "SiLU", "GELU")


def trained(
    name: str, *, seeds: int, steps: int, rate: float, every: int, steeper: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Steps, and |h^ - f^| / |f^| at each of the frequencies: (records, seeds, frequencies); w moves if `steeper`."""
    random = torch.Generator().manual_seed(0)
    x = torch.arange(POINTS) / POINTS * 2 * math.pi - math.pi
    target = torch.sin(x[:, None] * torch.from_numpy(FREQUENCIES)).sum(dim=1).float()
    w = torch.randint(0, 2, (seeds, 1, WIDTH), generator=random).float() * 2 - 1
    b = (torch.rand(seeds, 1, WIDTH, generator=random) * 2 - 1) * 1.5 * math.pi
    a = torch.randn(seeds, WIDTH, 1, generator=random) / WIDTH
    parameters = [tensor.requires_grad_() for tensor in ((w, b, a) if steeper else (b, a))]
    optimiser = torch.optim.Adam(parameters, lr=rate)
    goal = torch.fft.rfft(target)[FREQUENCIES]
    at, errors = [], []
    for step in range(steps + 1):
        out = (KNOWN[name].function(x[:, None] * w + b) @ a)[..., 0]
        if step % every == 0:
            found = torch.fft.rfft(out.detach(), dim=1)[:, FREQUENCIES]
            at.append(step)
            errors.append(((found - goal).abs() / goal.abs()).numpy())
        loss: Tensor = (out - target).square().mean(dim=1).sum()  # seeds share nothing
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return np.array(at), np.stack(errors)


def fall(decay: ActivationDecay, name: str) -> float:
    """Orders of magnitude that |sigma^| loses from the lowest frequency of the target to the highest."""
    i = decay.names.index(name)
    low, high = (int(np.argmin(np.abs(decay.frequencies - k))) for k in FREQUENCIES[[0, -1]])
    return float(np.log10(decay.amplitudes[i, low] / decay.amplitudes[i, high]))


def drawn(decay: ActivationDecay, at: np.ndarray, errors: dict[str, np.ndarray], rows: list[dict[str, object]]):
    """Errors over steps of six activations, and the end against the fall for all."""
    figure = _frame.new_figure(12.5, 6.6)
    panels = figure.subplots(2, 4)
    colours = matplotlib.colormaps[_frame.SEQUENTIAL](np.linspace(0, 0.88, len(FREQUENCIES)))
    for axes, name in zip(panels[:, :3].ravel(), SHOWN, strict=True):
        median = np.median(errors[name], axis=1)
        for j, k in enumerate(FREQUENCIES):
            axes.plot(at[1:], median[1:, j], color=colours[j], label=f"k = {k}", linewidth=1.2)
        axes.set_ylim(0, 1.15)
        axes.set_xscale("log")
        i = decay.names.index(name)
        _frame.set_title(axes, f"{name}, {_law(decay.laws[i], decay.measured[i])}", width=40, size=9)
        axes.grid(alpha=0.25)
    panels[0, 0].legend(fontsize=7, frameon=False)
    for axes in panels[:, 0]:
        axes.set_ylabel("relative error")
    for axes in panels[1, :3]:
        axes.set_xlabel("step")
    for axes in panels[:, 3]:
        axes.remove()
    right = figure.add_subplot(panels[0, 3].get_gridspec()[:, 3])
    written: list[tuple[float, float]] = []
    for row in sorted(rows, key=lambda row: (row["high"], row["fall"])):
        x, y = float(row["fall"]), float(row["high"])
        right.plot(x, float(row["high, w fixed"]), "^", color=_frame.COLOURS[1], markersize=4)
        right.plot(x, y, "o", color=_frame.COLOURS[0], markersize=4)
        while any(abs(y - other) < 0.022 and abs(x - beside) < 1.5 for beside, other in written):
            y += 0.022  # labels of neighbours stand above each other
        written.append((x, y))
        right.text(x + 0.15, y, row["activation"], fontsize=7, va="center")
    right.plot([], [], "o", color=_frame.COLOURS[0], label="all weights trained")
    right.plot([], [], "^", color=_frame.COLOURS[1], label="|w| = 1 kept")
    right.legend(fontsize=7, frameon=False)
    right.set_xlabel("decades |σ̂| falls, k = 1 to 6")
    right.set_ylabel(f"median error at k = 4, 5, 6 after {at[-1]:,} steps")
    right.set_xlim(1, 9.5)
    right.grid(alpha=0.25)
    _frame.set_heading(figure, "The activation sets how late high frequencies come", width=90)
    return figure


def _law(law: str, constant: float) -> str:
    return f"k^-{constant:.2f}" if law == "power" else f"exp(-{constant:.2f} {'k²' if law == 'Gaussian' else 'k'})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--out", type=Path, default=Path("activation_order"))
    options = parser.parse_args()
    decay = ff.training.activation_decay()
    errors, rows = {}, []
    at = np.zeros(0)
    run = {"seeds": options.seeds, "steps": options.steps, "rate": options.rate, "every": 20}
    for name in KNOWN:
        at, errors[name] = trained(name, **run, steeper=True)
        kept = np.median(trained(name, **run, steeper=False)[1][-1], axis=0)
        last = np.median(errors[name][-1], axis=0)
        order = [float(stats.spearmanr(FREQUENCIES, seed).statistic) for seed in errors[name][-1]]
        rows.append(
            {
                "activation": name, "fall": fall(decay, name), "high": float(last[3:].mean()),
                "high, w fixed": float(kept[3:].mean()),
                "final errors": [round(float(value), 4) for value in last],
                "Spearman of frequency and error, by seed": [round(value, 3) for value in order],
            }
        )  # fmt: skip
        print(rows[-1], flush=True)
    held = {
        key: stats.spearmanr([r["fall"] for r in rows], [r[key] for r in rows]) for key in ("high", "high, w fixed")
    }
    lowest = min(min(row["Spearman of frequency and error, by seed"]) for row in rows)
    text = {
        "seeds": options.seeds, "steps": options.steps, "rate": options.rate, "points": POINTS, "width": WIDTH,
        "Spearman of fall and high error, and p": {
            name: [round(float(found.statistic), 3), float(f"{found.pvalue:.2g}")] for name, found in held.items()
        },
        "lowest Spearman of frequency and error": lowest, "decay": decay.table(), "activations": rows,
    }  # fmt: skip
    store.write_text(options.out / "activation_order.json", json.dumps(text, indent=2) + "\n")
    plots.save_png(drawn(decay, at, errors, rows), options.out / "activation_order.png")
    print({key: value for key, value in text.items() if key not in ("decay", "activations")})


if __name__ == "__main__":
    main()
