"""Wang et al. 2020, sections 3 and 4: with and without batch norm, natural and shuffled labels, on small images.

    python benchmarks/reproductions/wang2020_batch_norm.py
    python benchmarks/reproductions/wang2020_batch_norm.py --data cifar10.npz --limit 2000 --radii 4 8 --max-epochs 40

Images split into a low and a high part, x = low(r) + high(r), measured on the training images as in the paper:

1. Networks with batch norm take more from the high part than those without, and less from the low part.
2. With natural labels a network that has reached 90 % of the training images is right on most of their low parts;
   with shuffled labels it must have learned them from the high parts, and takes longer.

The paper has ResNet-18 on CIFAR-10; here three convolutions on the 1,000 training digits of scikit-learn, or on any
images. Thresholds belong to the digits; beside them what a network of the same kind gave before, which was no part of
the paper. Found with the defaults, seeds 10, 11, 12:

    accuracy                            threshold       here                  before
    high part, r = 2, no batch norm                     .50  .60  .47         .49  .62  .42
    high part, r = 2, batch norm                        .56  .73  .64         .69  .67  .73
      mean of the difference            > .05           .126                  .19
    low part, r = 2, no batch norm                      .77  .79  .78         .54  .52  .61
    low part, r = 2, batch norm                         .33  .62  .77         .25  .26  .42
      mean of the difference            < -.1           -.207                 -.25
    low part, r = 3, natural labels     > .75           .95  .94  .92         .88  .88
    low part, r = 3, shuffled labels    < .45           .33  .37  .33         .24  .22
    epochs until 90 %, natural                          3    3    3
    epochs until 90 %, shuffled                         43   37   40          about 48

One of the three networks loses next to nothing of its low part by batch norm (.78 to .77): the mean passes, not every
seed would.

On 1,000 training images of CIFAR-10, one seed (--limit 1000 --seeds 10 --radii 6 8 --max-epochs 40), only the high part
behaves as published: .12 without and .29 with batch norm, the low part .55 and .58; with natural and with shuffled
labels the low part reaches .87 and .87, after 27 and 32 epochs. Without batch norm 15 epochs reach .59 of the images,
with it .999, so that the two were not equally far.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

import fastfreq as ff
from fastfreq import demo, plots
from fastfreq.plots import _frame
from fastfreq.results import store

BATCH, RATE, REACHED = 50, 1e-3, 0.9
HIGH_GAIN, LOW_LOSS = 0.05, -0.1  # batch norm less none: high part above the first, low part below the second
NATURAL_LOW, SHUFFLED_LOW = 0.75, 0.45  # accuracy on low parts when 90 % of the images are learned
BEFORE = {
    "high, without": [0.49, 0.62, 0.42],
    "high, with": [0.69, 0.67, 0.73],
    "low, without": [0.54, 0.52, 0.61],
    "low, with": [0.25, 0.26, 0.42],
    "low, natural labels": [0.88, 0.88],
    "low, shuffled labels": [0.24, 0.22],
}


def network(channels: int, side: int, classes: int, *, batch_norm: bool) -> nn.Sequential:
    """Three 3 x 3 convolutions, pooled once after the second and to 4 x 4 at most at the end, and a linear layer."""
    layers: list[nn.Module] = []
    for before, after in ((channels, 32), (32, 64), (64, 64)):
        layers.append(nn.Conv2d(before, after, 3, padding=1))
        layers += [nn.BatchNorm2d(after)] if batch_norm else []
        layers.append(nn.ReLU())
        layers += [nn.MaxPool2d(2)] if before == 32 else []
    left = min(4, side // 2)
    return nn.Sequential(*layers, nn.AdaptiveMaxPool2d(left), nn.Flatten(), nn.Linear(64 * left * left, classes))


def train_epoch(net: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> None:
    """One pass in random order."""
    net.train()
    for index in torch.randperm(len(images)).split(BATCH):
        optimizer.zero_grad()
        F.cross_entropy(net(images[index]), labels[index]).backward()
        optimizer.step()
    net.eval()


def parts(net: nn.Module, images: Tensor, labels: Tensor, radius: float) -> dict[str, float]:
    """Accuracy on the images, and on their low and high parts."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the model is right on")  # shuffled labels start at chance
        curves = ff.component_curves(net, images, labels, radii=(radius,), inclusive=True, batch_size=500)
    return {
        "all": round(curves.accuracy, 3),
        "low": round(float(curves.curve("low")[0]), 3),
        "high": round(float(curves.curve("high")[0]), 3),
    }


