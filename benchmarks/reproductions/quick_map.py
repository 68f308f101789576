"""Which quick map is closest to the whole one for at most 3 % of its passes, on measured outcomes.

    python benchmarks/reproductions/quick_map.py --data cifar10.npz --limit 1000 --outcomes OUTCOMES \\
        --network natural nets.py:resnet20 natural.safetensors --network adversarial nets.py:robust robust.safetensors

Outcomes are those of precision_goal.py, measured where they are not there. Every idea pays in forward passes, a
backward pass counted as two: those of images as they are and of pilots too. Ideas that draw images are repeated in
--repeats orders of the images, from --draws on, and their figures are means. `rank correlation` is Spearman's with the
whole map. What is smoothed is so by `fastfreq.vocabulary.smooth_shares`, which `quick_heatmap` reads its map with;
`coverage` is the share of cells that its 95 % intervals hold, `half-width` their mean.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from precision_goal import Recorded, outcome_options, photographs, recorded

import fastfreq as ff
from fastfreq.inputs.quick_heatmap.draws import Draws
from fastfreq.inputs.quick_heatmap.measurement import EDGES
from fastfreq.results import store
from fastfreq.vocabulary import fourier, statistics
from fastfreq.vocabulary.smooth_shares import SmoothShares, smooth_shares

_GRADIENT = 5  # passes of one image: forward, and backward for the loss and for the closest margin
# which images each cell gets
PILOTS = (
    ("pilot of the same images", False, False),
    ("pilot of the same images, spread over margins", True, False),
    ("pilot of other images each", False, True),
    ("pilot of other images each, spread over margins", True, True),
)


def pilot(measured: Recorded, images: int, rng: np.random.Generator, *, spread: bool, apart: bool) -> np.ndarray:
    """(f,) errors among some images of each cell.

    Args:
        measured: outcomes.
        images: of each cell.
        rng: which.
        spread: one of every so many in the order of clean margins, not any.
        apart: other images in each cell. Outcomes of one image are alike at neighbouring frequencies, so that its
            luck looks like a smooth map; that of many images is noise, which smoothing takes away.
    """
    f, n = measured.wrong.shape
    rows = f if apart else 1
    if spread:
        edges = np.linspace(0, n, images + 1)
        places = (edges[:-1] + rng.random((rows, images)) * np.diff(edges)).astype(np.int64)
        chosen = np.argsort(measured.clean, kind="stable")[places]
    else:
        chosen = rng.permuted(np.tile(np.arange(n), (rows, 1)), axis=1)[:, :images]
    return measured.wrong[np.arange(f)[:, None], chosen].sum(axis=1)


def quick(measured: Recorded, options: argparse.Namespace, seed: int, *, all_clean: bool) -> tuple[SmoothShares, int]:
    """What `quick_heatmap` predicts with one of its draws, and its passes."""
    f, n = measured.wrong.shape
    draws = Draws(f, options.share, predicted=False, seed=seed, all_clean=all_clean)
    tried = np.zeros((f + 1, n), bool)
    for image, row in enumerate(draws.of(np.arange(n))):
        tried[row, image] = True
    kinds = np.digitize(measured.clean, EDGES) if all_clean else np.zeros(n, np.int64)
    of = np.eye(len(EDGES) + 1 if all_clean else 1, dtype=np.int64)[kinds]
    counts = (tried[:f] & measured.wrong).astype(np.int64) @ of, tried[:f].astype(np.int64) @ of, of.sum(axis=0)
    smooth = smooth_shares(*counts, frequencies=measured.frequencies, shape=options.shape)
    return smooth, int(tried.sum()) + n * all_clean


def gradients(model: torch.nn.Module, data: Any, options: argparse.Namespace, moved: float) -> ff.GradientHeatmap:
    """First-order predictions, at images or at a point `moved` away in a random direction."""
    images, labels = data
    images = images.float() / 255
    if moved:
        noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
        norm = noise.flatten(2).norm(dim=2)[..., None, None]
        images = (images + moved * noise / norm).clamp(0, 1)
    return ff.gradient_heatmap(
        model, images, labels, eps=options.eps, size=options.size, convention="common_signs", seed=options.seed
    )


def compared(measured: Recorded, model: torch.nn.Module, data: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Figures of every idea."""
    options.shape = tuple(data[0].shape[2:])
    f, n = measured.wrong.shape
    ideas = ideas_of_pilots(measured, options) | ideas_of_gradients(measured, model, data, options)
    for name, all_clean in (("quick_heatmap", None), ("quick_heatmap, every image as it is", True)):
        if all_clean is None:
            all_clean = Draws(f, options.share, predicted=False, seed=0).all_clean
        elif options.share * (f + 1) <= 1:
            continue
        price = quick(measured, options, 0, all_clean=all_clean)[1]

        def make(rng: np.random.Generator, every: bool = all_clean) -> SmoothShares:
            return quick(measured, options, int(rng.integers(2**32)), all_clean=every)[0]

        ideas[name] = (price, make)
    truth = measured.wrong.mean(axis=1)
    return {
        name: judged(make, truth, options) | {"share of passes": round(price / ((f + 1) * n), 4)}
        for name, (price, make) in ideas.items()
    }


def smoothed(measured: Recorded, yes: np.ndarray, images: int, columns: np.ndarray, shape: Any) -> SmoothShares:
    """The package's smooth map through errors (f,) among as many images of each cell."""
    counts = yes[:, None], np.full((len(yes), 1), images), np.array([measured.wrong.shape[1]])
    return smooth_shares(*counts, frequencies=measured.frequencies, shape=shape, columns=columns)


