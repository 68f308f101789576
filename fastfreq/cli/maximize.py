"""`fastfreq maximize`: images that raise units of a layer."""

from __future__ import annotations

import argparse
from typing import Any

from . import _arguments, _layer_words
from ._measure import Subject

DEFAULTS = {
    "steps": "256",
    "rate": "0.05",
    "jitter": "1/16, or with --objective center a quarter of the layer's stride",
    "scale": "0.1",
    "rotation": "10",
    "total_variation": "0",
    "alpha_norm": "0",
}


class _Maximize(_layer_words.LayerVerb):
    kind, data, run_words = "maximize", "", ("batch_size", "device")

    def add(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--layer", required=True, metavar="NAME", help="needed: as in model.named_modules()")
        parser.add_argument("--units", nargs="+", type=int, metavar="N", help="from 0; all of the layer if left out")
        parser.add_argument(
            "--objective",
            default="channel",
            metavar="WHAT",
            help="channel, center, cls, or the index of a token; default: channel",
        )
        _arguments.add_input_size(parser)
        _arguments.add_normalisation(parser)
        _layer_words.add_search(parser, DEFAULTS)
        _arguments.add_seed(parser, "starts and moves")

    def arguments(self, options: argparse.Namespace, subject: Subject) -> dict[str, Any]:
        objective = int(options.objective) if options.objective.isdecimal() else options.objective
        return _arguments.given(options, "layer", "units", "seed") | {
            "objective": objective,
            "search": _layer_words.search(options),
            "input_size": _layer_words.input_size(options, subject),
        }

    def call(self, function: Any, subject: Subject, arguments: dict[str, Any]) -> Any:
        return function(self.plain(subject, normalised=True), **arguments)


VERB = _Maximize()
