"""The lecture's last slide: what fixed codes lack is invariance to shift, rotation and dilation, and depth makes it.

    python benchmarks/reproductions/tanner_invariance.py --data cifar10.npz \\
        --network resnet20 nets.py:resnet20 resnet20.safetensors --out OUT

The slide has no figure. Asked: pixels and wavelets move most, scattering less, the trained network's output least. The
same architecture with its weights as they are initialised is the control: what of it is depth, and what training. Codes
are compared over their contrast, the distance from the code of an image of the same mean colour without content, and
over their norm.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fastfreq as ff
from fastfreq.features import FixedLayer, Threshold, scattering_stem, wavelet_stem
from fastfreq.features.invariance import UNITS, Invariance
from fastfreq.plots import _frame
from fastfreq.plots import invariance as plots
from fastfreq.results import store

KINDS = ("shift", "rotation", "dilation")


def fixed(size: tuple[int, int]) -> dict[str, FixedLayer]:
    """Codes beside the network: orthonormal, of the lecture, and made for the purpose."""
    return {
        "DWT": wavelet_stem("db4", levels=2),
        "DWT, thresholded": wavelet_stem("db4", levels=2, threshold=Threshold(tau=0.5, mode="relative")),
        "scattering": scattering_stem(size, scales=3),
    }


def means(result: Invariance) -> dict[str, dict[str, float]]:
    """Code -> mean over all amounts of the relative distance in either unit."""
    return {
        code: {unit: round(float(result.curve(code, to=unit).mean()), 4) for unit in UNITS} for code in result.sizes
    }


def claims(name: str, kind: str, found: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """The order that is asked, in either unit."""
    rows = []
    for unit in UNITS:
        pixels, dwt, scattering, output = (found[code][unit] for code in ("pixels", "DWT", "scattering", "output"))
        for text, low, high in (
            ("scattering moves less than the DWT", scattering, dwt),
            ("the output moves less than scattering", output, scattering),
            ("the output moves less than pixels", output, pixels),
        ):
            rows.append(
                {"claim": f"{name}, {kind}, to {unit}: {text}", "measured": [low, high], "holds": bool(low < high)}
            )
    return rows


def instead(figures: dict[str, Any]) -> list[dict[str, Any]]:
    """What was found in place of the claims, network by network and motion by motion.

    Codes from the least to the most moved; how many of the layers, whose codes are compared place by place, move no
    less than pixels; and by how much less the output moves than the last of them, which the mean over places does.
    """
    rows = []
    for label, kinds in figures.items():
        for kind, found in kinds.items():
            own = found["means"]
            layers = [code for code in own if code not in ("pixels", "output", "DWT", "DWT, thresholded", "scattering")]
            for unit in UNITS:
                moved = {code: mean[unit] for code, mean in own.items()}
                rows.append(
                    {
                        "codes": f"{label}, {kind}, to {unit}",
                        "least to most": sorted(moved, key=moved.__getitem__),
                        "layers": len(layers),
                        "layers that move no less than pixels": sum(moved[x] >= moved["pixels"] for x in layers),
                        "output over the last layer": round(moved["output"] / moved[layers[-1]], 3) if layers else None,
                    }
                )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--network", nargs=3, action="append", required=True, metavar=("NAME", "SPEC", "WEIGHTS"))
    parser.add_argument("--mean", type=float, nargs=3, default=(0.485, 0.456, 0.406))
    parser.add_argument("--std", type=float, nargs=3, default=(0.229, 0.224, 0.225))
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--name", default="tanner_invariance")
    options = parser.parse_args()
    data = ff.load_data(options.data, limit=options.limit)
    found: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    for kind in KINDS:
        drawn: dict[str, Invariance] = {}
        for name, spec, weights in options.network:
            for label, trained in ((name, True), (f"{name}, untrained", False)):
                torch.manual_seed(0)
                net = ff.load_model(spec, weights=weights if trained else None, pretrained=False).model
                model = ff.NormalizedModel(net, mean=options.mean, std=options.std).eval()
                size = next(iter(data))[0].shape[-2:]
                beside = fixed((int(size[0]), int(size[1]))) if trained else {}
                drawn[label] = ff.invariance(model, data, kind=kind, fixed=beside)
                found.setdefault(label, {})[kind] = {
                    "amounts": drawn[label].amounts.tolist(),
                    "means": means(drawn[label]),
                    "curves to contrast": {
                        code: np.round(drawn[label].curve(code, to="contrast"), 4).tolist()
                        for code in drawn[label].sizes
                        if code in ("pixels", "output", *beside)
                    },
                }
                _frame.save_png(
                    drawn[label].plot(), options.out / f"{options.name}_{label}_{kind}.png".replace(", ", "_")
                )
                print(label, kind, found[label][kind]["means"], flush=True)
                if trained:
                    rows += claims(name, kind, found[label][kind]["means"])
            both = (found[name][kind]["means"]["output"], found[f"{name}, untrained"][kind]["means"]["output"])
            for unit in UNITS:
                low, high = (mean[unit] for mean in both)
                text = f"{name}, {kind}, to {unit}: the output moves less trained than untrained"
                rows.append({"claim": text, "measured": [low, high], "holds": bool(low < high)})
        _frame.save_png(plots.plot_many(drawn), options.out / f"{options.name}_{kind}.png")
    text = {"images": options.limit, "figures": found, "claims": rows, "found instead": instead(found)}
    store.write_text(options.out / f"{options.name}.json", json.dumps(text, indent=2) + "\n")


if __name__ == "__main__":
    main()
