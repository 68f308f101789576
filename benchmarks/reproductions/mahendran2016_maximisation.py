"""Mahendran and Vedaldi 2016, section 6, on real ImageNet weights: images that raise units more than photographs do.

    python benchmarks/reproductions/mahendran2016_maximisation.py --data folder_of_images \\
        --model nets.py:resnet18 --weights resnet18.safetensors --mean .485 .456 .406 --std .229 .224 .225 \\
        --layers layer1.1 layer2.1 layer3.1 layer4.1

For 16 sampled units of each layer: does the image that was made raise the unit above the best of all photographs, also
after a shift of 4 pixels? "channel" compares means over all places. "center" compares the unit at the central place of
the made image with its largest value at any place of any photograph; after a shift, the unit where the pattern has come
to (of the two places around it), and beside it the one that stays and sees other pixels. Scaled to two shared cores:
128 x 128 pixels in place of 224 x 224, 64 steps in place of about 300. The cost of a step is compared with the bare
forward and backward pass of the same batch up to the same layer, in CPU seconds, interleaved.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import fastfreq as ff
from fastfreq import plots
from fastfreq.data import Preprocessing
from fastfreq.features import ImageSearch
from fastfreq.features.image_search import high_frequency_share
from fastfreq.features.maximize import UnitImages
from fastfreq.results import store

STEPS, REPEATS = 16, 5  # that are timed: of few, what a search does once is a large part
COSTS = ((128, 3), (128, 8), (224, 1))  # (side, rows) of the batches whose cost is measured


def best_of_images(model: nn.Module, layers: list[str], data: ff.data.ImageData) -> tuple[dict[str, dict], list[float]]:
    """layer -> objective -> (units,) the largest over all images; and each image's share of high frequencies."""
    modules, best, shares = dict(model.named_modules()), {}, []

    def keep(name: str):
        def hook(_module: nn.Module, _args: object, maps: Tensor) -> None:
            found = {"channel": maps.mean(dim=(2, 3)).amax(dim=0), "center": maps.amax(dim=(0, 2, 3))}
            before = best.get(name, found)
            best[name] = {key: torch.maximum(value, before[key]) for key, value in found.items()}

        return hook

    hooks = [modules[f"net.{name}"].register_forward_hook(keep(name)) for name in layers]
    with torch.inference_mode():
        for images, _ in data:
            model(images.float() / 255)
            shares += [high_frequency_share((image.float() / 255).numpy()) for image in images]
    for hook in hooks:
        hook.remove()
    return best, shares