def ideas_of_pilots(measured: Recorded, options: argparse.Namespace) -> dict[str, Any]:
    """Name -> (price, what makes a map) of pilots, as counted and smoothed."""
    f, n = measured.wrong.shape
    most = int(options.share * (f + 1) * n)
    radius = fourier.radius(measured.frequencies, options.shape)[:, None]
    ideas: dict[str, Any] = {}
    for name, spread, apart in PILOTS:
        images = (most - n * spread) // f
        price = images * f + n * spread

        def count(rng: np.random.Generator, k: int = images, spread: bool = spread, apart: bool = apart) -> np.ndarray:
            return pilot(measured, k, rng, spread=spread, apart=apart)

        ideas[name] = (price, lambda rng, count=count, k=images: count(rng) / k)
        for word, columns in (("smoothed", np.zeros((f, 0))), ("smoothed, with the radius", radius)):

            def make(
                rng: np.random.Generator, count: Any = count, k: int = images, also: Any = columns
            ) -> SmoothShares:
                return smoothed(measured, count(rng), k, also, options.shape)

            ideas[f"{name}, {word}"] = (price, make)
    return ideas


def ideas_of_gradients(
    measured: Recorded, model: torch.nn.Module, data: Any, options: argparse.Namespace
) -> dict[str, Any]:
    """Name -> (price, what makes a map) of first-order predictions, alone and beside half a pilot."""
    f, n = measured.wrong.shape
    most = int(options.share * (f + 1) * n)
    half = most // 2 // f
    few = most // 2 // _GRADIENT  # images whose gradient is taken beside a pilot
    some = (most // _GRADIENT, few)
    of = {(k, moved): gradients(model, [part[:k] for part in data], options, moved) for k in some for moved in (0, 1)}
    predicted = {at: each.predicted_wrong.counts / at[0] for at, each in of.items()}
    radius = fourier.radius(measured.frequencies, options.shape)[:, None]
    columns = np.column_stack([predicted[few, 0], radius])

    def fit(rng: np.random.Generator) -> np.ndarray:
        seen = pilot(measured, half, rng, spread=False, apart=True) / half
        design = np.column_stack([np.ones(f), columns])
        return design @ np.linalg.lstsq(design, seen, rcond=None)[0]

    def both(rng: np.random.Generator) -> SmoothShares:
        return smoothed(measured, pilot(measured, half, rng, spread=False, apart=True), half, columns, options.shape)

    beside = few * _GRADIENT + half * f
    return {
        "gradient_heatmap": (some[0] * _GRADIENT, lambda rng: predicted[some[0], 0]),
        "gradients at a point moved by 1": (some[0] * _GRADIENT, lambda rng: predicted[some[0], 1]),
        "gradients at both": (2 * few * _GRADIENT, lambda rng: (predicted[few, 0] + predicted[few, 1]) / 2),
        "half a pilot on gradients and radius": (beside, fit),
        "half a pilot on gradients and radius, smoothed": (beside, both),
    }


def judged(make: Any, truth: np.ndarray, options: argparse.Namespace) -> dict[str, float]:
    """How close an idea's maps are to the truth."""
    rng = np.random.default_rng(options.draws)
    made = [make(rng) for _ in range(options.repeats)]
    maps = [each.estimates if isinstance(each, SmoothShares) else each for each in made]
    ranks = [statistics.rank_correlation(each, truth) for each in maps]
    found = {
        "rank correlation": round(float(np.mean(ranks)), 3),
        "its standard deviation": round(float(np.std(ranks)), 3),
        "mean absolute error": round(float(np.mean([np.abs(each - truth).mean() for each in maps])), 4),
    }
    intervals = [each.interval() for each in made if isinstance(each, SmoothShares)]
    if intervals:
        held = [((low - 1e-9 <= truth) & (truth <= high + 1e-9)).mean() for low, high in intervals]
        found["coverage"] = round(float(np.mean(held)), 3)
        found["half-width"] = round(float(np.mean([(high - low).mean() / 2 for low, high in intervals])), 4)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    outcome_options(parser)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--draws", type=int, default=0, help="seed of the orders of images")
    parser.add_argument("--share", type=float, default=0.03, help="of the passes of the whole map")
    parser.add_argument("--out", type=Path, default=Path("quick_map"))
    options = parser.parse_args()
    images, labels = photographs(options)
    path = options.out / "quick_map.json"
    figures: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for name, spec, weights in options.network:
        measured = recorded(options, name, spec, weights)
        model = ff.load_model(spec, weights=weights).model
        asked = {"images": len(images), "eps": options.eps, "size": options.size, "seed": options.seed}
        figures[name] = asked | {"repeats": options.repeats, "draws": options.draws, "range of errors": spans(measured)}
        figures[name]["ideas"] = compared(measured, model, (images, labels), options)
        for idea, found in figures[name]["ideas"].items():
            print(name, idea, found, flush=True)
        store.write_text(path, json.dumps(figures, indent=2) + "\n")


def spans(measured: Recorded) -> list[float]:
    """The smallest and the largest error of the map, and their standard deviation."""
    truth = measured.wrong.mean(axis=1)
    return [round(float(value), 3) for value in (truth.min(), truth.max(), truth.std())]


if __name__ == "__main__":
    main()
