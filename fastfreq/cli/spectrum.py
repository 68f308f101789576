"""`fastfreq spectrum`: the mean spectrum of images, or of what a corruption changes."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from fastfreq.data import load_images
from fastfreq.inputs.corruptions import common_corruption
from fastfreq.inputs.spectra import difference_spectrum, image_spectrum

from . import _arguments, _results


def add(verbs: _arguments.Verbs) -> None:
    """Declare the verb."""
    verb = verbs.add_parser("spectrum", help="mean spectrum of images, or of what a corruption changes in them")
    verb.add_argument("--data", required=True, type=Path, help="a folder of images, to any depth, or an .npz")
    _arguments.add_geometry(verb)
    verb.add_argument("--side", type=int, metavar="N", help="for images of any sizes: rings of 1/N cycles per pixel")
    verb.add_argument("--power", action="store_true", help="E|F|^2 in place of E|F|")
    verb.add_argument("--corruption", metavar="NAME", help="spectrum of what it changes: fog, gaussian_noise ...")
    verb.add_argument("--severity", type=int, default=3, help="of the corruption, 1 to 5; default: %(default)s")
    verb.add_argument("--against", type=Path, metavar="DATA", help="the corrupted images themselves, in the same order")
    _arguments.add_seed(verb, "a random corruption")
    verb.add_argument("--batch-size", type=int, default=64, metavar="N", help="default: %(default)s")
    _arguments.add_device_and_out(verb)
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure, save, draw."""
    if options.corruption and options.against:
        raise ValueError("expected --corruption or --against, got both")
    geometry = {"preprocessing": _arguments.preprocessing_of(options), "limit": options.limit}
    data = load_images(options.data, batch_size=options.batch_size, **geometry)
    device = torch.device(_arguments.device_of(options))
    how = {"kind": "power" if options.power else "magnitude", "side": options.side, "device": device, "progress": True}
    if options.against:
        other = load_images(options.against, batch_size=options.batch_size, **geometry)
        if len(other) != len(data):
            raise ValueError(
                f"expected as many images in {options.against} as in {options.data}, {len(data)}; got {len(other)}"
            )
        result = difference_spectrum(data, other, name=options.against.stem, **how)
    elif options.corruption:
        corruption = common_corruption(options.corruption, options.severity, seed=options.seed)
        result = difference_spectrum(data, corruption, **how)
    else:
        result = image_spectrum(data, **how)
    name = "spectrum" if result.subject == "images" else f"spectrum-{options.corruption or options.against.stem}"
    _results.write({name: result}, options.out, figure=result.plot, picture=name)
    return 0
