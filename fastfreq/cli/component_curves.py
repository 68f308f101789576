"""`fastfreq component-curves`: predictions for the low part and the high part of each image."""

from __future__ import annotations

import argparse
from typing import Any

from . import _arguments
from ._measure import Measure, Subject


class _ComponentCurves(Measure):
    kind = "component_curves"

    def add(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--radii",
            nargs="+",
            type=float,
            metavar="R",
            help="cycles per image; default: eighths of the shorter side, 4 8 ... 28 at 32 x 32",
        )
        parser.add_argument("--inclusive", action="store_true", help="the circle belongs to the low part")
        parser.add_argument("--clip", action="store_true", help="clip both parts to [0, 1]")

    def arguments(self, options: argparse.Namespace, subject: Subject) -> dict[str, Any]:
        return _arguments.given(options, "radii", "inclusive", "clip")


VERB = _ComponentCurves()
