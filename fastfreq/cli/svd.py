"""`fastfreq svd`: the singular values of every convolution of a model."""

from __future__ import annotations

import argparse
import dataclasses
import math
import re
from collections import Counter
from pathlib import Path
from typing import get_args

from torch import nn

from fastfreq.core.spectrum import ModelSpectrum
from fastfreq.engine.pixels import split_normalization
from fastfreq.layers._values import Accuracy
from fastfreq.layers.lipschitz import lipschitz_bound
from fastfreq.layers.singular_values import singular_values
from fastfreq.layers.symbols import Convolution
from fastfreq.models import LoadedModel, load_model
from fastfreq.results import store, tables

from . import _arguments


def add(verbs: _arguments.Verbs) -> None:
    """Declare the verb."""
    verb = verbs.add_parser("svd", help="singular values of every convolution, frequency by frequency")
    _arguments.add_model(verb)
    verb.add_argument(
        "--input-size",
        type=int,
        nargs="+",
        metavar="N",
        help="channels, height and width of an image; known for timm and torchvision models",
    )
    verb.add_argument(
        "--accuracy",
        default="high",
        choices=get_args(Accuracy),
        help="error relative to a layer's largest value: 1e-13, 1e-7, 3.5e-4; default: %(default)s",
    )
    verb.add_argument("--layers", nargs="+", metavar="NAME", help="these layers only; files of several runs merge")
    verb.add_argument("--fold-batch-norm", action="store_true", help="include the batch norm that follows a layer")
    verb.add_argument("--linear", action="store_true", help="linear layers too")
    verb.add_argument("--padding", choices=["circular"], help="take every layer as circular; as it pads if left out")
    _arguments.add_device_and_out(verb)
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure, save the result and its table, draw every layer."""
    loaded = load_model(options.model, weights=options.weights)
    net = split_normalization(loaded.model)[0].to(_arguments.device_of(options))
    if isinstance(net, Convolution):
        net = nn.Sequential(net)
    input_size = _input_size(options, loaded)
    spectrum = singular_values(
        net,
        input_size=input_size,
        accuracy=options.accuracy,
        padding=options.padding,
        fold_batch_norm=options.fold_batch_norm,
        linear=options.linear,
        layers=options.layers,
        progress=True,
    )
    assert isinstance(spectrum, ModelSpectrum)
    spectrum = dataclasses.replace(spectrum, model=loaded.name)
    out: Path = options.out
    spectrum.save(out / "model.npz")
    store.write_text(out / "model.csv", tables.to_csv(spectrum.table()))
    print(tables.to_text(tables.spectrum_rows(spectrum.values())))
    if not all(layer.exact for layer in spectrum.values()):
        print("<= is an upper bound: zero padding makes the layer a part of the periodic map with these figures")
    for line in _left_out(spectrum):
        print(line)
    if options.layers is None:
        print(_bound(net, spectrum))
    print(f"wrote {out / 'model.npz'} and {out / 'model.csv'}")
    _draw(spectrum, out)
    return 0


def _input_size(options: argparse.Namespace, loaded: LoadedModel) -> tuple[int, ...]:
    if options.input_size is not None:
        return tuple(options.input_size)
    if loaded.preprocessing is None:
        raise ValueError(f"expected --input-size C H W, that of {options.model} is not known; such as 3 224 224")
    return (3, *loaded.preprocessing.size)  # colour images, as files are decoded


def _left_out(spectrum: ModelSpectrum) -> list[str]:
    """What has no singular values here: one line per reason."""
    reasons = Counter((kind, reason) for _, kind, reason in spectrum.skipped)
    return [f"left out: {count} {kind} ({reason})" for (kind, reason), count in reasons.items()]


def _bound(net: nn.Module, spectrum: ModelSpectrum) -> str:
    """The Lipschitz bound of the whole network, or why there is none, and the product of the norms."""
    try:
        bound = lipschitz_bound(net, input_size=spectrum.input_size)
    except ValueError as error:
        log = sum(math.log10(norm) if norm > 0 else -math.inf for norm in spectrum.norms.values())
        return f"product of the norms: {_power(log)}; no Lipschitz bound of the network: {error}"
    return f"Lipschitz constant of the network, all its layers included: at most {_power(bound.log10)}"


def _power(log10: float) -> str:
    """10^log10, however large."""
    if abs(log10) > 300:
        return f"10^{log10:.0f}" if math.isfinite(log10) else "0"
    return f"{10**log10:.3g}"


def _draw(spectrum: ModelSpectrum, out: Path) -> None:
    from fastfreq import plots  # loads matplotlib, an extra

    plots.save_png(spectrum.plot(), out / "model.png")
    by_frequency = [layer for layer in spectrum.values() if len(layer.distinct) > 1]
    for layer in by_frequency:
        file = re.sub(r"[^A-Za-z0-9._-]+", "-", layer.name)
        plots.save_png(layer.plot(), out / "layers" / f"{file}.png")
    where = f" and {len(by_frequency)} layers in {out / 'layers'}" if by_frequency else ""
    print(f"drew {out / 'model.png'}{where}")
