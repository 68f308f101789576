"""`fastfreq bottleneck`: which frequencies and channels each layer of a model keeps."""

from __future__ import annotations

import argparse
from typing import Any

from . import _arguments, _layer_words
from ._measure import Subject


class _Bottleneck(_layer_words.LayerVerb):
    kind, data, run_words = "bottleneck", "optional", ("device", "batch_size")

    def add(self, parser: argparse.ArgumentParser) -> None:
        _arguments.add_input_size(parser)
        _arguments.add_accuracy(parser, ("exact", "high", "fast"))
        parser.add_argument("--layers", nargs="+", metavar="NAME", help="these layers only")
        parser.add_argument(
            "--residual", action="store_true", help="residual blocks too: branch, and branch plus identity"
        )

    def arguments(self, options: argparse.Namespace, subject: Subject) -> dict[str, Any]:
        images = None if subject.data is None else _layer_words.tensors(subject)[0]
        size = _layer_words.input_size(options, subject, images)
        return _arguments.given(options, "accuracy", "layers", "residual") | {"input_size": size, "images": images}

    def call(self, function: Any, subject: Subject, arguments: dict[str, Any]) -> Any:
        for name in ("device", "labels"):
            arguments.pop(name, None)
        return function(self.plain(subject, normalised=arguments["images"] is not None), **arguments)


VERB = _Bottleneck()
