"""`fastfreq invert`: images made again from the code of a layer, and caricatures."""

from __future__ import annotations

import argparse
from typing import Any

from . import _arguments, _layer_words
from ._measure import Measure, Subject

DEFAULTS = {
    "steps": "256, for a caricature 64",
    "rate": "0.05, for a caricature 0.02",
    "jitter": "0, for a caricature 1/16",
    "scale": "0, for a caricature 0.1",
    "rotation": "0, for a caricature 10",
    "total_variation": "0.01, for a caricature 0",
    "alpha_norm": "0",
}


class _Invert(Measure):
    kind, run_words = "invert", ("shard", "checkpoint", "device")

    def add(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--layers", nargs="+", required=True, metavar="NAME", help="needed: in the order of depth")
        parser.add_argument("--caricature", action="store_true", help="raise what a layer sees, from the image itself")
        _layer_words.add_search(parser, DEFAULTS)
        _arguments.add_seed(parser, "starts and moves")

    def arguments(self, options: argparse.Namespace, subject: Subject) -> dict[str, Any]:
        from fastfreq.features.invert import CARICATURE, INVERSION

        default = CARICATURE if options.caricature else INVERSION
        objective = "caricature" if options.caricature else "code"
        search = _layer_words.search(options, default)
        return {"layers": options.layers, "objective": objective, "search": search, "seed": options.seed}

    def call(self, function: Any, subject: Subject, arguments: dict[str, Any]) -> Any:
        assert subject.model is not None
        return function(subject.model.model, arguments.pop("layers"), subject.data, **arguments)


VERB = _Invert()
