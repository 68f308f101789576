"""How many forward passes a heat map of a stated precision takes, and how its intervals cover, on measured outcomes.

    python benchmarks/reproductions/precision_goal.py --data cifar10.npz --limit 1000 --maps 2000 --outcomes OUTCOMES \\
        --network natural nets.py:resnet20 natural.safetensors --network adversarial nets.py:robust robust.safetensors

Every network's outcomes at all frequencies of all images are measured once, and kept in --outcomes; then each map is
simulated by drawing the order of the images, so that what it should find is known exactly. Passes count pilots,
controls and clean images, in images per cell. `fixed` is the number that a guaranteed half-width needs of every cell
without replacement, `oracle` 4 p (1 - p) of it with the shares known. With --source images are drawn with replacement.
A later run adds to what --out holds: other networks, or other --runs of the same.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fastfreq as ff
from fastfreq.data import Preprocessing
from fastfreq.inputs.adaptive_heatmap import plans
from fastfreq.inputs.adaptive_heatmap.controlled import Controlled
from fastfreq.inputs.adaptive_heatmap.rounds import margin
from fastfreq.results import store
from fastfreq.vocabulary import finite_samples, fourier

# method, whether for the whole map, whether images are drawn with replacement
RUNS = {
    "controls": ("controls", False, False),
    "exact": ("exact", False, False),
    "controls, whole map": ("controls", True, False),
    "exact, whole map": ("exact", True, False),
    "controls, source": ("controls", False, True),
    "exact, source": ("exact", False, True),
    "anytime": ("anytime", False, False),
}
MADE = [(0.1, 0.02), *((share, noise) for share in (0.01, 0.02, 0.05, 0.1, 0.3, 0.5) for noise in (0.1, 0.3, 1.0))]
_CHANCE = 3.5  # standard errors: one of 145 cells that cover as they should is further off in one of 30 runs


@dataclasses.dataclass(frozen=True)
class Recorded:
    """Outcomes of all images at all frequencies: what plans read.

    Attributes:
        frequencies: (f, 2).
        margins: (f, n) with common signs; wrong below zero.
        clean: (n,) margins of the images as they are.
    """

    frequencies: np.ndarray
    margins: np.ndarray
    clean: np.ndarray

    @classmethod
    @torch.inference_mode()
    def measured(
        cls, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, *, eps: float, size: int, seed: int
    ) -> Recorded:
        """Of every image, as uint8, one after the other."""
        convention = ff.CONVENTIONS["common_signs"]
        c, h, w = images.shape[1:]
        shape = (int(c), int(h), int(w))
        frequencies, _ = fourier.unique_frequencies(shape[1:], (size, size))
        waves = torch.from_numpy(convention.oriented(frequencies, shape[1:]))
        margins = []
        for i in range(len(images)):
            image = images[i : i + 1].float() / 255
            signs = ff.kernels.fourier_signs(torch.tensor([i]), waves, shape, seed=seed, common=True)
            moved = ff.kernels.fourier_perturb(image, waves, signs, eps=eps, phase=convention.phase, clip=True)
            logits = model(torch.cat([image, moved]))
            margins.append(margin(logits, labels[i : i + 1].expand(len(logits))).numpy())
        every = np.stack(margins, axis=1)
        return cls(frequencies, every[1:].astype(np.float16), every[0].astype(np.float64))

    @classmethod
    def kept(cls, path: Path | None, measure: Callable[[], Recorded]) -> Recorded:
        """What a file holds, or measured and written there."""
        if path is not None and path.exists():
            with np.load(path) as arrays:
                return cls(**arrays)
        found = measure()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path, **dataclasses.asdict(found))
        return found

    @classmethod
    def made(cls, share: float, noise: float) -> Recorded:
        """A share of errors among clean images, and cells of them with some noise: nearly the same errors in all cells,
        which is the hardest for intervals of large samples where they are few, or none that tell of others."""
        rng = np.random.default_rng(0)
        frequencies, _ = fourier.unique_frequencies((32, 32), (5, 5))
        clean = rng.standard_normal(1000)
        clean -= np.quantile(clean, share)
        margins = clean + noise * rng.standard_normal((len(frequencies), 1000))
        return cls(frequencies, margins.astype(np.float16), clean)

    @property
    def wrong(self) -> np.ndarray:
        """(f, n) bool."""
        return self.margins < 0


def simulated(run: str, goal: float, maps: int, measured: Recorded, *, source: int = 3000) -> dict[str, Any]:
    """Passes per cell and coverage over maps."""
    method, whole, replaced = RUNS[run]
    wrong, frequencies = measured.wrong, measured.frequencies
    cells, n = wrong.shape
    truth, rng = wrong.mean(axis=1), np.random.default_rng(0)
    population = None if replaced else n
    passes, covered, widths = [], np.zeros((maps, cells), bool), []
    for i in range(maps):
        ranks = rng.integers(0, n, source) if replaced else rng.permutation(n)
        plan = planned(method, goal, 1 - 0.05 / (cells if whole else 1), population, frequencies, seed=i)
        known = plans.Known.nothing(wrong[:, ranks], measured.margins[:, ranks], measured.clean[ranks])
        while (wanted := plan.next_wanted(known)) is not None:
            known = known.after(wanted)
        _, low, high = plan.read(known)
        covered[i] = (low <= truth + 1e-12) & (truth <= high + 1e-12)
        passes.append((known.counts.sum() + known.images) / cells)
        widths.append((high - low).max() / 2)
    each = covered.mean(axis=0)
    return {"maps": maps, **prices(float(np.mean(passes)), goal, truth, population)} | {
        "coverage": round(float(covered.mean()), 4),
        "standard error": round(float(covered.mean(axis=1).std() / maps**0.5), 4),
        "cells": cells,
        "cells below .95 by more than chance": int((each < 0.95 - _CHANCE * (0.95 * 0.05 / maps) ** 0.5).sum()),
        "coverage of the worst cell": round(float(each.min()), 4),
        "its share of errors": round(float(truth[each.argmin()]), 3),
        "maps covered in all cells": round(float(covered.all(axis=1).mean()), 4),
        "largest half-width": round(float(np.max(widths)), 5),
    }


def planned(
    method: str, goal: float, confidence: float, population: int | None, frequencies: np.ndarray, *, seed: int
) -> plans.Plan:
    """The plan that `adaptive_heatmap` follows."""
    if method == "controls":
        return Controlled(goal, confidence, population, frequencies, seed=seed)
    return {"exact": plans.Exact, "anytime": plans.Anytime}[method](goal, confidence, population)


def prices(passes: float, goal: float, truth: np.ndarray, population: int | None) -> dict[str, Any]:
    """Passes of one cell beside those of a fixed number for all, and of the oracle."""
    fixed = finite_samples.fixed_draws(goal, population)
    share = 0.0 if population is None else 1 / population
    # fewer images than there are: 1 / n - 1 / N is what a standard error allows for a variance
    needs = 1 / (np.maximum(1 / fixed - share, 1e-12) / np.maximum(4 * truth * (1 - truth), 1e-12) + share)
    return {
        "passes per cell": round(passes, 1),
        "of fixed": round(passes / fixed, 3),
        "of oracle": round(passes / float(needs.mean()), 3),
        "fixed": fixed,
    }


def outcome_options(parser: argparse.ArgumentParser) -> None:
    """Which outcomes, for `recorded`."""
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--network", nargs=3, action="append", default=[], metavar=("NAME", "SPEC", "WEIGHTS"))
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--crop", type=int, help="images are files: resized to 8 / 7 of this, and cropped to it")
    parser.add_argument("--eps", type=float, default=4.0)
    parser.add_argument("--size", type=int, default=17)
    parser.add_argument("--seed", type=int, default=0, help="of the signs")
    parser.add_argument("--outcomes", type=Path, help="outcomes are read here if they are there, and kept")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    outcome_options(parser)
    parser.add_argument("--maps", type=int, default=2000)
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS), metavar="RUN")
    parser.add_argument("--goal", type=float, default=0.03)
    parser.add_argument("--source", type=int, default=3000, metavar="N", help="images drawn with replacement")
    parser.add_argument("--made", action="store_true", help="made outcomes too, with few errors and many")
    parser.add_argument("--out", type=Path, default=Path("precision_goal"))
    options = parser.parse_args()
    path = options.out / "precision_goal.json"
    figures: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for share, noise in MADE if options.made else ():
        found = figures.setdefault(f"made: {share:g} wrong, noise {noise:g}", {"half-width": options.goal})
        for run in options.runs:
            found[run] = simulated(run, options.goal, options.maps, Recorded.made(share, noise))
            print(share, noise, run, found[run], flush=True)
            store.write_text(path, json.dumps(figures, indent=2) + "\n")
    for name, spec, weights in options.network:
        measured = recorded(options, name, spec, weights)
        found = figures.setdefault(name, {}) | {
            "images": measured.wrong.shape[1],
            "eps": options.eps,
            "size": options.size,
            "seed": options.seed,
            "half-width": options.goal,
            "mean error": round(float(measured.wrong.mean()), 3),
        }
        figures[name] = found
        for run in options.runs:
            found[run] = simulated(run, options.goal, options.maps, measured, source=options.source)
            print(name, run, found[run], flush=True)
            store.write_text(path, json.dumps(figures, indent=2) + "\n")


def photographs(options: argparse.Namespace) -> tuple[torch.Tensor, torch.Tensor]:
    """uint8 images and labels."""
    crop = options.crop and Preprocessing((options.crop, options.crop), options.crop * 8 // 7)
    batches = list(ff.load_data(options.data, limit=options.limit, preprocessing=crop))
    images, labels = torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])
    return images if images.dtype == torch.uint8 else (images * 255).round().to(torch.uint8), labels


def recorded(options: argparse.Namespace, name: str, spec: str, weights: str) -> Recorded:
    """The outcomes of one network, measured unless they were kept."""

    def measure() -> Recorded:
        images, labels = photographs(options)
        model = ff.load_model(spec, weights=weights).model
        return Recorded.measured(model, images, labels, eps=options.eps, size=options.size, seed=options.seed)

    kept = None if options.outcomes is None else options.outcomes / f"{name}_{options.size}_{options.seed}.npz"
    return Recorded.kept(kept, measure)


if __name__ == "__main__":
    main()