def stayed(model: nn.Module, found: UnitImages) -> np.ndarray:
    """(units,) the least activation of the unit at the central place, the image shifted by 4 pixels each way."""
    kept: list[Tensor] = []
    hook = model.get_submodule(f"net.{found.layer}").register_forward_hook(lambda *each: kept.append(each[2]))
    with torch.inference_mode():
        for way in ((-4, 0), (4, 0), (0, -4), (0, 4)):
            model(torch.roll(torch.from_numpy(found.images), way, dims=(2, 3)))
    hook.remove()
    places = [maps[range(len(maps)), sorted(found.units), maps.shape[2] // 2, maps.shape[3] // 2] for maps in kept]
    return torch.stack(places).amin(dim=0).double().numpy()


def figures(found: UnitImages, best: Tensor, model: nn.Module) -> dict[str, object]:
    """How many of the units are raised above the best photograph."""
    units = sorted(found.units)
    wanted = best[units].double().numpy()
    shifted = np.array([found[unit].shifted for unit in units])
    positive = wanted > 0  # before a rectifier the mean of every photograph may be below 0
    here = {}
    if found.objective == "center":
        here = {"above at the same place after that shift": int((stayed(model, found) > wanted).sum())}
    ratio = found.activations[positive] / wanted[positive]
    return {
        "units": units,
        "above": int((found.activations > wanted).sum()),
        "above after a shift of 4 pixels": int(((shifted > wanted) & (found.activations > wanted)).sum()),
        **here,
        "median ratio to the best photograph": round(float(np.median(ratio)), 3) if len(ratio) else None,
        "dead": found.dead,
        "median share of high frequencies": round(
            float(np.median([found[unit].high_frequency_share for unit in units])), 4
        ),
    }


def bare_step(model: nn.Module, layer: str, batch: Tensor) -> None:
    """Forward as far as a layer and backward to the pixels, and nothing else."""

    class Done(Exception):  # noqa: N818
        pass

    kept: list[Tensor] = []

    def stop(_module: nn.Module, _args: object, output: Tensor) -> None:
        kept.append(output)
        raise Done

    hook = model.get_submodule(f"net.{layer}").register_forward_hook(stop)
    pixels = batch.clone().requires_grad_()
    with contextlib.suppress(Done):
        model(pixels)
    hook.remove()
    kept[0][:, 0].mean(dim=(1, 2)).sum().backward()


def cost(model: nn.Module, layer: str, side: int, rows: int) -> dict[str, object]:
    """CPU seconds of a step beside the bare pass; a step is the difference of two searches of other lengths."""
    batch, units, size = torch.rand(rows, 3, side, side), range(rows), (3, side, side)
    model.requires_grad_(False)
    ratios, steps, passes = [], [], []
    ff.maximize(model, layer, [0], input_size=size, search=ImageSearch(steps=1), batch_size=rows)  # what is loaded once
    for _ in range(REPEATS):
        taken = []
        for length in (2, 2 + STEPS):
            start = time.process_time()
            search = ImageSearch(steps=length, through_relu=0)
            ff.maximize(model, layer, units, input_size=size, search=search, batch_size=rows)
            taken.append(time.process_time() - start)
        start = time.process_time()
        for _ in range(STEPS):
            bare_step(model, layer, batch)
        passes.append((time.process_time() - start) / STEPS)
        steps.append((taken[1] - taken[0]) / STEPS)
        ratios.append(steps[-1] / passes[-1])
    return {
        "layer": layer,
        "rows": rows,
        "side": side,
        "step, CPU s": round(float(np.median(steps)), 4),
        "bare pass, CPU s": round(float(np.median(passes)), 4),
        "ratio": round(float(np.median(ratios)), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--mean", type=float, nargs="+", required=True)
    parser.add_argument("--std", type=float, nargs="+", required=True)
    parser.add_argument("--layers", nargs="+", required=True)
    parser.add_argument("--objectives", nargs="+", default=["channel", "center"])
    parser.add_argument("--units", type=int, default=16, help="of each layer")
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timed", nargs="*", default=[], metavar="LAYER", help="layers whose cost is measured")
    parser.add_argument("--name", default="mahendran2016_maximisation", help="of the JSON file")
    parser.add_argument("--out", type=Path, default=Path("mahendran2016"))
    options = parser.parse_args()
    net = ff.load_model(options.model, weights=options.weights).model
    model = ff.NormalizedModel(net, mean=options.mean, std=options.std).eval()
    sides = Preprocessing((options.side, options.side), round(options.side * 256 / 224))
    data = ff.load_images(options.data, preprocessing=sides, limit=options.limit, batch_size=50)
    best, shares = best_of_images(model, options.layers, data)
    search = ImageSearch(steps=options.steps)
    rng, counts = np.random.default_rng(options.seed), {layer: len(best[layer]["channel"]) for layer in options.layers}
    sampled = {
        layer: sorted(rng.choice(count, min(options.units, count), replace=False).tolist())
        for layer, count in counts.items()
    }
    path = options.out / f"{options.name}.json"
    text: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    settings = {"images": len(shares), "side": options.side, "steps": options.steps, "seed": options.seed}
    if {key: text.get(key) for key in settings} != settings:  # those of another request; else what is there is kept
        text = {**settings, "median share of high frequencies of the images": round(float(np.median(shares)), 4)}
    for layer, objective in itertools.product(options.layers, options.objectives):
        units = sampled[layer]
        if text.get(f"{layer}, {objective}", {}).get("units") == units:
            continue
        found = ff.maximize(
            model, layer, units, input_size=(3, options.side, options.side), objective=objective, search=search,
            seed=options.seed, progress=True,
        )  # fmt: skip
        text[f"{layer}, {objective}"] = figures(found, best[layer][objective], model)
        print(layer, objective, text[f"{layer}, {objective}"], flush=True)
        plots.save_png(found.plot(), options.out / f"{layer}_{objective}.png")
        store.write_text(path, json.dumps(text, indent=2) + "\n")
    for objective in options.objectives:
        every = [text[f"{layer}, {objective}"] for layer in options.layers]
        total = {name: sum(mine[name] for mine in every) for name in every[0] if name.startswith("above")}
        text[f"all, {objective}"] = {"units": sum(len(mine["units"]) for mine in every), **total}
    timed = [(layer, side, rows) for layer in options.timed for side, rows in COSTS]
    if timed:
        text["cost"] = [cost(model, layer, side, rows) for layer, side, rows in timed]
    store.write_text(path, json.dumps(text, indent=2) + "\n")


if __name__ == "__main__":
    main()