def start(images: Tensor, labels: Tensor, seed: int, *, batch_norm: bool) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A network of the seed and its optimizer."""
    torch.manual_seed(seed)
    net = network(images.shape[1], min(images.shape[2:]), int(labels.max()) + 1, batch_norm=batch_norm)
    return net, torch.optim.Adam(net.parameters(), lr=RATE)


def batch_norm_pair(images: Tensor, labels: Tensor, seed: int, *, radius: float, epochs: int) -> dict[str, dict]:
    """Accuracies after the epochs, without and with batch norm."""
    found = {}
    for name, batch_norm in (("without", False), ("with", True)):
        net, optimizer = start(images, labels, seed, batch_norm=batch_norm)
        for _ in range(epochs):
            train_epoch(net, optimizer, images, labels)
        found[name] = parts(net, images, labels, radius)
    return found


def learned(images: Tensor, labels: Tensor, seed: int, *, radius: float, most: int) -> list[dict[str, float]]:
    """Accuracies after each epoch, until 90 % of the images are learned or the epochs are over; no batch norm."""
    net, optimizer = start(images, labels, seed, batch_norm=False)
    found = []
    while len(found) < most and (not found or found[-1]["all"] < REACHED):
        train_epoch(net, optimizer, images, labels)
        found.append(parts(net, images, labels, radius))
    return found


def shuffled(labels: Tensor, seed: int) -> Tensor:
    """The labels in random order."""
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]


def batch_norm_check(pairs: list[dict[str, dict]]) -> dict[str, float | bool]:
    """Mean differences, with batch norm less without, and whether they pass."""
    high, low = (
        sum(pair["with"][part] - pair["without"][part] for pair in pairs) / len(pairs) for part in ("high", "low")
    )
    return {"high": round(high, 3), "low": round(low, 3), "pass": high > HIGH_GAIN and low < LOW_LOSS}


def label_check(natural: list[dict[str, float]], random: list[dict[str, float]]) -> dict[str, float | bool]:
    """Accuracy on low parts when 90 % are learned, epochs until then, and whether it passes."""
    reached = min(natural[-1]["all"], random[-1]["all"]) >= REACHED
    return {
        "natural": natural[-1]["low"],
        "shuffled": random[-1]["low"],
        "epochs, natural": len(natural),
        "epochs, shuffled": len(random),
        "pass": reached and natural[-1]["low"] > NATURAL_LOW and random[-1]["low"] < SHUFFLED_LOW,
    }


def draw(pairs: list[dict[str, dict]], runs: dict[str, list[list[dict[str, float]]]], radii: list[float]) -> Figure:
    """Left: what batch norm changes, a line for each seed. Right: accuracy on low parts while learning."""
    figure = _frame.new_figure(9.6, 4.4)
    left, right = figure.subplots(1, 2)
    for k, part in enumerate(("high", "low")):
        for i, pair in enumerate(pairs):
            values = [pair["without"][part], pair["with"][part]]
            label = f"{part} part, r = {radii[0]:g}" if i == 0 else None
            left.plot([0, 1], values, color=_frame.COLOURS[k], marker=_frame.MARKERS[k], markersize=5, label=label)
    left.set_xticks([0, 1], ["no batch norm", "batch norm"])
    left.set_xlim(-0.3, 1.3)
    for k, (name, each) in enumerate(runs.items()):
        for i, run in enumerate(each):
            style = {"color": _frame.COLOURS[k], "marker": _frame.MARKERS[k], "markersize": 3}
            low = [row["low"] for row in run]
            right.plot([row["all"] for row in run], low, label=f"{name} labels" if i == 0 else None, **style)
    right.set_xlabel("accuracy on training images")
    right.set_xlim(0, 1)
    for axes, part in ((left, "parts of training images"), (right, f"their low parts, r = {radii[1]:g}")):
        axes.set_ylim(0, 1)
        axes.set_ylabel(f"accuracy on {part}")
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize=8)
    _frame.set_caption(figure, "Left: one line for each seed. Right: one point after each epoch.", width=100)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="an .npz of images and labels or a folder; default: the digits")
    parser.add_argument("--limit", type=int, default=2000, help="of images of --data")
    parser.add_argument("--seeds", type=int, nargs="+", default=[10, 11, 12])
    parser.add_argument("--radii", type=float, nargs=2, default=[2, 3], help="of the first and second experiment")
    parser.add_argument("--epochs", type=int, default=15, help="of the first experiment")
    parser.add_argument("--max-epochs", type=int, default=120, help="of the second")
    parser.add_argument("--out", type=Path, default=Path("wang2020"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    images, labels = demo.load_digits("train")
    if options.data is not None:
        batches = list(ff.load_data(options.data, limit=options.limit))
        images, labels = (torch.cat([batch[i] for batch in batches]) for i in (0, 1))
        images = images / 255 if images.dtype == torch.uint8 else images
    pairs, runs, checks = [], {"natural": [], "shuffled": []}, []
    for seed in options.seeds:
        pairs.append(batch_norm_pair(images, labels, seed, radius=options.radii[0], epochs=options.epochs))
        print(f"seed {seed}, batch norm: {pairs[-1]}", flush=True)
        for name, target in (("natural", labels), ("shuffled", shuffled(labels, seed))):
            run = learned(images, target, seed, radius=options.radii[1], most=options.max_epochs)
            runs[name].append(run)
        checks.append(label_check(runs["natural"][-1], runs["shuffled"][-1]))
        print(f"seed {seed}, labels: {checks[-1]}", flush=True)
    text = {
        "images": len(images),
        "seeds": options.seeds,
        "radii": options.radii,
        "batch norm": {
            "runs": pairs,
            "with less without": batch_norm_check(pairs),
            "thresholds": {"high above": HIGH_GAIN, "low below": LOW_LOSS},
        },
        "labels": {"runs": checks, "thresholds": {"natural above": NATURAL_LOW, "shuffled below": SHUFFLED_LOW}},
        "found before": BEFORE,
    }
    print(f"with batch norm less without: {text['batch norm']['with less without']}")
    store.write_text(options.out / "batch_norm.json", json.dumps(text, indent=2) + "\n")
    plots.save_png(draw(pairs, runs, options.radii), options.out / "batch_norm.png")


if __name__ == "__main__":
    main()
