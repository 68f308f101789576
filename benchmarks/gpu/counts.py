"""How much of a network's singular values a GPU's own kernels take, and what they should need: counted, not measured.

python benchmarks/gpu/counts.py                         # a ResNet-50; with timm ConvNeXt-T and EfficientNet-B0 too
python benchmarks/gpu/counts.py --json counts.json

No GPU is asked. The layers' own generators of `fastfreq.layers._values` say which Hermitian matrices they want on a
GPU, `fastfreq.layers._together` into which launches those go, `fastfreq_kernels._configs` which kernel takes them.
Times are floors by the counts of the kernels' docstrings over what an H100 is assumed to do (`H100`): predicted, not
yet measured.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import fastfreq_kernels as kernels
import torch
from fastfreq_kernels._configs import REDUCTION_HELD, ReductionTile, eigenvalues_route, reduction_tile
from torch import Tensor, nn

from fastfreq.layers._together import FEW, launches_of, together
from fastfreq.layers._values import Wanted, values_of
from fastfreq.layers.discovery import find_convolutions
from fastfreq.layers.symbols import conv_symbols_of

MODELS = {"ResNet-50": "resnet50", "ConvNeXt-T": "convnext_tiny", "EfficientNet-B0": "efficientnet_b0"}
ACCURACIES = ("exact", "high", "fast")
SIDES = (8, 16, 32, 64, 128, 256, 512, 1024)


class Machine(NamedTuple):
    """What a GPU is assumed to do; rates are per second, of the whole GPU."""

    multiprocessors: int
    memory: float  # bytes, copied: measured once
    l2: float  # bytes, to all multiprocessors
    l2_size: float
    fma: dict[torch.dtype, float]
    shuffles: float  # of a warp
    step: float  # seconds of a step of `reduction_kernel` beside its matrix: barriers, reductions, latency of loads
    issued: float  # instructions of a lane


H100 = Machine(
    multiprocessors=132, memory=3.0e12, l2=132 * 100e9, l2_size=50e6, fma={torch.float32: 30e12, torch.float64: 15e12},
    shuffles=132 * 1.7e9, step=6e-6, issued=132 * 128 * 1.7e9,
)  # fmt: skip


class Floor(NamedTuple):
    """Of one launch: bytes between L2 and the multiprocessors, multiply-adds, seconds."""

    bytes: float
    fma: float
    seconds: float


def floor(
    side: int, dtype: torch.dtype, matrices: int, largest: int, machine: Machine = H100,
    tile: ReductionTile | None = None,
) -> Floor:  # fmt: skip
    """Of the eigenvalues of packed matrices that a GPU's kernels take, by the tile that stands or `tile`; predicted."""
    b, c = dtype.itemsize, side
    double = dtype == torch.float64
    if eigenvalues_route(side, dtype) == "registers":
        moved, fma = 5 / 3 * c**2 * b, 4.6 * c**3
        shuffles = 530 * c * (c / 64) * (2 if double else 1)  # of a matrix; 530 a step at side 64
        reduction = max(matrices * fma / machine.fma[dtype], matrices * shuffles / machine.shuffles)
    else:
        tile = reduction_tile(side, dtype) if tile is None else tile
        moved, fma, shuffles = 4 / 3 * c**3 * b, 4 * c**3, 0.0
        if tile.held:
            shuffles = c**3 / 3 / 64 * (20 if double else 10)
            moved, fma = (1 + 1 / tile.held) / 3 * c**3 * b + 3 * tile.held * c**2 * b, 8 / 3 * c**3
        resident = machine.multiprocessors * max(1, tile.together)
        sharing = max(1, min(-(-c // tile.columns), machine.multiprocessors // matrices))
        waves = -(-matrices * sharing // resident)
        held = (1 if tile.held else 2) * c**2 * b / 3  # of a matrix, on average
        rate = machine.l2 if min(matrices, resident) * held < machine.l2_size else machine.memory
        each = max(moved / (machine.l2 / machine.multiprocessors), fma / machine.fma[dtype] * machine.multiprocessors)
        each = max(each, shuffles / machine.shuffles * machine.multiprocessors)
        reduction = max(
            waves * (c * machine.step + each / sharing), matrices * moved / rate, matrices * fma / machine.fma[dtype],
            matrices * shuffles / machine.shuffles,
        )  # fmt: skip
    steps = matrices * largest * c * (54 if double else 30)
    bisection = steps * (32 if double else 14) / machine.issued
    return Floor(matrices * moved, matrices * fma, reduction + bisection)


def gram_seconds(wanted: Wanted, frequencies: int, machine: Machine = H100) -> float:
    """Of the matrices themselves: products at a third of the multiply-adds there are, and bytes written three times."""
    count = wanted.groups * frequencies
    written = 3 * count * wanted.side**2 * wanted.dtype.itemsize / machine.memory
    if not isinstance(wanted.packed, kernels.ConvGram):
        return written
    g, t, a, b = wanted.packed.taps.shape
    small, large = min(a, b), max(a, b)
    lags, direct = g * t * (t + 1) / 2 * small**2 * large, count * small * large * (2 * t + 4 * small)
    return written + 3 * min(lags, direct) / machine.fma[wanted.dtype]


class Layer(NamedTuple):
    """What a layer wants of a GPU, (side, dtype, matrices, route) each time; nothing where a formula has its values."""

    name: str
    matrices: int
    wants: list[tuple[int, torch.dtype, int, str]]


def layers_of(model: nn.Module, size: tuple[int, ...], accuracy: Any) -> tuple[list[Layer], list[dict[str, Any]]]:
    """Every convolution and linear layer of a model, and the launches that all of them need together, in rounds."""
    found, _ = find_convolutions(model, size, linear=True)
    symbols = [conv_symbols_of(layer.module, input_size=layer.input_size) for layer in found]
    launches: list[dict[str, Any]] = []
    steps = [values_of(one, accuracy, on_gpu=True) for one in symbols]
    wants: list[list[tuple[int, torch.dtype, int, str]]] = [[] for _ in found]

    def noted(i: int, inner: Any) -> Iterator[Wanted]:
        answer = None
        while True:
            try:
                wanted = next(inner) if answer is None else inner.send(answer)
            except StopIteration as ended:
                return ended.value
            count = wanted.groups * sum(len(block) for block in wanted.blocks)
            wants[i].append((wanted.side, wanted.dtype, count, eigenvalues_route(wanted.side, wanted.dtype)))
            answer = yield wanted

    def evaluate(every: Sequence[Wanted]) -> list[Tensor]:
        for parts in launches_of(every):
            one = every[parts[0][0]]
            count = sum(every[i].groups * len(block) for i, block in parts)
            floors = floor(one.side, one.dtype, count, one.largest)
            launches.append(
                {
                    "side": one.side, "dtype": str(one.dtype).removeprefix("torch."), "matrices": count,
                    "layers": len({i for i, _ in parts}), "kernel": eigenvalues_route(one.side, one.dtype),
                    "l2_gb": floors.bytes / 1e9, "gfma": floors.fma / 1e9, "eigenvalues_ms": 1e3 * floors.seconds,
                    "matrices_ms": 1e3 * sum(gram_seconds(every[i], len(block)) for i, block in parts),
                }
            )  # fmt: skip
        if accuracy == "fast":  # what it asks for next is decided by values
            return [one.alone() for one in every]
        return [torch.zeros(one.groups, sum(map(len, one.blocks)), one.largest).double() for one in every]

    with torch.no_grad():
        together([noted(i, inner) for i, inner in enumerate(steps)], evaluate=evaluate)
    every = zip(found, symbols, wants, strict=True)
    return [Layer(one.name, len(s.taps) * len(s.frequencies), w) for one, s, w in every], launches


def together_ms(launches: Sequence[dict[str, Any]]) -> float:
    """Launches of few matrices run beside the others, on as many multiprocessors as they have matrices."""
    few = [launch for launch in launches if launch["matrices"] < FEW]
    longest = max((launch["eigenvalues_ms"] for launch in few), default=0.0)
    every = sum(launch["eigenvalues_ms"] * min(1, launch["matrices"] / H100.multiprocessors) for launch in launches)
    return max(longest, every) + sum(launch["matrices_ms"] for launch in launches)


def shares(layers: Sequence[Layer]) -> dict[str, Any]:
    """Of layers, matrices and arithmetic (side cubed) that a GPU's own kernels take, of those that need a solver."""
    solved = [layer for layer in layers if layer.wants]
    total, own = defaultdict(float), defaultdict(float)
    for layer in solved:
        ours = all(route != "host" for *_, route in layer.wants)
        total["layers"] += 1
        own["layers"] += ours
        for side, _, count, route in layer.wants:
            for what, amount in (("matrices", count), ("arithmetic", count * side**3)):
                total[what] += amount
                own[what] += amount * (route != "host")
    host = {layer.name: layer.wants for layer in solved if any(route == "host" for *_, route in layer.wants)}
    return {
        "layers": len(layers), "by_formula": len(layers) - len(solved),
        **{f"{what}_own": own[what] / total[what] for what in total},
        "solved_matrices": int(total["matrices"]),
        "host": {name: [(side, count) for side, _, count, _ in wants] for name, wants in host.items()},
    }  # fmt: skip


def networks() -> Iterator[tuple[str, nn.Module]]:
    """Those of timm; without it, the ResNet-50 of these benchmarks."""
    try:
        import timm
    except ImportError:
        from networks import residual_network

        yield "ResNet-50", residual_network("resnet50")
        return
    torch.manual_seed(0)
    for title, name in MODELS.items():
        yield title, timm.create_model(name).eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found: dict[str, Any] = {"about": "counted and predicted for an H100, not yet measured", "sides": []}
    print("eigenvalues of 1,024 matrices of a side; predicted for an H100, not yet measured")
    print(f"{'side':>5} {'dtype':8}{'kernel':10}{'L2 GB':>9}{'GFMA':>9}{'floor ms':>10}")
    for dtype in (torch.float32, torch.float64):
        for side in SIDES:
            one, kind = floor(side, dtype, 1024, side), str(dtype).removeprefix("torch.")
            row = {"side": side, "dtype": kind, "kernel": eigenvalues_route(side, dtype), "l2_gb": one.bytes / 1e9}
            row |= {"gfma": one.fma / 1e9, "predicted_ms": 1e3 * one.seconds}
            rows = [row]
            for tile in REDUCTION_HELD[dtype].get(side, ())[:1]:
                one = floor(side, dtype, 1024, side, tile=ReductionTile(side, *tile))
                rows.append({**row, "kernel": "held back", "l2_gb": one.bytes / 1e9, "gfma": one.fma / 1e9})
                rows[-1]["predicted_ms"] = 1e3 * one.seconds
            found["sides"] += rows
            for row in rows:
                print("{side:5} {dtype:8}{kernel:10}{l2_gb:9.3f}{gfma:9.2f}{predicted_ms:10.3f}".format(**row))
    found["networks"] = of_networks()
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


def of_networks() -> dict[str, Any]:
    """Shares and launches of each network and accuracy, printed and returned."""
    every: dict[str, Any] = {}
    for title, model in networks():
        for accuracy in ACCURACIES:
            layers, launches = layers_of(model, (3, 224, 224), accuracy)
            share, ms = shares(layers), together_ms(launches)
            every[f"{title} {accuracy}"] = {**share, "launches": launches, "predicted_ms": ms}
            print(f"\n{title} {accuracy}: {share['layers']} layers, {share['by_formula']} by a formula; of the others")
            print(f"    our kernels take {share['layers_own']:.1%}, {share['matrices_own']:.2%} of their", end=" ")
            print(f"{share['solved_matrices']} matrices, {share['arithmetic_own']:.1%} of the arithmetic;", end=" ")
            print(f"{ms:.1f} ms predicted, not yet measured")
            for name, wants in share["host"].items():
                print(f"    on the host: {name}, (side, matrices) {wants}")
            for launch in launches:
                print(
                    "    side {side:5} {dtype:8} {matrices:6} matrices of {layers:3} layers {kernel:10}"
                    "{l2_gb:9.2f} GB{gfma:9.1f} GFMA{eigenvalues_ms:9.2f} + {matrices_ms:.2f} ms".format(**launch)
                )
    return every


if __name__ == "__main__":
    main()
