"""`fastfreq bottleneck`: which frequencies and channels each layer of a model keeps."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from fastfreq.core.bottleneck import BottleneckResult
from fastfreq.engine.pixels import split_normalization
from fastfreq.layers._values import Accuracy
from fastfreq.layers.bottleneck import bottleneck
from fastfreq.layers.downsampling import suggest_downsampling
from fastfreq.models import LoadedModel, load_model
from fastfreq.results import store, tables

from . import _arguments


def add(verbs: _arguments.Verbs) -> None:
    """Declare the verb."""
    verb = verbs.add_parser("bottleneck", help="which frequencies and channels each layer keeps")
    _arguments.add_model(verb)
    _arguments.add_data(verb)
    for action in verb._actions:
        if action.dest == "data":
            action.required = False
            action.help = f"images, to measure what the layers' inputs hold too: {action.help}"
    verb.add_argument(
        "--input-size",
        type=int,
        nargs="+",
        metavar="N",
        help="channels, height and width of an image; known for timm and torchvision models and with --data",
    )
    verb.add_argument("--accuracy", default="high", choices=get_args(Accuracy), help="as in svd; default: %(default)s")
    verb.add_argument("--layers", nargs="+", metavar="NAME", help="these layers only")
    verb.add_argument("--residual", action="store_true", help="residual blocks too: branch, and branch plus identity")
    verb.add_argument(
        "--downsample",
        type=float,
        metavar="ENERGY",
        help="with --data: also where layers could work on a coarser grid that keeps this share of their energy",
    )
    verb.add_argument("--batch-size", type=int, default=16)
    _arguments.add_device_and_out(verb)
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure, save the result and its table, draw it, write the page."""
    if options.downsample is not None and options.data is None:
        raise ValueError("expected --data with --downsample, which measures accuracy before and after")
    loaded, images, labels = _loaded(options)
    result = bottleneck(
        loaded.model,
        input_size=_input_size(options, loaded, images),
        images=images,
        layers=options.layers,
        residual=options.residual,
        accuracy=options.accuracy,
        batch_size=options.batch_size,
        progress=True,
    )
    result = dataclasses.replace(result, spectrum=dataclasses.replace(result.spectrum, model=loaded.name))
    out: Path = options.out
    result.save(out / "bottleneck.npz")
    store.write_text(out / "bottleneck.csv", tables.to_csv(result.table()))
    print(tables.to_text(tables.table_rows(result.summary())))
    print(result.in_words())
    print(f"wrote {out / 'bottleneck.npz'} and {out / 'bottleneck.csv'}")
    others: dict[str, object] = {loaded.name: result}
    if options.downsample is not None:
        assert images is not None and labels is not None
        found = suggest_downsampling(
            loaded.model, images, labels, energy=options.downsample, layers=options.layers,
            batch_size=options.batch_size,
        )  # fmt: skip
        found = dataclasses.replace(found, model=loaded.name)
        found.save(out / "downsampling.npz")
        print(found.in_words())
        others[f"{loaded.name}, down-sampling"] = found
    _draw(result, others, out)
    return 0


def _loaded(options: argparse.Namespace) -> tuple[LoadedModel, Tensor | None, Tensor | None]:
    """The model; with --data pixels in [0, 1] and labels, for which the normalisation stays inside the model."""
    if options.data is None:
        loaded = load_model(options.model, weights=options.weights)
        plain = split_normalization(loaded.model)[0].to(_arguments.device_of(options))
        return LoadedModel(plain, loaded.name, loaded.preprocessing), None, None
    loaded, data = _arguments.model_and_data(options)
    batches = [(images.float() / 255 if images.dtype == torch.uint8 else images, labels) for images, labels in data]
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    device = _arguments.device_of(options)
    return loaded, images.to(device), labels.to(device)


def _input_size(options: argparse.Namespace, loaded: LoadedModel, images: Tensor | None) -> tuple[int, ...]:
    if options.input_size is not None:
        return tuple(options.input_size)
    if images is not None:
        return tuple(images.shape[1:])
    if loaded.preprocessing is None:
        raise ValueError(f"expected --input-size C H W, that of {options.model} is not known; such as 3 224 224")
    return (3, *loaded.preprocessing.size)


def _draw(result: BottleneckResult, others: dict[str, object], out: Path) -> None:
    from fastfreq import plots, report  # loads matplotlib, an extra

    plots.save_png(result.plot(), out / "bottleneck.png")
    if result.activations:
        plots.save_png(result.plot_activations(), out / "activations.png")
    title = "Which frequencies does it keep?"
    page = report.write_report({}, out / "bottleneck.html", title=title, others=others)  # pyright: ignore[reportArgumentType]
    print(f"drew {out / 'bottleneck.png'} and wrote {page}")
