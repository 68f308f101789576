"""`fastfreq fourier-attack`: the one wave that fools, image by image."""

from __future__ import annotations

import argparse
from typing import Any

from . import _arguments
from ._measure import Measure, Subject


class _FourierAttack(Measure):
    kind = "fourier_attack"

    def add(self, parser: argparse.ArgumentParser) -> None:
        _arguments.add_eps(parser)
        _arguments.add_size(parser, "side of the centred map of frequencies tried; all if left out")
        _arguments.add_seed(parser, "a random order")
        parser.add_argument(
            "--queries", type=_arguments.positive, metavar="N", help="most queries per image; all waves if left out"
        )
        parser.add_argument(
            "--order", default="low", choices=["low", "high", "random"], help="of the queries; default: low"
        )
        parser.add_argument(
            "--convention", default="yin2019", help="yin2019, common_signs, fhmap or rai; default: yin2019"
        )
        parser.add_argument("--no-clip", action="store_true", help="do not clip perturbed pixels to [0, 1]")

    def arguments(self, options: argparse.Namespace, subject: Subject) -> dict[str, Any]:
        clip = {"clip": False} if options.no_clip else {}
        return _arguments.given(options, "eps", "size", "seed", "queries", "order", "convention") | clip


VERB = _FourierAttack()
