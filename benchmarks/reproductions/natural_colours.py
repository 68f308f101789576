"""The covariance of red, green and blue in photographs, in whose eigenvectors `ff.maximize` searches for colours.

    python benchmarks/reproductions/natural_colours.py --images folder_of_photographs --out OUT

Pixels in [0, 1] of every image as a mean over `--factor` x `--factor` blocks, all images of equal weight: their
covariance about the mean of all. `NATURAL_COLOURS` of fastfreq.features.image_search holds what this gives for 1,000
photographs of ImageNet, one a class, at a quarter of their size. Intervals are of 1,000 bootstraps over images.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastfreq.features.image_search import NATURAL_COLOURS
from fastfreq.results import store

Array = NDArray[np.float64]
KINDS = (".jpg", ".jpeg", ".png")
DIGITS = 4


def moments(path: Path, factor: int) -> tuple[Array, Array]:
    """(3,) mean and (3, 3) mean product of the colours of one image."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB").reduce(factor), np.float64).reshape(-1, 3) / 255
    return pixels.mean(axis=0), pixels.T @ pixels / len(pixels)


def covariance(means: Array, products: Array) -> Array:
    """(3, 3) of all images (n, 3) and (n, 3, 3) together."""
    mean = means.mean(axis=0)
    return products.mean(axis=0) - np.outer(mean, mean)


def measured(means: Array, products: Array) -> dict[str, Any]:
    found = covariance(means, products)
    rng, n = np.random.default_rng(0), len(means)
    drawn = [covariance(means[some], products[some]) for some in (rng.integers(0, n, n) for _ in range(1000))]
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    values, vectors = np.linalg.eigh(found)
    return {
        "images": n,
        "mean": means.mean(axis=0).round(DIGITS).tolist(),
        "covariance": found.round(DIGITS).tolist(),
        "low": low.round(DIGITS).tolist(),
        "high": high.round(DIGITS).tolist(),
        "eigenvalues": values.round(6).tolist(),
        "eigenvectors, in columns": vectors.round(DIGITS).tolist(),
        "NATURAL_COLOURS": [list(row) for row in NATURAL_COLOURS],
        "equal to four digits": bool(np.array_equal(found.round(DIGITS), np.array(NATURAL_COLOURS))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder")
    parser.add_argument("--factor", type=int, default=4, help="of size; default: 4")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    chosen = parser.parse_args()
    paths = sorted(path for path in chosen.images.rglob("*") if path.suffix.lower() in KINDS)
    if not paths:
        raise SystemExit(f"expected images of {list(KINDS)} in {chosen.images}, found none")
    means, products = (np.stack(each) for each in zip(*(moments(p, chosen.factor) for p in paths), strict=True))
    found = {"factor": chosen.factor, **measured(means, products)}
    print(json.dumps(found, indent=2))
    store.write_text(chosen.out / "natural_colours.json", json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
