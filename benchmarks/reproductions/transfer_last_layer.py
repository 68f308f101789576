"""Transfer with the last layer alone: are filters that were learned on other classes worth more than fixed ones?

    python benchmarks/reproductions/transfer_last_layer.py --mnist mnist_train.npz

The lecture's question ("deterministic multi-resolution frames and transfer learning") without published values: a first
layer is learned on the classes 0 to 4, random, or wavelets; then only a linear last layer is trained, on few images of
the classes 5 to 9. Handwritten digits of 8 x 8 (scikit-learn's) and of 28 x 28 (MNIST). What is asked: each of the
three is better than pixels at every number of samples. It does not hold for 20 samples, where chance decides, nor for
wavelets on 8 x 8 pixels. What stands beside it is which of them is best, with 95 % intervals of the paired differences
over seeds: filters that were learned on other classes are not better than random ones or wavelets.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rahaman2019_claims import claim, figures, table

import fastfreq as ff
from fastfreq import demo, plots
from fastfreq.results import store
from fastfreq.vocabulary import statistics


def halves(images: Any, labels: Any) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """The classes 0 to 4, and 5 to 9."""
    first = np.asarray(labels) < 5
    return (images[first], labels[first]), (images[~first], labels[~first])


def difference(found: Any, a: str, b: str) -> list[dict[str, float]]:
    """Mean accuracy on one stem less that on another, by samples, with Student's interval over seeds."""
    own = found.accuracy[:, found.stems.index(a)] - found.accuracy[:, found.stems.index(b)]
    low, high = statistics.student_interval(own.sum(axis=0), np.square(own).sum(axis=0), len(own))
    rows = zip(found.samples.tolist(), own.mean(axis=0), low, high, strict=True)
    return [{"samples": n, "mean": float(m), "low": float(lo), "high": float(hi)} for n, m, lo, hi in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", type=Path, required=True, help="npz with `images` (n, 28, 28) uint8 and `labels`")
    parser.add_argument("--seeds", type=int, nargs="+", default=[31, 32, 33])
    parser.add_argument("--samples", type=int, nargs="+", default=[20, 50, 200, 1000])
    parser.add_argument("--training", type=int, default=10000, help="images of MNIST to train on, the next to test on")
    parser.add_argument("--tested", type=int, default=6000)
    parser.add_argument("--epochs", type=int, default=10, help="over the source; four times as many on the digits")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("transfer"), help="folder for JSON, results and figures")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.set_flush_denormal(True)
    with np.load(chosen.mnist, allow_pickle=False) as data:
        images, labels = data["images"], data["labels"]
    n = chosen.training
    sets = {
        "mnist": (halves(images[:n], labels[:n]), halves(images[n:][: chosen.tested], labels[n:][: chosen.tested])),
        "digits": (halves(*demo.load_digits("train")), halves(*demo.load_digits("test"))),
    }
    chosen.out.mkdir(parents=True, exist_ok=True)
    shown, claims, seconds = {}, [], {}
    for name, ((source, target), (_, test)) in sets.items():
        start = time.process_time()
        found = ff.training.transfer_learning(
            *target, test=test, source=source, seeds=chosen.seeds,
            samples=[count for count in chosen.samples if count <= len(target[1])],
            epochs=chosen.epochs * (1 if name == "mnist" else 4), progress=True,
        )  # fmt: skip
        seconds[name] = round(time.process_time() - start)
        found.save(chosen.out / f"transfer_{name}.npz")
        plots.save_png(found.plot(), chosen.out / f"transfer_{name}.png")
        shown[name] = {
            "table": found.table(),
            "differences": {f"{a} less {b}": difference(found, a, b) for a, b in (
                ("learned", "pixels"), ("random", "pixels"), ("wavelet", "pixels"), ("learned", "wavelet"),
                ("learned", "random"), ("random", "wavelet"),
            )},
        }  # fmt: skip
        for stem in ("learned", "random", "wavelet"):
            gains = [row["mean"] for row in difference(found, stem, "pixels")]
            claims.append(claim(f"{name}: {stem} less pixels, by samples", "> 0", gains, np.array(gains) > 0))
    text = {
        "paper": "none: the question of a lecture",
        "settings": {k: v for k, v in vars(chosen).items() if k not in ("out", "mnist")},
        "claims": [row._asdict() for row in claims],
        "figures": figures(shown),
        "machine": {"processor": platform.machine(), "shared": True, "torch": str(torch.__version__)},
        "processor seconds": seconds,
    }
    store.write_text(chosen.out / "transfer_last_layer.json", json.dumps(text, indent=1) + "\n")
    print(table(claims))


if __name__ == "__main__":
    main()
