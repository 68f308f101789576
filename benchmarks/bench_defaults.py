"""ff.heatmap as a user calls it, without options, over the best that bare forward passes can do; float32 on all sides.

pytest benchmarks/bench_defaults.py --results benchmarks/results/NAME.json
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from bench_end_to_end import DEVICE, Decoded, encoded, in_turn, photographs, problem, ratio, some_frequencies
from per_frequency_baseline import error_map, tensor_error_map

import fastfreq as ff
from fastfreq.engine import tuning
from fastfreq.engine.network import Network

pytestmark = pytest.mark.filterwarnings("ignore:the map is flat")
# name, side, eps, images, frequencies: jobs of some and of very many passes
JOBS = {
    "long_32": ("resnet20", 32, 4.0, 512, 96),
    "short_32": ("resnet20", 32, 4.0, 100, 48),
    "long_224": ("resnet18", 224, 0.5, 32, 48),
    "short_224": ("resnet18", 224, 0.5, 32, 16),
}
SIZES = (16, 32, 64, 128, 256)


def best_bare(model, images) -> tuple[Callable[[int], None], dict[str, float], str]:
    """(run a number of images through the fastest pass, seconds per image of each, the fastest)."""
    runs: dict[str, Callable[[], object]] = {}
    passes = {}
    for layout in (True, False):
        network = Network(model, precision="fp32", channels_last=layout, device=None)
        for size in SIZES:
            batch = network.clean_batch(images[torch.arange(size) % len(images)].to(DEVICE))
            name = f"{'channels_last' if layout else 'contiguous'}_{size}"
            passes[name] = (network, batch)
            runs[name] = lambda network=network, batch=batch: network.net(batch)
    with torch.inference_mode():
        seconds = in_turn(runs, rounds=3)
    each = {name: statistics.median(s) / len(passes[name][1]) for name, s in seconds.items()}
    fastest = min(each, key=lambda name: each[name])
    network, batch = passes[fastest]

    def run(count: int) -> None:
        with torch.inference_mode():
            for _ in range(round(count / len(batch))):
                network.net(batch)

    return run, each, fastest


@pytest.mark.parametrize("job", JOBS)
def bench_default_arguments(job, record, tmp_path, monkeypatch):
    """The first call, which times batch sizes, and a later one, which remembers them, over the best bare passes."""
    name, side, eps, n, f = JOBS[job]
    model, images, labels = problem(name, side, n)
    frequencies = some_frequencies(side, f)
    monkeypatch.setenv("FASTFREQ_CACHE_DIR", str(tmp_path))
    bare, each, fastest = best_bare(model, images)

    def ours():
        return ff.heatmap(model, images, labels, eps=eps, frequencies=frequencies)

    def first():
        tuning._REMEMBERED.clear()
        (tmp_path / "pace.json").unlink(missing_ok=True)
        return ours()

    other = ff.heatmap(model, images, labels, eps=eps, frequencies=frequencies[:4], batch_size=7)
    again = ff.heatmap(model, images, labels, eps=eps, frequencies=frequencies[:4])
    assert np.abs(other.wrong_counts - again.wrong_counts).max() <= 0.01 * n
    seconds = in_turn({"bare": lambda: bare(n * (f + 1)), "first": first, "again": ours}, rounds=3)
    details = ours().details
    record(
        first_over_best_bare=ratio(seconds["first"], seconds["bare"]),
        again_over_best_bare=ratio(seconds["again"], seconds["bare"]),
        bare_ms_per_image=1e3 * statistics.median(seconds["bare"]) / (n * (f + 1)), best_bare=fastest,
        worst_bare_ms_per_image=1e3 * max(each.values()),
        chosen=f"{details['layout']}_{details['batch_size']}", images=n, frequencies=f,
    )  # fmt: skip


@pytest.mark.parametrize("side", [32, 224])
def bench_default_against_other_designs(side, record):
    """Default arguments against both designs in float32, each at a batch size that its documentation uses."""
    name, eps, n, f = ("resnet20", 4.0, 200, 11) if side == 32 else ("resnet18", 0.5, 32, 4)
    model, _, _ = problem(name, side, 16)
    arrays = photographs(n, side, side) if side == 32 else photographs(n, 375, 500)
    sources = list(arrays) if side == 32 else [encoded(a) for a in arrays]
    folder = Decoded(sources, side)
    images = torch.cat([batch for batch, _ in folder])
    with torch.no_grad():
        labels = torch.cat([model(part.float() / 255).argmax(dim=1) for part in images.split(16)])
    folder.labels = labels
    at = some_frequencies(side, 40)
    at = at[at[:, 1] >= 0][:f]
    mean, std = model.mean.clone(), model.std.clone()
    pixels = images.float() / 255
    seconds = in_turn(
        {
            "ours": lambda: ff.heatmap(model, folder, eps=eps, frequencies=at, convention="fhmap"),
            "loader_of_files": lambda: error_map(
                model.net, sources, labels.tolist(), at, eps=eps, size=side, mean=mean, std=std, batch_size=64
            ),
            "loader_of_tensors": lambda: tensor_error_map(model, pixels, labels, at, eps=eps, batch_size=64),
        },
        rounds=3,
    )
    record(
        **{f"{key}_ms_per_image": 1e3 * statistics.median(s) / (n * len(at)) for key, s in seconds.items()},
        over_loader_of_files=ratio(seconds["loader_of_files"], seconds["ours"]),
        over_loader_of_tensors=ratio(seconds["loader_of_tensors"], seconds["ours"]),
        images=n, frequencies=len(at), date=time.strftime("%Y-%m-%d"),
    )  # fmt: skip
