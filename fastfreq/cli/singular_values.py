"""`fastfreq singular-values`: those of every convolution of a model, frequency by frequency."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from . import _arguments, _layer_words, _request
from ._measure import Subject


class _SingularValues(_layer_words.LayerVerb):
    kind, data, run_words = "singular_values", "", ("device",)

    def add(self, parser: argparse.ArgumentParser) -> None:
        _arguments.add_input_size(parser)
        _arguments.add_accuracy(parser, ("exact", "high", "fast"))
        parser.add_argument(
            "--layers", nargs="+", metavar="NAME", help="these layers only; files of several runs merge"
        )
        parser.add_argument("--fold-batch-norm", action="store_true", help="include the batch norm after a layer")
        parser.add_argument("--linear", action="store_true", help="linear layers too")
        parser.add_argument(
            "--padding", choices=["circular"], help="take every layer as circular; as it pads if left out"
        )

        parser.add_argument("--pictures", action="store_true", help="draw every layer by itself too, in DIR/layers")

    def arguments(self, options: argparse.Namespace, subject: Subject) -> dict[str, Any]:
        names = ("accuracy", "layers", "fold_batch_norm", "linear", "padding")
        return _arguments.given(options, *names) | {"input_size": _layer_words.input_size(options, subject)}

    def call(self, function: Any, subject: Subject, arguments: dict[str, Any]) -> Any:
        from torch import nn

        net = self.plain(subject, normalised=False)
        one = not any(True for _ in net.children())
        arguments.pop("device", None)  # the network is there
        return function(nn.Sequential(net) if one else net, **arguments)

    def more(self, result: Any, options: argparse.Namespace, subject: Subject) -> list[str]:
        lines = []
        if not all(layer.exact for layer in result.values()):
            lines.append(
                "<= is an upper bound: zero padding makes the layer a part of the periodic map with these figures"
            )
        lines += _layer_words.left_out(result)
        return lines if options.layers else [*lines, self._bound(result, subject)]

    def draw_more(self, result: Any, options: argparse.Namespace, out: Path) -> None:
        if not options.pictures:
            return
        from tqdm import tqdm

        from fastfreq import plots

        by_frequency = [layer for layer in result.values() if len(layer.distinct) > 1]
        for layer in tqdm(by_frequency, desc="drawing", unit="layer", disable=options.quiet):
            plots.save_png(layer.plot(), out / "layers" / f"{_request.plain(layer.name)}.png")

    def _bound(self, result: Any, subject: Subject) -> str:
        """The Lipschitz bound of the whole network, or why there is none, and the product of the norms."""
        import fastfreq

        try:
            bound = fastfreq.lipschitz_bound(self.plain(subject, normalised=False), input_size=result.input_size)
        except ValueError as error:
            log = sum(math.log10(norm) if norm > 0 else -math.inf for norm in result.norms.values())
            return f"product of the norms: {_power(log)}; no Lipschitz bound of the network: {error}"
        return f"Lipschitz constant of the network, all its layers included: at most {_power(bound.log10)}"


def _power(log10: float) -> str:
    """10^log10, however large."""
    if abs(log10) > 300:
        return f"10^{log10:.0f}" if math.isfinite(log10) else "0"
    return f"{10**log10:.3g}"


VERB = _SingularValues()
