"""Raghu et al. 2017, exactly one layer trained: the earlier it is, the better, unless weights are very large.

    python benchmarks/reproductions/raghu2017_single_layer.py --mnist mnist_train.npz

Published: fully connected hard-tanh networks of width 100 on MNIST (width 200 on CIFAR-10, "mostly"); all layers stay
random but one, from the second hidden one on; accuracy on samples trained on and on others falls with the layer.
Scaled: 10,000 images to train on and the next 5,000 to test on, eight hidden layers, 8 epochs of Adam at 1e-3 in
batches of 100, no biases; pixels of mean 0 and mean square 1, as the theory of random networks takes its inputs. What
pixels in [0, 1] give stands beside, unasked for: they are smaller, and so are the gaps. The order is asked for at
sigma_w^2 = 1 and 2. At 4, where random networks of this kind are far in their chaotic phase, it is expected to be gone.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

import numpy as np
import torch
from rahaman2019_claims import claim, figures, table

import fastfreq as ff
from fastfreq import plots
from fastfreq.results import store

ORDERED, CHAOTIC = (1.0, 2.0), 4.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", type=Path, required=True, help="npz with `images` (n, 28, 28) uint8 and `labels`")
    parser.add_argument("--seeds", type=int, nargs="+", default=[21, 22, 23])
    parser.add_argument("--samples", type=int, nargs=2, default=[10000, 5000], help="to train on, to test on")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--width", type=int, default=100)
    parser.add_argument("--depth", type=int, default=8, help="hidden layers")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("raghu2017"), help="folder for JSON, result and figure")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.set_flush_denormal(True)
    with np.load(chosen.mnist, allow_pickle=False) as data:
        images, labels = data["images"], data["labels"]
    n, held_out = chosen.samples
    pixels = images / np.float32(255)
    start = time.process_time()
    found, as_they_are = (
        ff.training.single_layer_training(
            x[:n], labels[:n], test=(x[n : n + held_out], labels[n : n + held_out]), variances=(*ORDERED, CHAOTIC),
            depth=chosen.depth, width=chosen.width, seeds=chosen.seeds, epochs=chosen.epochs, progress=True,
        ) for x in ((pixels - pixels[:n].mean()) / pixels[:n].std(), pixels)
    )  # fmt: skip
    seconds = time.process_time() - start
    claims = []
    for test, name in ((False, "samples trained on"), (True, "other samples")):
        ranks, gaps = found.rank_correlation(test=test), found.gap(test=test)
        for j, variance in enumerate(ORDERED):
            said = f"{name}, variance {variance:g}"
            claims.append(claim(f"{said}: rank correlation, by seed", "-1", ranks[:, j], ranks[:, j] == -1))
            claims.append(claim(f"{said}: first less last", ">= .08", gaps[:, j], gaps[:, j] >= 0.08))
        gone = ranks[:, len(ORDERED)]
        claims.append(claim(f"{name}, variance {CHAOTIC:g}: the order is gone", "> -.9", gone, gone > -0.9))
    chosen.out.mkdir(parents=True, exist_ok=True)
    found.save(chosen.out / "raghu2017_single_layer.npz")
    plots.save_png(found.plot(), chosen.out / "raghu2017_single_layer.png")
    text = {
        "paper": "Raghu, Poole, Kleinberg, Ganguli, Sohl-Dickstein 2017, arXiv:1606.05336",
        "published": "MNIST, width 100: accuracy falls with the layer trained, on samples trained on and on others",
        "scaled": f"{n:,} images, {chosen.epochs} epochs, {chosen.depth} hidden layers of {chosen.width}",
        "settings": {k: v for k, v in vars(chosen).items() if k not in ("out", "mnist")},
        "claims": [row._asdict() for row in claims],
        "figures": figures({
            "variances": found.variances, "layers": found.layers.tolist(),
            "training accuracy, mean over seeds": found.accuracy().mean(axis=0),
            "test accuracy, mean over seeds": found.accuracy(test=True).mean(axis=0),
            "pixels in [0, 1]": {
                "training accuracy, mean over seeds": as_they_are.accuracy().mean(axis=0),
                "rank correlation by seed and variance": as_they_are.rank_correlation(),
                "gap by seed and variance": as_they_are.gap(),
                "test: rank correlation by seed and variance": as_they_are.rank_correlation(test=True),
                "test: gap by seed and variance": as_they_are.gap(test=True),
            },
        }),
        "machine": {"processor": platform.machine(), "shared": True, "torch": str(torch.__version__)},
        "processor seconds": round(seconds),
    }  # fmt: skip
    store.write_text(chosen.out / "raghu2017_single_layer.json", json.dumps(text, indent=1) + "\n")
    print(table(claims))


if __name__ == "__main__":
    main()
