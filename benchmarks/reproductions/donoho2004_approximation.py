"""Rates of n-term approximation beside theory: cartoons, textures and photographs, in three fixed frames.

    pip install 'fastfreq[wavelets,curvelets,pictures]'
    python benchmarks/reproductions/donoho2004_approximation.py --out OUT

Theory is of pictures that are smooth but for edges that are smooth curves: the squared error of the best n terms falls
as n^-1/2 for Fourier, n^-1 for wavelets and n^-2 log^3 n for curvelets (Candes and Donoho 2004). Cartoons are such:
shapes with wobbly edges, shaded smoothly, 512 x 512, their edges averaged over 4 x 4 points in each pixel; on black,
and on grey, for which curvelets spend their first 512 terms, the coarsest scale, so that 100 to 2,000 terms say little
of their rate. Textures and photographs are those of 512 x 512 that scikit-image ships, or their middle, in grey; theory
says nothing of them. Fits are over 100 to 2,000 terms; intervals are Student's over images.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastfreq as ff
from fastfreq.features.frames import FRAMES
from fastfreq.results import store

Array = NDArray[np.float32]
TEXTURES = ("brick", "grass", "gravel")
KINDS = ("cartoons", "cartoons on grey", "textures", "photographs")
PHOTOGRAPHS = ("astronaut", "camera", "hubble_deep_field", "immunohistochemistry", "moon", "retina")
GROUNDS = {"cartoons": 0.0, "cartoons on grey": 0.3}
THEORY = {"fourier": 0.5, "wavelet": 1.0, "curvelet": 2.0}
ASKED = {"fourier": (0.45, 0.65), "wavelet": (0.95, 1.3), "curvelet": (1.6, math.inf)}
_SAMPLES = 4  # points of a pixel along each axis


def cartoon(side: int, seed: int, ground: float) -> Array:
    """(side, side) one shape of a smooth edge, shaded by a wave, on an even ground."""
    rng, fine = np.random.default_rng(seed), side * _SAMPLES
    at = (np.arange(fine) + 0.5) / fine - 0.5
    y, x = at[:, None] - rng.uniform(-0.05, 0.05), at[None, :] - rng.uniform(-0.05, 0.05)
    angle, radius = np.arctan2(y, x), np.full((1, 1), 0.28)
    for k in range(2, 6):
        radius = radius * (1 + rng.uniform(0, 0.08) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)))
    shade = 0.7 + 0.15 * np.sin(2 * np.pi * (rng.uniform(0.5, 1) * y + rng.uniform(0.5, 1) * x + rng.uniform()))
    inside = np.where(np.hypot(y, x) < radius, shade, ground)
    return inside.reshape(side, _SAMPLES, side, _SAMPLES).mean(axis=(1, 3)).astype(np.float32)


def shipped(names: tuple[str, ...], side: int) -> Array:
    """(n, side, side) pictures of scikit-image, grey, their middle."""
    from skimage import color, data

    found = []
    for name in names:
        picture = np.asarray(getattr(data, name)())
        grey = color.rgb2gray(picture[..., :3]) if picture.ndim == 3 else picture / 255
        top, left = ((n - side) // 2 for n in grey.shape)
        found.append(grey[top : top + side, left : left + side].astype(np.float32))
    return np.stack(found)


def measured(images: Array, counts: list[int]) -> dict[str, Any]:
    """Rate of each frame, with the errors at three counts."""
    found = {}
    for kind in FRAMES:
        begin = time.process_time()
        curve = ff.approximation_curve(images[:, None], frame=kind, counts=counts, batch_size=1)
        rate = curve.rate(lowest=counts[0], highest=counts[-1])
        some = [0, len(counts) // 2, len(counts) - 1]
        found[kind] = {
            "frame": curve.frame,
            "alpha": round(rate.alpha, 3),
            "interval": [round(rate.low, 3), round(rate.high, 3)],
            "theory for cartoons": THEORY[kind],
            "error": {str(counts[i]): float(f"{curve.error[i]:.3g}") for i in some},
            "processor seconds": round(time.process_time() - begin, 1),
        }
    return found


def claims(kinds: dict[str, Any]) -> list[dict[str, Any]]:
    """What is asked of cartoons."""
    rows = kinds.get("cartoons", {}).get("frames", {})
    return [
        {
            "claim": f"cartoons, {kind}: squared error falls as n^-alpha",
            "asked": f"alpha from {low} to {high}" if high < math.inf else f"alpha above {low}",
            "measured": rows[kind]["alpha"],
            "holds": bool(low <= rows[kind]["alpha"] <= high),
        }
        for kind, (low, high) in ASKED.items()
        if kind in rows
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, help="default: all")
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--cartoons", type=int, default=6, help="how many; default: 6")
    parser.add_argument("--counts", type=int, default=10, help="of terms; default: 10 from 100 to 2,000")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    chosen = parser.parse_args()
    size = chosen.side**2 / 512**2
    counts = (
        np.unique(np.geomspace(max(4, 100 * size), max(16, 2000 * size), chosen.counts).round()).astype(int).tolist()
    )
    kinds: dict[str, Any] = {}
    for name in chosen.kinds or KINDS:
        if name in GROUNDS:
            names = tuple(f"seed {seed}" for seed in range(chosen.cartoons))
            images = np.stack([cartoon(chosen.side, seed, GROUNDS[name]) for seed in range(chosen.cartoons)])
        else:
            names = TEXTURES if name == "textures" else PHOTOGRAPHS
            images = shipped(names, chosen.side)
        kinds[name] = {"images": list(names), "frames": measured(images, counts)}
        print(name, json.dumps(kinds[name]["frames"]), flush=True)
        found = {"side": chosen.side, "counts": counts, "kinds": kinds, "claims": claims(kinds)}
        store.write_text(chosen.out / "donoho2004_approximation.json", json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
