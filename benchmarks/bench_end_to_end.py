"""ff.heatmap against bare forward passes and against the widely used design; gradient maps; memory.

pytest benchmarks/bench_end_to_end.py --results benchmarks/results/NAME.json
"""

from __future__ import annotations

import io
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from networks import residual_network
from per_frequency_baseline import error_map
from PIL import Image

import fastfreq as ff
from fastfreq import demo
from fastfreq.engine.folding import fold_batch_norms
from fastfreq.engine.network import Network
from fastfreq.vocabulary import fourier
from fastfreq.vocabulary import statistics as intervals

pytestmark = [
    pytest.mark.filterwarnings("ignore:the map is flat"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*"),  # inductor's own
    pytest.mark.filterwarnings("ignore:dynamo_pgo force disabled"),
]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# an untrained network gives way to a small eps, and what is timed does not depend on it
# name, side, eps, images, frequencies, batch; sized so that one round is some seconds on two cores
SMALL, LARGE = ("resnet20", 32, 4.0, 512, 96, 64), ("resnet18", 224, 0.5, 128, 24, 4)
CASES = [SMALL, LARGE] if DEVICE == "cpu" else [SMALL, ("resnet50", 224, 0.5, 256, 64, 256)]


def photographs(n: int, height: int, width: int) -> np.ndarray:
    """(n, h, w, 3) uint8 images with the 1 / f amplitude spectrum of photographs, seeded."""
    rng = np.random.default_rng(0)
    f = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :])
    f[0, 0] = np.inf
    noise = np.fft.fft2(rng.standard_normal((n, 3, height, width)))
    images = np.fft.ifft2(noise / f).real
    images = 0.5 + 0.2 * images / images.std(axis=(-2, -1), keepdims=True)
    return (images.clip(0, 1) * 255).round().astype(np.uint8).transpose(0, 2, 3, 1)


def problem(name: str, side: int, n: int):
    """(model on pixels, images, labels that it gives to the clean images)."""
    model = ff.NormalizedModel(residual_network(name), mean=MEAN, std=STD).eval().to(DEVICE)
    images = torch.from_numpy(photographs(n, side, side)).permute(0, 3, 1, 2).contiguous()
    with torch.no_grad():
        logits = torch.cat([model(part.to(DEVICE).float() / 255) for part in images.split(32)])
        # an untrained network prefers one class: centred logits spread the predictions, so that errors are possible
        model.net[-1].bias -= logits.mean(dim=0)
        labels = (logits - logits.mean(dim=0)).argmax(dim=1).cpu()
    return model, images, labels


def some_frequencies(side: int, count: int) -> np.ndarray:
    every, _ = fourier.unique_frequencies((side, side), (min(side, 63), min(side, 63)))
    return every[np.linspace(0, len(every) - 1, count).astype(int)]


def synchronise() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


