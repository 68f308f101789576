"""`fastfreq filters`: filters of convolutions as images, with the Gabor functions and wavelets that they are like."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

from . import _arguments, _layer_words
from ._measure import Subject


class _Filters(_layer_words.LayerVerb):
    kind, data, run_words = "filters", "", ("device",)

    def add(self, parser: argparse.ArgumentParser) -> None:
        _arguments.add_input_size(parser)
        parser.add_argument(
            "--layers", nargs="+", metavar="NAME", help="these layers only; files of several runs merge"
        )
        parser.add_argument("--units", type=int, default=64, metavar="N", help="most of each layer; default: 64")
        parser.add_argument(
            "--largest", type=int, default=64, metavar="N", help="side of the largest filters in pixels; default: 64"
        )
        parser.add_argument(
            "--wavelets", nargs="*", metavar="NAME",
            help="of PyWavelets, orthogonal, to compare with; haar, db2, db4, sym4 and coif1 if left out",
        )  # fmt: skip

    def arguments(self, options: argparse.Namespace, subject: Subject) -> dict[str, Any]:
        names = ("layers", "units", "largest")
        found = _arguments.given(options, *names) | {"input_size": _layer_words.input_size(options, subject)}
        return found if options.wavelets is None else found | {"wavelets": options.wavelets}

    def call(self, function: Any, subject: Subject, arguments: dict[str, Any]) -> Any:
        arguments.pop("device", None)  # the network is there
        return function(self.plain(subject, normalised=False), **arguments)

    def more(self, result: Any, options: argparse.Namespace, subject: Subject) -> list[str]:
        reasons = Counter(reason for _, reason in result.skipped)
        lines = [f"left out: {count} layers ({reason})" for reason, count in reasons.most_common(5)]
        if any(layer.ignored for layer in result.layers.values()):
            lines.append("filters behind activations are those of the network without them")
        return lines

    def draw_more(self, result: Any, options: argparse.Namespace, out: Path) -> None:
        """The table of every unit, in DIR/units."""
        from fastfreq.results import store, tables

        from . import _request

        for name in result.layers:
            store.write_text(out / "units" / f"{_request.plain(name)}.csv", tables.to_csv(result.rows(name)))


VERB = _Filters()
