"""ff.heatmap with default arguments beside the two published packages, their own code, in float32 and in one process.

    pip install rai_toolbox torchvision seaborn, or put both packages' sources on PYTHONPATH
    pytest benchmarks/bench_peers.py --results benchmarks/results/NAME.json

Skipped where they are not installed. Answers come before times: rai_toolbox's counts without signs equal ours.
"""

from __future__ import annotations

import functools
import logging
import statistics

import numpy as np
import pytest
import torch
from bench_end_to_end import DEVICE, in_turn, problem, ratio, some_frequencies
from PIL import Image
from torch.utils.data import DataLoader, Dataset, TensorDataset

import fastfreq as ff

pytestmark = [
    pytest.mark.filterwarnings("ignore:the map is flat"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # theirs
    pytest.mark.filterwarnings("ignore::UserWarning:torch.*"),  # pinned memory without a GPU
    pytest.mark.filterwarnings("ignore:.*fork.*"),
]
# network, side, eps, images, frequencies, their batch size
CASES = {"32": ("resnet20", 32, 4.0, 256, 32, 64), "224": ("resnet18", 224, 0.5, 16, 8, 16)}


def their_figures(seconds: dict[str, list[float]], passes: int) -> dict[str, float]:
    """Milliseconds of a pass on both sides, and how many times ours fit into theirs."""
    each = {f"{name}_ms_per_pass": 1e3 * statistics.median(taken) / passes for name, taken in seconds.items()}
    return each | {"over_theirs": ratio(seconds["theirs"], seconds["ours"])}


@pytest.mark.parametrize("case", CASES)
def bench_rai_toolbox(case, record, monkeypatch):
    """`create_heatmaps` as its documentation uses it: a loader of tensors, pixels clipped and normalised after."""
    fourier = pytest.importorskip("rai_toolbox.augmentations.fourier")
    metrics = pytest.importorskip("torchmetrics.classification")
    if DEVICE == "cpu":  # it pins every batch, which needs a GPU
        monkeypatch.setattr(torch.Tensor, "pin_memory", lambda batch: batch)
    name, side, eps, n, f, batch = CASES[case]
    model, images, labels = problem(name, side, n)
    frequencies = some_frequencies(side, f)
    frequencies = frequencies[(frequencies != 0).any(axis=1)]
    pixels = images.float() / 255
    # their phase is that of the coordinate which is given; ours that of one of each pair, as when they give none
    at = [tuple(int(v) + side // 2 for v in k) for k in ff.CONVENTIONS["rai"].oriented(frequencies, (side, side))]
    accuracy = functools.partial(metrics.MulticlassAccuracy, num_classes=model.net[-1].out_features, average="micro")

    def theirs(signs: bool = True):
        return fourier.create_heatmaps(
            DataLoader(TensorDataset(pixels, labels), batch_size=batch), (side, side), model=model, basis_norm=eps,
            metrics={"accuracy": accuracy}, rand_flip_per_channel=signs, device=DEVICE,
            row_col_coords=at,
        )  # fmt: skip

    def ours(convention: str | ff.Convention = "rai", **options):
        return ff.heatmap(model, pixels, labels, eps=eps, frequencies=frequencies, convention=convention, **options)

    found = ours(ff.CONVENTIONS["rai"].replace(signs="none"), batch_size=batch).wrong_counts
    wrong = {tuple(e.pos): round(n * (1 - float(e.result))) for e in theirs(signs=False)["accuracy"]}
    apart = [abs(wrong[position] - int(w)) for position, w in zip(at, found, strict=True)]
    assert max(apart) <= 1 and np.ptp(found) > 0
    seconds = in_turn({"theirs": theirs, "ours": ours}, rounds=3)
    record(
        **their_figures(seconds, n * len(frequencies)), images=n, frequencies=len(frequencies), most_apart=max(apart)
    )


class Pictures(Dataset):
    """Images as torchvision's data sets hand them out: Pillow's, through `transform`."""

    def __init__(self, images: np.ndarray, labels: torch.Tensor, transform) -> None:
        self.images, self.labels, self.transform = images, labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int):
        return self.transform(Image.fromarray(self.images[i])), self.labels[i]


@pytest.mark.parametrize("case", CASES)
def bench_fhmap(case, record, tmp_path):
    """`eval_fourier_heatmap` as its own command calls it: a loader with eight workers for every frequency."""
    fhmap = pytest.importorskip("fhmap")
    transforms = pytest.importorskip("torchvision.transforms")
    logging.getLogger("fhmap").setLevel(logging.ERROR)
    name, side, eps, n, _, batch = CASES[case]
    model, images, labels = problem(name, side, n)
    edge = side // 2 - 3  # what is left: 6 x 4 frequencies
    steps = [transforms.ToTensor(), transforms.Normalize(model.mean.flatten().tolist(), model.std.flatten().tolist())]
    data = Pictures(images.permute(0, 2, 3, 1).numpy(), labels, transforms.Compose(steps))

    @torch.no_grad()
    def theirs():
        data.transform.transforms = steps
        return fhmap.eval_fourier_heatmap(side, edge, eps, model.net, data, batch, torch.device(DEVICE))

    rows, columns = np.meshgrid(np.arange(-3, 3), np.arange(-3, 1), indexing="ij")
    frequencies = np.stack([rows.ravel(), columns.ravel()], axis=1)

    def ours():
        return ff.heatmap(model, images, labels, eps=eps, size=7, convention="fhmap")

    assert np.isfinite(theirs()[0]).all() and ours().n_images == n
    seconds = in_turn({"theirs": theirs, "ours": ours}, rounds=3)
    passes = {"theirs": n * len(frequencies), "ours": n * 25}
    each = {key: [second / passes[key] for second in taken] for key, taken in seconds.items()}
    record(**their_figures(each, 1), images=n, frequencies=len(frequencies), our_frequencies=25)
