"""Which quick map is closest to the whole one for at most 3 % of its passes, on measured outcomes.

    python benchmarks/reproductions/quick_map.py --data cifar10.npz --limit 1000 --outcomes OUTCOMES \\
        --network natural nets.py:resnet20 natural.safetensors --network adversarial nets.py:robust robust.safetensors

Outcomes are those of precision_goal.py, measured where they are not there. Every idea pays in forward passes, a
backward pass counted as two: those of images as they are and of pilots too. Ideas that draw images are repeated in
--repeats orders of the images, and their figures are means. `rank correlation` is Spearman's with the whole map.
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
from fastfreq.results import store
from fastfreq.vocabulary import fourier, statistics

_GRADIENT = 5  # passes of one image: forward, and backward for the loss and for the closest margin
_LENGTHS = (1.5, 2.5, 4.0, 6.0, 10.0)  # cells over which neighbours are alike
_NOISES = (0.02, 0.1, 0.3, 1.0, 3.0, 10.0)  # of a cell's own, in units of what the map varies
# which images each cell gets
PILOTS = (
    ("pilot of the same images", False, False),
    ("pilot of the same images, spread over margins", True, False),
    ("pilot of other images each", False, True),
    ("pilot of other images each, spread over margins", True, True),
)


def smooth(values: np.ndarray, frequencies: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """A linear function of columns (f, p) and an even, smooth one of frequency, fitted to values (f,).

    A Gaussian process whose length and noise are those that predict left-out cells best.
    """
    x = frequencies.astype(np.float64)
    squares = [((x[:, None] - sign * x[None]) ** 2).sum(axis=-1) for sign in (1, -1)]
    design = np.column_stack([np.ones(len(x)), columns])
    scale = np.maximum(np.abs(design - design.mean(axis=0)).max(axis=0), 1e-9)
    scale[0] = 1
    linear = 100 * (design / scale) @ (design / scale).T  # a flat prior: the linear part is not penalised
    best, found = np.inf, values
    for length in _LENGTHS:
        kernel = sum(np.exp(-square / (2 * length**2)) for square in squares)
        for noise in _NOISES:
            hat = np.linalg.solve(linear + kernel + noise * np.eye(len(x)), linear + kernel).T
            left_out = ((values - hat @ values) / (1 - np.diag(hat))) ** 2
            if left_out.mean() < best:
                best, found = left_out.mean(), hat @ values
    return found.clip(0, 1)


def pilot(measured: Recorded, images: int, rng: np.random.Generator, *, spread: bool, apart: bool) -> np.ndarray:
    """(f,) share of errors among some images of each cell.

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
    return measured.wrong[np.arange(f)[:, None], chosen].mean(axis=1)


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
    f, n = measured.wrong.shape
    most, truth = int(options.share * (f + 1) * n), measured.wrong.mean(axis=1)
    radius = fourier.radius(measured.frequencies, tuple(data[0].shape[2:]))[:, None]
    few = most // 2 // _GRADIENT  # images whose gradient is taken beside a pilot
    some = (most // _GRADIENT, few)
    of = {(k, moved): gradients(model, [part[:k] for part in data], options, moved) for k in some for moved in (0, 1)}
    predicted = {at: each.predicted_wrong.counts / at[0] for at, each in of.items()}
    half = most // 2 // f
    ideas: dict[str, Any] = {
        "gradient_heatmap": (some[0] * _GRADIENT, lambda rng: predicted[some[0], 0]),
        "gradients at a point moved by 1": (some[0] * _GRADIENT, lambda rng: predicted[some[0], 1]),
        "gradients at both": (2 * few * _GRADIENT, lambda rng: (predicted[few, 0] + predicted[few, 1]) / 2),
    }
    nothing = np.zeros((f, 0))
    for name, spread, apart in PILOTS:
        images = (most - n * spread) // f
        price = images * f + n * spread

        def raw(rng: np.random.Generator, k: int = images, spread: bool = spread, apart: bool = apart) -> np.ndarray:
            return pilot(measured, k, rng, spread=spread, apart=apart)

        ideas[name] = (price, raw)
        for word, columns in (("smoothed", nothing), ("smoothed, with the radius", radius)):

            def smoothed(rng: np.random.Generator, raw: Any = raw, columns: np.ndarray = columns) -> np.ndarray:
                return smooth(raw(rng), measured.frequencies, columns)

            ideas[f"{name}, {word}"] = (price, smoothed)
    columns = np.column_stack([predicted[few, 0], radius])
    for name, also in (("", False), (", smoothed", True)):

        def fit(rng: np.random.Generator, also: bool = also) -> np.ndarray:
            seen = pilot(measured, half, rng, spread=False, apart=True)
            if also:
                return smooth(seen, measured.frequencies, columns)
            design = np.column_stack([np.ones(f), columns])
            return design @ np.linalg.lstsq(design, seen, rcond=None)[0]

        ideas[f"half a pilot on gradients and radius{name}"] = (few * _GRADIENT + half * f, fit)
    return {
        name: judged(make, truth, options.repeats) | {"share of passes": round(price / ((f + 1) * n), 4)}
        for name, (price, make) in ideas.items()
    }


def judged(make: Any, truth: np.ndarray, repeats: int) -> dict[str, float]:
    """How close an idea's maps are to the truth."""
    rng = np.random.default_rng(0)
    maps = [make(rng) for _ in range(repeats)]
    ranks = [statistics.rank_correlation(each, truth) for each in maps]
    return {
        "rank correlation": round(float(np.mean(ranks)), 3),
        "its standard deviation": round(float(np.std(ranks)), 3),
        "mean absolute error": round(float(np.mean([np.abs(each - truth).mean() for each in maps])), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    outcome_options(parser)
    parser.add_argument("--repeats", type=int, default=20)
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
        figures[name] = asked | {"repeats": options.repeats, "range of errors": spans(measured)}
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
