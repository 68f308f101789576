"""`fastfreq quick-heatmap`: the heat map predicted from a few percent of its forward passes."""

from __future__ import annotations

import argparse
from typing import Any

from . import _arguments
from ._measure import Measure, Subject


class _QuickHeatmap(Measure):
    kind = "quick_heatmap"

    def add(self, parser: argparse.ArgumentParser) -> None:
        _arguments.add_eps(parser)
        parser.add_argument(
            "--share", type=_arguments.number, metavar="S", help="of the whole map's passes, in 0 .. 1; default: 0.03"
        )
        _arguments.add_size(parser)
        _arguments.add_seed(parser)
        parser.add_argument(
            "--convention", default="yin2019", help="yin2019, common_signs, fhmap or rai; default: yin2019"
        )

    def arguments(self, options: argparse.Namespace, subject: Subject) -> dict[str, Any]:
        return _arguments.given(options, "eps", "share", "size", "seed", "convention")

    def certainty(self, options: argparse.Namespace, images: int) -> str:
        share = 0.03 if options.share is None else options.share
        return (
            f"{share:.3g} of the passes of a whole map; its 95 % intervals rest on neighbouring frequencies being "
            f"alike, and may miss where it jumps"
        )


VERB = _QuickHeatmap()
