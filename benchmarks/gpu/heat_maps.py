"""The heat map of a ResNet-50 over bare forward passes from a CUDA graph, in the same precision and layout."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from networks import residual_network
from proving import Proof

import fastfreq as ff
from fastfreq.engine import arithmetic
from fastfreq.engine.folding import fold_batch_norms
from fastfreq.engine.network import Network
from fastfreq.vocabulary import fourier

TARGET = 1.02  # of graphed bare passes
FLOP = {"resnet50": 2 * 4.1e9, "resnet18": 2 * 1.8e9, "resnet20": 2 * 41e6}  # of one forward pass
EPS = 15.7
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def problem(proof: Proof) -> tuple[Any, torch.Tensor, torch.Tensor, str]:
    """(model, images, labels, name of the network)."""
    name, side, n = ("resnet20", 32, 8) if proof.dry else ("resnet50", 224, 256)
    model = ff.NormalizedModel(residual_network(name), mean=MEAN, std=STD).eval().to(proof.device)
    images = torch.randint(0, 256, (n, 3, side, side), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return model, images, torch.arange(n) % 10, name


def run(proof: Proof) -> None:
    """Folded and not; then that counts in fp32 do not depend on the batch."""
    model, images, labels, name = problem(proof)
    for precision in ("bf16", "fp32"):
        for fold in (False, True) if precision == "bf16" else (False,):
            label = f"heat map {name} {precision}{', batch norms folded' * fold}"
            try:
                proof.row(f"{label}, by parts", **_parts(proof, model, images, labels, precision=precision, fold=fold))
                proof.row(label, **_over_bare(proof, model, images, labels, precision=precision, fold=fold))
            except ValueError as refused:
                proof.row(label, refused=str(refused)[:300])
    some = frequencies(images, 4)
    maps = [
        ff.heatmap(
            model, images[:64], labels[:64], eps=EPS, frequencies=some, batch_size=size, device=proof.device,
            channels_last=True,
        )
        for size in (64, 7)
    ]  # fmt: skip
    differ = int(np.abs(maps[0].wrong_counts - maps[1].wrong_counts).sum())
    proof.row("heat map, counts of batches of 64 and of 7", differ=differ, of=int(maps[0].wrong_counts.size * 64))


def frequencies(images: torch.Tensor, count: int) -> np.ndarray:
    """Some of a 63 x 63 map, spread evenly."""
    h, w = images.shape[2:]
    every, _ = fourier.unique_frequencies((h, w), (min(h, 63), min(w, 63)))
    return every[np.linspace(0, len(every) - 1, min(count, len(every))).astype(int)]


def _over_bare(
    proof: Proof, model: Any, images: torch.Tensor, labels: torch.Tensor, *, precision: str, fold: bool
) -> dict[str, Any]:
    """A map of many frequencies less one of few, so that what starts a run does not count, over as many passes."""
    n = len(images)
    replay, eager = bare_ms(proof, model, images, precision=precision, fold=fold)

    def seconds(count: int) -> float:
        begin = time.perf_counter()
        ff.heatmap(
            model, images, labels, eps=EPS, frequencies=frequencies(images, count), precision=precision, batch_size=n,
            channels_last=True, fold_batch_norm=fold, device=proof.device,
        )  # fmt: skip
        proof.wait()
        return time.perf_counter() - begin

    few = 2 if proof.dry else 32
    many = few + (2 if proof.dry else max(64, min(1500, int(4000 / replay))))  # about four seconds of passes
    seconds(few)  # kernels are compiled
    first, last = seconds(few), seconds(many)
    before, after = replay, bare_ms(proof, model, images, precision=precision, fold=fold)[0]
    replay = (before + after) / 2  # clocks fall under load: how far these are apart is how well the ratio is known
    each = 1e3 * (last - first) / (many - few)
    starts = first - few * each / 1e3
    ratio = each / replay
    return {
        "ms_per_pass": each, "graphed_bare_ms": replay, "before_ms": before, "after_ms": after,
        "eager_bare_ms": eager, "over_graphed_bare": ratio,
        "start_seconds": starts, "images_per_second": 1e3 * n / each, "batch": n, "frequencies": many,
        "target": TARGET, "met": None if proof.dry else bool(ratio <= TARGET),
    }  # fmt: skip


def _parts(proof: Proof, model: Any, images: torch.Tensor, labels: torch.Tensor, **options: Any) -> dict[str, float]:
    """What a map of 64 frequencies spends on the device and on the host."""

    def run(count: int) -> None:
        ff.heatmap(
            model, images, labels, eps=EPS, frequencies=frequencies(images, count), precision=options["precision"],
            batch_size=len(images), channels_last=True, fold_batch_norm=options["fold"], device=proof.device,
        )  # fmt: skip

    if proof.device == "cuda":
        run(2)
    return proof.parts_ms(lambda: run(64), most=40)


def bare_ms(proof: Proof, model: Any, images: torch.Tensor, *, precision: str, fold: bool) -> tuple[float, float]:
    """(replayed, eager) milliseconds of the network alone on one batch."""
    network = Network(model, precision=precision, channels_last=True, device=torch.device(proof.device))
    if fold:
        fold_batch_norms(network, network.clean_batch(images[:2].to(proof.device)))
    network.cast()
    batch = network.clean_batch(images.to(proof.device))
    with torch.inference_mode(), arithmetic.float32("ieee"):
        eager = proof.lasting_ms(lambda: network.net(batch))
        if proof.device != "cuda":
            return eager, eager
        return proof.lasting_ms(captured(lambda: network.net(batch))), eager


def captured(function: Callable[[], Any]) -> Callable[[], None]:
    """A function as the replay of a CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        function()
    return graph.replay


def predicted(rates: dict[str, float]) -> dict[str, dict[str, float]]:
    """Half of what a matrix product reaches."""
    n = 256
    each = 1e3 * n * FLOP["resnet50"] / (0.5 * rates["bf16"])
    row = {"ms_per_pass": each, "graphed_bare_ms": each, "images_per_second": 1e3 * n / each, "target": TARGET}
    return {"heat map resnet50 bf16": row, "heat map resnet50 bf16, batch norms folded": row}