@pytest.mark.parametrize("share_stem", [False, True], ids=["clipped", "shared_stem"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0]}_{c[1]}")
def bench_overhead(case, precision, share_stem, paired, record):
    """Wall time of ff.heatmap over as many bare model(batch) calls, in the same precision and layout."""
    name, side, eps, n, f, batch = case
    model, images, labels = problem(name, side, n)
    frequencies = some_frequencies(side, f)
    network = Network(model, precision=precision, channels_last=True, device=None)
    network.cast()
    bare_batch = network.clean_batch(images[:batch].to(DEVICE))

    def bare():
        with torch.inference_mode():
            for _ in range((f + 1) * n // batch):  # one pass more, as heatmap also runs the clean images
                network.net(bare_batch)
        synchronise()

    def ours():
        return ff.heatmap(
            model, images, labels, eps=eps, frequencies=frequencies, precision=precision, batch_size=batch,
            clip=not share_stem, share_stem=share_stem,
        )  # fmt: skip

    # the answer does not depend on the batch size, nor on the shared first layer
    plain = ff.heatmap(model, images, labels, eps=eps, frequencies=frequencies[:4], clip=not share_stem, batch_size=7)
    part = ff.heatmap(
        model, images, labels, eps=eps, frequencies=frequencies[:4], clip=not share_stem, share_stem=share_stem,
        batch_size=batch,
    )  # fmt: skip
    assert np.abs(part.wrong_counts - plain.wrong_counts).max() <= 0.01 * n
    seconds, bare_seconds, ratio = paired(ours, bare, rounds=3)
    record(
        ours_ms_per_image=1e3 * seconds / (n * f), bare_ms_per_image=1e3 * bare_seconds / (n * (f + 1)),
        overhead=ratio, batch=batch, images=n, frequencies=f,
    )  # fmt: skip


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0]}_{c[1]}")
def bench_folded_batch_norm(case, precision, record):
    """Folding and a shared first layer, each over bare passes of the model as it is and of the folded model.

    What `share_stem` itself gains is `shared_over_bare` without folding and `shared_folded_over_bare_folded` with it.
    """
    name, side, eps, n, f, batch = case
    model, images, labels = problem(name, side, n)
    frequencies = some_frequencies(side, f)
    plain, folded = (Network(model, precision=precision, channels_last=True, device=None) for _ in range(2))
    with torch.inference_mode():
        example = images[:2].to(DEVICE)
        found = fold_batch_norms(folded, folded.clean_batch(example))
        expected = plain(plain.clean_batch(example))
        assert (folded(folded.clean_batch(example)) - expected).abs().max() <= 1e-4 * expected.abs().max()
    plain.cast(), folded.cast()
    bare_batch = plain.clean_batch(images[:batch].to(DEVICE))

    def bare(network):
        with torch.inference_mode():
            for _ in range((f + 1) * n // batch):  # one pass more, as heatmap also runs the clean images
                network.net(bare_batch)
        synchronise()

    def ours(share_stem, fold):
        ff.heatmap(
            model, images, labels, eps=eps, frequencies=frequencies, precision=precision, batch_size=batch,
            clip=not share_stem, share_stem=share_stem, fold_batch_norm=fold,
        )  # fmt: skip

    seconds = in_turn(
        {
            "bare": lambda: bare(plain), "bare_folded": lambda: bare(folded),
            "clipped_folded": lambda: ours(False, True), "shared": lambda: ours(True, False),
            "shared_folded": lambda: ours(True, True),
        },
        rounds=3,
    )  # fmt: skip
    record(
        **{f"{name}_over_bare": ratio(seconds[name], seconds["bare"]) for name in seconds if name != "bare"},
        **{
            f"{name}_over_bare_folded": ratio(seconds[name], seconds["bare_folded"])
            for name in ("clipped_folded", "shared_folded")
        },
        bare_ms_per_image=1e3 * statistics.median(seconds["bare"]) / (n * (f + 1)),
        shared_folded_ms_per_image=1e3 * statistics.median(seconds["shared_folded"]) / (n * f),
        batch_norms_folded=str(found), batch=batch, images=n, frequencies=f,
    )  # fmt: skip


def in_turn(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each run, taken in turn after one round to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if i:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(a: list[float], b: list[float]) -> float:
    """Median over rounds."""
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


# at 224 (at 32): images, frequencies of ours, of theirs. Theirs starts anew with every frequency, so its cost per
# image does not depend on their number; ours does: a real map has 1,985 frequencies, not 48
AGAINST = {"eager": (64, 48, 8), "folded": (64, 48, 8), "compiled": (128, 96, 8)}
AGAINST_SMALL = {"eager": (512, 96, 24), "folded": (512, 96, 24), "compiled": (512, 400, 24)}


@pytest.mark.parametrize("how", AGAINST)
@pytest.mark.parametrize("case", [SMALL, LARGE], ids=lambda c: f"{c[0]}_{c[1]}")
def bench_against_the_widely_used_design(case, how, paired, record):
    """Same images, same distinct frequencies, same norm; maps equal within their intervals.

    "compiled" folds too, and compiles anew, without any cache, inside each timed run.
    """
    name, side, eps, _, _, _ = case
    n, f, their_f = (AGAINST_SMALL if side == 32 else AGAINST)[how]
    model, _, _ = problem(name, side, 16)
    arrays = photographs(n, side, side) if side == 32 else photographs(n, 375, 500)
    sources = list(arrays) if side == 32 else [encoded(a) for a in arrays]
    frequencies = some_frequencies(side, 1000)
    frequencies = np.unique(frequencies[frequencies[:, 1] >= 0], axis=0)
    frequencies = frequencies[np.linspace(0, len(frequencies) - 1, f).astype(int)]
    theirs_too = frequencies[np.linspace(0, f - 1, their_f).astype(int)]
    folder = Decoded(sources, side)
    with torch.no_grad():
        labels = torch.cat([model(batch.float() / 255).argmax(dim=1) for batch, _ in folder]).cpu()
    folder.labels = labels
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    net = model.net
    net.requires_grad_(True)
    maps = {}

    def theirs():
        maps["theirs"] = error_map(
            net, sources, labels.tolist(), theirs_too, eps=eps, size=side, mean=mean, std=std,
            batch_size=64 if side == 32 else 16,
        )  # fmt: skip

    def measured(at, data):
        if how == "compiled":
            torch.compiler.reset()
        return ff.heatmap(
            model, *data, eps=eps, frequencies=at, precision="bf16", convention="fhmap",
            compile=how == "compiled", fold_batch_norm=how != "eager", batch_size=64 if side == 32 else 8,
        )  # fmt: skip

    def ours():
        maps["ours"] = measured(frequencies, (folder,))

    compile_seconds = 0.0
    with torch.compiler.config.patch(force_disable_caches=True):
        if how == "compiled":
            images, _ = next(iter(folder))
            start = time.perf_counter()
            measured(frequencies[:1], (images[:8], labels[:8]))
            compile_seconds = time.perf_counter() - start
        seconds, their_seconds, relative = paired(ours, theirs, rounds=3)
    result = maps["ours"]
    order = [
        int(np.flatnonzero((result.frequencies == k).all(axis=1))[0])
        for k in fourier.canonical(theirs_too, (side, side))
    ]
    low, high = intervals.wilson(result.wrong_counts[order], n)
    their_low, their_high = intervals.wilson(np.round(maps["theirs"] * n), n)
    overlap = float(((low <= their_high) & (their_low <= high)).mean())
    record(
        ours_ms_per_image=1e3 * seconds / (n * f), theirs_ms_per_image=1e3 * their_seconds / (n * their_f),
        speedup=f / their_f / relative, intervals_overlapping=overlap, images=n, frequencies=f,
        their_frequencies=their_f, compile_seconds_inside=compile_seconds,
    )  # fmt: skip
    assert overlap >= 0.9


def encoded(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


class Decoded:
    """What ff.load_data does with a folder: decodes each file once, in batches of uint8."""

    def __init__(self, sources, side):
        self.sources, self.side = sources, side
        self.labels = torch.zeros(len(sources), dtype=torch.int64)

    def __iter__(self):
        for start in range(0, len(self.sources), 16):
            arrays = [self._one(s) for s in self.sources[start : start + 16]]
            images = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)
            yield images, self.labels[start : start + len(arrays)]

    def _one(self, source):
        if isinstance(source, np.ndarray):
            return source
        image = Image.open(io.BytesIO(source)).convert("RGB")
        scale = round(self.side / 0.875) / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
        left, top = (image.width - self.side) // 2, (image.height - self.side) // 2
        return np.array(image.crop((left, top, left + self.side, top + self.side)))


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0]}_{c[1]}")
def bench_gradient_map(case, paired, record):
    """Every frequency from one backward pass, in units of forward passes per image."""
    name, side, eps, n, _, batch = case
    n = 1024 if side == 32 else 64
    model, images, labels = problem(name, side, n)
    pixels = images.to(DEVICE).float() / 255

    def forward():
        with torch.inference_mode():
            for part in pixels.split(batch):
                model(part.contiguous(memory_format=torch.channels_last))
        synchronise()

    result = ff.gradient_heatmap(model, images, labels)
    again = ff.gradient_heatmap(model, images, labels, batch_size=5)
    np.testing.assert_allclose(result.power, again.power, rtol=1e-2)
    model.to(memory_format=torch.channels_last)
    seconds, forward_seconds, ratio = paired(lambda: ff.gradient_heatmap(model, images, labels), forward, rounds=7)
    record(
        ours_ms_per_image=1e3 * seconds / n, forward_ms_per_image=1e3 * forward_seconds / n, forward_passes=ratio,
        frequencies=len(result.frequencies),
    )  # fmt: skip


