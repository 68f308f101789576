"""Mahendran and Vedaldi 2016, sections 5 and 7, on real ImageNet weights: what layers keep of photographs, by depth.

    python benchmarks/reproductions/mahendran2016_inversion.py --data folder_of_images \\
        --model nets.py:resnet18 --weights resnet18.safetensors --mean .485 .456 .406 --std .229 .224 .225 \\
        --layers conv1 layer1.1 layer2.1 layer3.1 layer4.1

Published claim that is checked: several layers retain photographic information; the error grows with depth. Scaled to
two shared cores: 128 x 128 pixels, 128 steps, a few images.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np

import fastfreq as ff
from fastfreq import plots
from fastfreq.data import Preprocessing
from fastfreq.features import caricature
from fastfreq.features.invert import CARICATURE, INVERSION
from fastfreq.results import store
from fastfreq.vocabulary import statistics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--mean", type=float, nargs="+", required=True)
    parser.add_argument("--std", type=float, nargs="+", required=True)
    parser.add_argument("--layers", nargs="+", required=True)
    parser.add_argument("--limit", type=int, default=6)
    parser.add_argument("--steps", type=int, default=128)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--out", type=Path, default=Path("mahendran2016"))
    options = parser.parse_args()
    net = ff.load_model(options.model, weights=options.weights).model
    model = ff.NormalizedModel(net, mean=options.mean, std=options.std).eval()
    sides = Preprocessing((options.side, options.side), round(options.side * 256 / 224))
    data = ff.load_images(options.data, preprocessing=sides, limit=options.limit)
    search = dataclasses.replace(INVERSION, steps=options.steps)
    found = ff.invert(model, options.layers, data, search=search, progress=True)
    depth = np.arange(len(options.layers))
    ranks = [statistics.rank_correlation(depth, errors) for errors in found.pixel_errors.T]
    text = {
        "images": found.n_images,
        "side": options.side,
        "steps": options.steps,
        "median errors": {
            row["layer"]: {key: round(row[key], 4) for key in ("code_error", "pixel_error")} for row in found.summary()
        },
        "rank correlation of pixel error and depth, by image": [round(float(rank), 3) for rank in ranks],
    }
    path = options.out / "mahendran2016_inversion.json"
    store.write_text(path, json.dumps(text, indent=2) + "\n")
    plots.save_png(found.plot(), options.out / "inversion.png")
    deeper = caricature(model, options.layers[1:], data, search=CARICATURE, progress=True)
    text["median gain of caricatures"] = {row["layer"]: round(row["gain"], 3) for row in deeper.summary()}
    print(json.dumps(text, indent=2))
    store.write_text(path, json.dumps(text, indent=2) + "\n")
    plots.save_png(deeper.plot(), options.out / "caricature.png")


if __name__ == "__main__":
    main()
