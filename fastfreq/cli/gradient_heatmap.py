"""`fastfreq gradient-heatmap`: every frequency from one backward pass per image."""

from __future__ import annotations

import argparse
from typing import Any

from . import _arguments
from ._measure import Measure, Subject


class _GradientHeatmap(Measure):
    kind = "gradient_heatmap"

    def add(self, parser: argparse.ArgumentParser) -> None:
        _arguments.add_eps(
            parser,
            required=False,
            text="predict the error at this L2 norm per channel, such as 4.0 at 32 x 32; not predicted if left out",
        )
        _arguments.add_size(parser)
        _arguments.add_seed(parser)
        parser.add_argument(
            "--convention", default="yin2019", help="yin2019, common_signs, fhmap or rai; default: yin2019"
        )
        parser.add_argument(
            "--margins", type=_arguments.positive, default=1, help="competing classes that are linearised; default: 1"
        )
        parser.add_argument("--class-maps", action="store_true", help="a map for each class too")

    def arguments(self, options: argparse.Namespace, subject: Subject) -> dict[str, Any]:
        return _arguments.given(options, "eps", "size", "seed", "convention", "margins", "class_maps")


VERB = _GradientHeatmap()
