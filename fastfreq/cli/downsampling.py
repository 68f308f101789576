"""`fastfreq downsampling`: where layers could work on a coarser grid, and the accuracy that this costs."""

from __future__ import annotations

import argparse
from typing import Any

from . import _arguments, _layer_words
from ._measure import Subject


class _Downsampling(_layer_words.LayerVerb):
    kind, run_words = "downsampling", ("device", "batch_size")

    def add(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--energy", type=float, default=0.99, help="share that each layer keeps; default: 0.99")
        parser.add_argument("--strides", type=_arguments.positive, nargs="+", metavar="N", help="default: 2 3 4")
        parser.add_argument("--layers", nargs="+", metavar="NAME", help="these layers only")
        parser.add_argument("--rounds", type=_arguments.positive, metavar="N", help="of timing; default: 5")

    def check(self, options: argparse.Namespace) -> None:
        if not 0 < options.energy < 1:
            raise ValueError(f"expected --energy between 0 and 1, got {options.energy:g}")

    def arguments(self, options: argparse.Namespace, subject: Subject) -> dict[str, Any]:
        return _arguments.given(options, "energy", "strides", "layers", "rounds")

    def call(self, function: Any, subject: Subject, arguments: dict[str, Any]) -> Any:
        from ._refusals import RefusedError

        if arguments.pop("labels", None) is not None:
            raise RefusedError("--labels: expected given, accuracy before and after needs true classes")
        for name in ("device", "progress"):
            arguments.pop(name, None)
        return function(self.plain(subject, normalised=True), *_layer_words.tensors(subject), **arguments)


VERB = _Downsampling()
