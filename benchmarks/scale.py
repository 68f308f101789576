"""Where the time of a whole ImageNet map goes on 1, 8 and 256 GPUs, from rates that are measured, and said which.

    python benchmarks/scale.py --data FOLDER_OF_IMAGES --gpu benchmarks/results/nvidia-h200-second.json

Measured here: decoding of image files by a thread, reading pixels that were decoded once, the exchange of results
between ranks. Measured on a GPU: forward passes of a ResNet-50 in bf16, and what its matrix units can do. Passes of a
ViT-L were not measured: they are between the share of that rate which the ResNet-50 reaches and a half of it.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

import fastfreq as ff
from fastfreq.data import Preprocessing
from fastfreq.engine import ranks as ranks_of
from fastfreq.engine.measurement import images_of_a_chunk
from fastfreq.results import store
from fastfreq.vocabulary import fourier

IMAGES, SIDE, SIZE = 50_000, 224, 63
GEOMETRY = Preprocessing((SIDE, SIDE), 256)
GIGA_FLOPS = {"resnet50": 8.2, "vit_large": 119.3}  # of one pass at 224: two for each of timm's multiply-adds
GPUS, NODE = (1, 8, 256), 8
BATCH = 256  # images in one forward pass
CORES = 8  # threads that decode, for each rank
PCI = 10e9  # bytes a second from pageable memory to a GPU: assumed, not measured
START = 20.0  # seconds until the first batch: imports, weights, kernels, timing of batches; assumed


def seconds_of(function: Callable[[], Any], repeats: int = 3) -> float:
    """Median seconds of a call."""
    taken = []
    for _ in range(repeats):
        begin = time.perf_counter()
        function()
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken)


def reading(folder: Path, count: int) -> dict[str, float]:
    """Images a second of one thread: decoded, and mapped once they were."""

    def passed(**options: Any) -> Callable[[], None]:
        data = ff.load_data(folder, preprocessing=GEOMETRY, limit=count, workers=1, **options)

        def run() -> None:
            for _ in data:
                pass

        return run

    with tempfile.TemporaryDirectory() as pixels:
        mapped = passed(decoded=pixels)
        rates = {"decoded": count / seconds_of(passed()), "mapped": count / seconds_of(mapped)}
    return {f"{name} images a second": round(rate, 1) for name, rate in rates.items()}


def result_of(images: int) -> Any:
    """A map's result with the frequencies of the real one, of few images."""
    net = nn.Sequential(nn.AvgPool2d(SIZE), nn.Flatten(), nn.Linear(3, 10)).eval()
    pixels = torch.rand(images, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    return ff.heatmap(net, pixels, torch.zeros(images, dtype=torch.int64), eps=1.0, progress=False)


def _exchanges(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
    mine = ff.load(f"{folder}/result-{rank}.npz")
    with ranks_of.joined(None, "benchmark") as ranks:
        taken = seconds_of(lambda: ranks.results(mine))
    if rank == 0:
        store.write_text(Path(folder) / "seconds", str(taken))
    dist.destroy_process_group()


def exchange(images: int, worlds: tuple[int, ...] = (2, 4, 8)) -> dict[str, float]:
    """Seconds until every rank has the results of all, each of `images` images, and bytes of one."""
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        whole = result_of(images)
        for world in worlds:
            for rank in range(world):
                whole.save(f"{folder}/result-{rank}.npz")
            run = functools.partial(_exchanges, world=world, folder=folder)
            processes = [multiprocessing.get_context("spawn").Process(target=run, args=(r,)) for r in range(world)]
            for process in processes:
                process.start()
            for process in processes:
                process.join()
            found[f"{world} ranks, seconds"] = round(float((Path(folder) / "seconds").read_text()), 4)
            (Path(folder) / "meeting").unlink(missing_ok=True)
        found["bytes of one result"] = Path(folder, "result-0.npz").stat().st_size
    return found


def rates_of(gpu: Path) -> dict[str, float]:
    """Passes a second of both ends of what a ViT-L may reach, from what a GPU was measured to do."""
    rows = json.loads(gpu.read_text())["rows"]
    peak = 1e12 * rows["ceiling bf16"]["tera_per_second"]
    reached = next(
        row["images_per_second"] for name, row in rows.items()
        if "resnet50 bf16" in name and "images_per_second" in row
    )  # fmt: skip
    share = 1e9 * GIGA_FLOPS["resnet50"] * reached / peak
    whole = peak / (1e9 * GIGA_FLOPS["vit_large"])
    return {"resnet50, measured": reached, "its share of the matrix rate": share,
            "vit_large, at that share": share * whole, "vit_large, at half": whole / 2}  # fmt: skip


def predicted(
    gpus: int, passes_a_second: float, read: dict[str, float], mapped: bool, gathered: float
) -> dict[str, Any]:
    """Seconds of each part; passes by the rank that has the most chunks, every rank passing over all images."""
    h = w = SIDE
    frequencies = len(fourier.unique_frequencies((h, w), (SIZE, SIZE))[0])
    chunk = images_of_a_chunk(BATCH, frequencies + 1, IMAGES)  # which one rank evaluates at all frequencies
    chunks = -(-IMAGES // chunk)
    turns = -(-chunks // gpus)
    passes = min(turns * chunk, IMAGES) * frequencies / passes_a_second
    ideal = IMAGES * frequencies / passes_a_second / gpus
    if mapped:  # the first on each node decodes with the cores of all of its ranks
        decoding = IMAGES / (read["decoded images a second"] * CORES * min(gpus, NODE))
        passing = IMAGES / read["mapped images a second"]
    else:
        decoding, passing = 0.0, IMAGES / (read["decoded images a second"] * CORES)
    parts = {
        "start": START,
        "decoding once": decoding,
        "passing over the images": passing,
        "host to device": min(turns * chunk, IMAGES) * 3 * h * w / PCI,
        "forward passes": passes,
        "results": gathered * gpus if gpus > 1 else 0.0,
    }
    whole = sum(parts.values())  # one after the other: no rank reads while its GPU works
    return {name: round(value, 1) for name, value in parts.items()} | {
        "hours": round(whole / 3600, 3),
        "images of a chunk": chunk,
        "chunks of the busiest rank": turns,
        "ranks without work": max(0, gpus - chunks),
        "efficiency": round(ideal / whole, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="left out: rates are those that --out has from an earlier run")
    parser.add_argument("--gpu", type=Path, required=True)
    parser.add_argument("--count", type=int, default=300, help="image files that are timed")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    path, figures = options.out / "scale.json", {}
    if options.data is None:
        figures = json.loads(path.read_text())
        read, told = figures["reading"], figures["exchange"]
    else:
        read, told = reading(options.data, options.count), exchange(images=IMAGES // max(GPUS))
        figures |= {"cores": os.cpu_count(), "date": time.strftime("%Y-%m-%d")}
    each = max(value / int(name.split()[0]) for name, value in told.items() if "ranks" in name)
    rates = rates_of(options.gpu)
    figures = {"reading": read, "exchange": told, "passes a second": rates, "maps": {}} | {
        name: figures[name] for name in ("cores", "date")
    }
    for name in ("vit_large, at that share", "vit_large, at half"):
        for gpus in GPUS:
            for mapped in (False, True):
                row = f"{name}, {gpus} GPUs, {'decoded once' if mapped else 'decoded by every rank'}"
                figures["maps"][row] = predicted(gpus, rates[name], read, mapped, each)
                print(row, figures["maps"][row])
    store.write_text(path, json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
