"""`fastfreq adaptive-heatmap`: the heat map to a stated precision, or in a stated time."""

from __future__ import annotations

import argparse
from typing import Any

from . import _arguments
from ._measure import Measure, Subject


class _AdaptiveHeatmap(Measure):
    kind = "adaptive_heatmap"
    run_words = tuple(word for word in _arguments.RUN if word != "shard")

    def add(self, parser: argparse.ArgumentParser) -> None:
        _arguments.add_eps(parser)
        parser.add_argument(
            "--precision-goal",
            type=_arguments.number,
            metavar="P",
            help="half-width of every 95 %% interval; default: 0.03",
        )
        parser.add_argument("--method", choices=["controls", "exact", "anytime"], help="default: controls")
        parser.add_argument("--whole-map", action="store_true", help="95 %% for all cells at once")
        parser.add_argument(
            "--target", choices=["images", "source"], help="error on these images, or on their source; default: images"
        )
        parser.add_argument(
            "--budget",
            metavar="TIME",
            help="the map after this time, such as 90s, 10min or 2h; as long as it takes if left out",
        )
        _arguments.add_size(parser)
        _arguments.add_seed(parser)
        parser.add_argument(
            "--convention", default="common_signs", help="common_signs, yin2019, fhmap or rai; default: common_signs"
        )

    def arguments(self, options: argparse.Namespace, subject: Subject) -> dict[str, Any]:
        names = ("eps", "precision_goal", "method", "whole_map", "target", "budget", "size", "seed", "convention")
        return _arguments.given(options, *names)

    def certainty(self, options: argparse.Namespace, images: int) -> str:
        if options.budget is not None:
            return f"the map after {options.budget}, each frequency with the interval that it has by then (95 %)"
        goal = 0.03 if options.precision_goal is None else options.precision_goal
        which = "all frequencies at once" if options.whole_map else "each frequency"
        return f"as many of them as {which} takes to be known to ± {goal:g} (95 %)"


VERB = _AdaptiveHeatmap()
