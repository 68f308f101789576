"""How many forward passes a heat map of a stated precision takes, and how its intervals cover, on measured outcomes.

    python benchmarks/reproductions/precision_goal.py --data cifar10.npz --limit 1000 --maps 2000 \\
        --network natural nets.py:resnet20 natural.safetensors --network adversarial nets.py:robust robust.safetensors

Every network's outcomes at all frequencies of all images are measured once; then each map is simulated by drawing the
order of the images, so that what it should find is known exactly. Passes count pilots, controls and clean images, in
images per cell. `fixed` is the number that a guaranteed half-width needs of every cell without replacement,
`oracle` 4 p (1 - p) of it with the shares known. With --source images are drawn with replacement.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fastfreq as ff
from fastfreq.inputs.adaptive_heatmap import plans
from fastfreq.inputs.adaptive_heatmap.controlled import Controlled, spread
from fastfreq.inputs.adaptive_heatmap.measurement import margin
from fastfreq.results import store
from fastfreq.vocabulary import finite_samples

# method, whether for the whole map, and which share of the maps
RUNS = (
    ("controls", False, 1),
    ("exact", False, 1),
    ("controls", True, 4),
    ("exact", True, 4),
    ("anytime", False, 20),
)


class Recorded(torch.nn.Module):
    """Keeps the margin of every prediction: what plans read."""

    def __init__(self, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
        super().__init__()
        self.model, self.images, self.labels = model, images, labels

    @torch.inference_mode()
    def outcomes(self, *, eps: float, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(frequencies, wrong (f, n), margins (f, n), clean margins (n,)) with common signs."""
        kernels = ff.kernels
        convention = ff.CONVENTIONS["common_signs"]
        shape = tuple(self.images.shape[1:])
        frequencies = ff.heatmap(self.model, self.images[:4], self.labels[:4], eps=eps, size=size).frequencies
        waves = torch.from_numpy(convention.oriented(frequencies, shape[1:]))
        margins, clean = [], []
        for i in range(len(self.images)):
            image, label = self.images[i : i + 1].float() / 255, self.labels[i : i + 1]
            signs = kernels.fourier_signs(torch.tensor([i]), waves, shape, seed=0, common=True)
            moved = kernels.fourier_perturb(image, waves, signs, eps=eps, phase=convention.phase, clip=True)
            logits = self.model(torch.cat([image, moved]))
            each = margin(logits, label.expand(len(logits)))
            clean.append(float(each[0]))
            margins.append(each[1:].numpy().astype(np.float16))
        margins = np.stack(margins, axis=1)
        return frequencies, margins < 0, margins, np.array(clean)


def simulated(method: str, goal: float, whole: bool, drawn: int | None, maps: int, measured: Any) -> dict[str, Any]:
    """Passes per cell and coverage over maps."""
    frequencies, wrong, margins, clean = measured
    cells, n = wrong.shape
    truth, rng = wrong.mean(axis=1), np.random.default_rng(0)
    confidence = 1 - 0.05 / (cells if whole else 1)
    population = n if drawn is None else None
    order = spread(frequencies, 40)
    passes, covered, widths = [], np.zeros((maps, cells), bool), []
    for i in range(maps):
        ranks = rng.permutation(n) if drawn is None else rng.integers(0, n, drawn)
        plan: plans.Plan = {
            "controls": lambda: Controlled(goal, confidence, population, order, step=4),
            "exact": lambda: plans.Exact(goal, confidence, population),
            "anytime": lambda: plans.Anytime(goal, confidence, population),
        }[method]()
        known = plans.Known(np.zeros(cells, np.int64), wrong[:, ranks], margins[:, ranks], clean[ranks])
        while (counts := plan.next_counts(known)) is not None:
            known = plans.Known(counts, known.wrong, known.margins, known.clean)
        _, low, high = plan.read(known)
        covered[i] = (low <= truth + 1e-12) & (truth <= high + 1e-12)
        passes.append((known.counts.sum() + known.counts.max()) / cells)
        widths.append((high - low).max() / 2)
    fixed = finite_samples.fixed_draws(goal, population)
    variance = 4 * truth * (1 - truth)
    oracle = (
        variance.mean() * fixed
        if population is None
        else (1 / (1 / (variance * 1 / (1 / fixed - 1 / n)) + 1 / n)).mean()
    )
    return {
        "maps": maps,
        "passes per cell": round(float(np.mean(passes)), 1),
        "of fixed": round(float(np.mean(passes)) / fixed, 3),
        "of oracle": round(float(np.mean(passes)) / float(oracle), 3),
        "fixed": fixed,
        "coverage": round(float(covered.mean()), 4),
        "standard error": round(float(covered.mean(axis=1).std() / maps**0.5), 4),
        "coverage of the worst cell": round(float(covered.mean(axis=0).min()), 4),
        "maps covered in all cells": round(float(covered.all(axis=1).mean()), 4),
        "largest half-width": round(float(np.max(widths)), 5),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--network", nargs=3, action="append", required=True, metavar=("NAME", "SPEC", "WEIGHTS"))
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--maps", type=int, default=2000)
    parser.add_argument("--eps", type=float, default=4.0)
    parser.add_argument("--size", type=int, default=17)
    parser.add_argument("--goal", type=float, default=0.03)
    parser.add_argument("--source", type=int, metavar="N", help="draw N images with replacement too")
    parser.add_argument("--out", type=Path, default=Path("precision_goal"))
    options = parser.parse_args()
    data = ff.load_data(options.data, limit=options.limit)
    batches = list(data)
    images, labels = torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])
    if images.dtype != torch.uint8:
        images = (images * 255).round().to(torch.uint8)
    figures: dict[str, Any] = {}
    for name, spec, weights in options.network:
        model = ff.load_model(spec, weights=weights).model
        measured = Recorded(model, images, labels).outcomes(eps=options.eps, size=options.size)
        found = figures.setdefault(name, {"mean error": round(float(measured[1].mean()), 3)})
        for method, whole, share in RUNS:
            maps = max(1, options.maps // share)
            key = f"{method}, {'whole map' if whole else 'per cell'}"
            found[key] = simulated(method, options.goal, whole, None, maps, measured)
            print(name, key, found[key], flush=True)
            write(options, len(images), figures)
        if options.source:
            key = "controls, per cell, source"
            found[key] = simulated("controls", options.goal, False, options.source, options.maps // 10, measured)
            print(name, key, found[key], flush=True)
            write(options, len(images), figures)


def write(options: argparse.Namespace, images: int, figures: dict[str, Any]) -> None:
    """What is known so far."""
    text = {"images": images, "eps": options.eps, "size": options.size, "half-width": options.goal}
    store.write_text(options.out / "precision_goal.json", json.dumps(text | {"networks": figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
