"""`fastfreq feature-spectra`: what the feature maps of each layer hold, by frequency."""

from __future__ import annotations

import argparse
from typing import Any

from . import _arguments
from ._measure import Measure, Subject


class _FeatureSpectra(Measure):
    kind = "feature_spectra"

    def add(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--layers", nargs="+", metavar="NAME", help="default: the innermost blocks")
        parser.add_argument(
            "--token-grid",
            type=_arguments.positive,
            nargs=2,
            metavar=("ROWS", "COLUMNS"),
            help="of a transformer's tokens",
        )
        parser.add_argument("--skip-dead", action="store_true", help="leave out maps that are zero everywhere")

    def arguments(self, options: argparse.Namespace, subject: Subject) -> dict[str, Any]:
        grid = {} if options.token_grid is None else {"token_grid": tuple(options.token_grid)}
        return _arguments.given(options, "layers", "skip_dead") | grid


VERB = _FeatureSpectra()