@pytest.mark.parametrize("name", demo.NETWORKS)
def bench_gradient_prediction(name, benchmark, record):
    """How well one backward pass ranks the frequencies of a measured map, on the networks that ship with us."""
    images, labels = demo.load_digits()
    network = demo.load_network(name)
    measured = ff.heatmap(network, images, labels, eps=demo.EPS).error

    def run():
        return ff.gradient_heatmap(network, images, labels)

    benchmark.pedantic(run, rounds=3)
    closest = ff.gradient_heatmap(network, images, labels, eps=demo.EPS, margins=1)
    every = ff.gradient_heatmap(network, images, labels, eps=demo.EPS, margins=9)
    record(
        power=run().rank_correlation(measured), predicted_error=closest.rank_correlation(measured),
        predicted_error_nine_margins=every.rank_correlation(measured), mean_measured=float(measured.mean()),
        mean_predicted=float(every.predicted_error.mean()),
    )  # fmt: skip


_MEMORY = """
import resource, sys, torch
sys.path.insert(0, sys.argv[2])
import fastfreq as ff
from bench_end_to_end import problem
from fastfreq.vocabulary import fourier
torch.set_num_threads(2)
model, images, labels = problem("resnet18", 224, 4)
every, _ = fourier.unique_frequencies((224, 224))
small = ff.heatmap(model, images, labels, eps=15.7, frequencies=every[:16], precision="bf16", batch_size=4)
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
ff.heatmap(model, images, labels, eps=15.7, frequencies=every[:int(sys.argv[1])], precision="bf16", batch_size=4)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, base / 1024)
"""


@pytest.mark.skipif(DEVICE != "cpu", reason="reads the process's peak memory")
def bench_peak_memory(benchmark, record):
    """Peak resident memory of a 224 x 224 run with 32 and with 1,024 frequencies, each in its own process."""
    peaks = {}

    def run():
        for f in (32, 1024):
            folder = str(__file__).rsplit("/", 1)[0]
            done = subprocess.run(
                [sys.executable, "-c", _MEMORY, str(f), folder], capture_output=True, text=True, check=True
            )
            peaks[f] = float(done.stdout.split()[0])

    benchmark.pedantic(run, rounds=1)
    record(mib_at_32_frequencies=peaks[32], mib_at_1024_frequencies=peaks[1024], growth=peaks[1024] / peaks[32])
    assert resource.RUSAGE_SELF is not None
