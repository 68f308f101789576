"""`fastfreq train-demo`: a small network learns digits, and a page shows which frequencies it learns first."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _arguments

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ._said import Said

_HOME = Path("fastfreq-report") / "train-demo"
_BATCH, _RATE = 50, 3e-4
_TITLE = "What does a network learn first?"
_NOTE = (
    "A network of two convolutions and a linear layer learns scikit-learn's handwritten digits, 1,000 images of "
    "8 x 8. After each epoch it is asked about all of them; below is how far its answers were "
    "from the labels, low and high frequencies apart. Beside it, on 797 digits that it never trains on: how many it "
    "recognises when only the coarse part of each image is left."
)


class _TrainDemo:
    def declare(self, parser: argparse.ArgumentParser) -> None:
        """Declare the words."""
        parser.add_argument("--epochs", type=_arguments.positive, default=40, metavar="N", help="default: 40")
        _arguments.add_seed(parser, "weights and order of the images")
        _arguments.add_out(parser, str(_HOME))
        _arguments.add_said(parser)

    def run(self, options: argparse.Namespace) -> int:
        """Train, save, draw, say."""
        from ._said import Said

        said = Said(options)
        with said.alone():
            whole = _train(options, said)
        return 0 if whole else 130  # as of any interrupted verb


def _train(options: argparse.Namespace, said: Said) -> bool:
    """Whether it came to its end; what was recorded is written in any case."""
    from fastfreq import demo, report
    from fastfreq.vocabulary import checks

    from . import _files, _request

    checks.check_seed(options.seed)
    details = _request.describe(options) | {"model": "two convolutions"}
    out = _folder(options, details["request"])
    files = {name: out / f"{name}.npz" for name in ("frequencies", "coarse-images")}
    for file in files.values():
        _files.check_free(file, details["request"], force=options.force)
    train, held_out = demo.load_digits("train"), demo.load_digits("test")
    said.line(f"{len(train[0])} digits, {options.epochs} epochs, seed {options.seed}")
    histories, done = _followed(options, train, held_out, said)
    shown: dict[str, Any] = {"two convolutions": []}
    for (name, file), history in zip(files.items(), histories, strict=True):
        whole = dataclasses.replace(history, details={**history.details, **details})
        whole.save(file)
        said.result(name, whole, summary=whole.summary(), file=str(file))
        shown["two convolutions"].append(whole)
    page = report.write_report(
        shown, out / "report.html", title=_TITLE, notes=[_NOTE], pngs=True, command=details["command"],
        progress=not options.quiet,
    )  # fmt: skip
    said.line(f"wrote {page}")
    return done == options.epochs


def _followed(
    options: argparse.Namespace, train: tuple[Tensor, Tensor], held_out: tuple[Tensor, Tensor], said: Said
) -> tuple[list[Any], int]:
    """The histories of one training: frequencies, and accuracy on low parts of images; epochs that are done."""
    import torch
    from tqdm import tqdm

    import fastfreq as ff

    images, labels = train
    tracker = ff.FrequencyTracker(images, labels, measures=("filtering", "projection"), run=_run_of(options.seed))
    every = max(1, options.epochs // 8)
    tracker.watch(
        "coarse images",
        lambda net: ff.filter_curve(net, *held_out, kind="radial", bandwidths=(1, 2, 3, 4, 6), batch_size=200),
        every=every,
    )
    generator = torch.Generator().manual_seed(options.seed % 2**63)
    net = _network(generator)
    optimizer = torch.optim.Adam(net.parameters(), lr=_RATE)
    tracker.step(net, 0)
    done = 0
    try:
        for epoch in tqdm(range(1, options.epochs + 1), desc="epochs", disable=options.quiet, leave=False):
            net.train()
            for index in torch.randperm(len(images), generator=generator).split(_BATCH):
                loss = torch.nn.functional.cross_entropy(net(images[index]), labels[index])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            tracker.step(net, epoch)
            done = epoch
    except KeyboardInterrupt:
        said.line(f"interrupted after {done} of {options.epochs} epochs: what was recorded is written")
    low, high = (float(part[-1, :, 0].mean()) for part in tracker.history.low_high())
    said.line(f"at the end the error of the low part is {low:.2f}, of the high part {high:.2f}")
    return list(tracker.histories.values()), done


def _network(generator: Any) -> nn.Module:
    """Two convolutions, pooling, a linear layer; weights from `generator` alone."""
    import torch
    from torch import nn

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(512, 10),
        )  # fmt: skip


def _run_of(seed: int) -> int:
    return seed % 2**63  # a run's number has 63 bits


def _folder(options: argparse.Namespace, request: str) -> Path:
    """--out, or the first folder of the verb that holds no other run."""
    from . import _files

    if options.out is not None:
        return options.out
    tried = itertools.chain([_HOME], (_HOME.with_name(f"{_HOME.name}-{i}") for i in itertools.count(2)))
    return next(f for f in tried if options.force or _files.request_of(f / "frequencies.npz") in (None, request))


VERB = _TrainDemo()
