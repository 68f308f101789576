"""`fastfreq image-spectrum`: the mean spectrum of images."""

from __future__ import annotations

import argparse
from typing import Any

from . import _arguments
from ._measure import Measure, Subject

RUN = ("batch_size", "shard", "checkpoint", "device")


def add(parser: argparse.ArgumentParser) -> None:
    """--side and --power, of spectra."""
    parser.add_argument(
        "--side", type=_arguments.positive, metavar="N", help="for images of any sizes: rings of 1/N cycles per pixel"
    )
    parser.add_argument("--power", action="store_true", help="E|F|^2 in place of E|F|")


class _ImageSpectrum(Measure):
    kind, model, data, run_words = "image_spectrum", False, "unlabelled", RUN

    def add(self, parser: argparse.ArgumentParser) -> None:
        add(parser)

    def arguments(self, options: argparse.Namespace, subject: Subject) -> dict[str, Any]:
        return {"kind": "power" if options.power else "magnitude", "side": options.side}


VERB = _ImageSpectrum()
