"""`fastfreq post-averaging-curve`: accuracy of averaged predictions, clean and attacked, over radii."""

from __future__ import annotations

import argparse
from typing import Any

from . import _arguments
from ._measure import Measure, Subject


class _PostAveragingCurve(Measure):
    kind = "post_averaging_curve"

    def add(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--radii",
            type=float,
            nargs="+",
            required=True,
            metavar="R",
            help="needed: of the sphere, L2 length over all channels, such as 1 2 4",
        )
        _arguments.add_attack(parser)
        parser.add_argument("--adaptive", action="store_true", help="attack the averaged model, not the plain one")
        parser.add_argument("--normalised", action="store_true", help="radii count in normalised input, not in pixels")
        parser.add_argument("--directions", type=_arguments.positive, metavar="N", help="drawn; default: 15")
        parser.add_argument("--sampling", choices=["shells", "sphere", "ball", "gaussian"], help="default: shells")
        parser.add_argument("--no-original", action="store_true", help="leave the image itself out of the average")
        parser.add_argument("--average", choices=["probabilities", "logits"], help="default: probabilities")
        _arguments.add_seed(parser, "directions and pgd's starts")

    def arguments(self, options: argparse.Namespace, subject: Subject) -> dict[str, Any]:
        names = ("radii", "adaptive", "normalised", "directions", "sampling", "average", "seed")
        without = {"include_original": False} if options.no_original else {}
        return _arguments.given(options, *names) | without | {"attack": _arguments.attack(options)}


VERB = _PostAveragingCurve()
