"""Yin et al. 2019, Figure 3, on real CIFAR-10 networks and images: natural against adversarial training.

    python benchmarks/reproductions/yin2019_figure3.py --data cifar10.npz \\
        --network natural nets.py:resnet20 natural.safetensors --network adversarial nets.py:robust robust.safetensors

Norm 4 per channel, random signs, clipped, as published; the paper uses 1,000 images and WideResNet-28-10. Published
claims that are checked: the natural network is sensitive everywhere but at the lowest frequencies; the adversarially
trained one is insensitive at high frequencies and more sensitive than the natural one at the lowest.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

import fastfreq as ff
from fastfreq import plots
from fastfreq.inputs.heatmap import Heatmap
from fastfreq.plots import heatmap as heatmap_plots
from fastfreq.results import store
from fastfreq.vocabulary import fourier


def bands(result: Heatmap) -> dict[str, float]:
    """Mean error at the lowest (radius up to 1), middle and highest frequencies of a map."""
    radius = fourier.radius(fourier.centred_grid(result.size), result.shape[1:])
    n = min(result.size)
    error = result.error
    return {
        "clean": result.clean_error,
        "lowest, radius <= 1": float(error[radius <= 1].mean()),
        "middle, radius 4 to 8": float(error[(radius > n / 8) & (radius <= n / 4)].mean()),
        "highest, radius > 16": float(error[radius > n / 2].mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--network", nargs=3, action="append", required=True, metavar=("NAME", "SPEC", "WEIGHTS"))
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--eps", type=float, default=4.0)
    parser.add_argument("--out", type=Path, default=Path("figure3"))
    options = parser.parse_args()
    results, figures = {}, {}
    for name, spec, weights in options.network:
        model = ff.load_model(spec, weights=weights).model
        data = ff.load_data(options.data, limit=options.limit)
        results[name] = ff.heatmap(model, data, eps=options.eps, precision="bf16", progress=True)
        figures[name] = {key: round(value, 3) for key, value in bands(results[name]).items()}
        predicted = ff.gradient_heatmap(model, data, eps=options.eps, margins=9)
        power = np.asarray(ff.gradient_heatmap(model, data).rank_correlation(results[name].error))
        figures[name]["rank correlation, gradient power"] = round(float(power), 3)
        figures[name]["rank correlation, predicted error"] = round(predicted.rank_correlation(results[name].error), 3)
        print(name, figures[name], flush=True)
    text = {"images": options.limit, "eps": options.eps, "networks": figures}
    store.write_text(options.out / "figure3.json", json.dumps(text, indent=2) + "\n")
    plots.save_png(heatmap_plots.plot_many(results), options.out / "maps.png")
    plots.save_png(heatmap_plots.plot_radial(results), options.out / "radial.png")


if __name__ == "__main__":
    main()
