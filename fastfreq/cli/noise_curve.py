"""`fastfreq noise-curve`: accuracy under filtered Gaussian noise of a fixed norm."""

from __future__ import annotations

import argparse
from typing import Any

from . import _arguments
from ._band_words import BandVerb
from ._measure import Subject


class _NoiseCurve(BandVerb):
    kind = "noise_curve"

    def add(self, parser: argparse.ArgumentParser) -> None:
        super().add(parser)
        parser.add_argument(
            "--norm",
            type=float,
            required=True,
            help="needed: L2 norm per channel, such as 8.0 at 32 x 32, 56 at 224 x 224",
        )
        parser.add_argument("--no-clip", action="store_true", help="do not clip noisy pixels to [0, 1]")
        _arguments.add_seed(parser, "the noise")

    def arguments(self, options: argparse.Namespace, subject: Subject) -> dict[str, Any]:
        return _arguments.given(options, "bandwidths", "metrics", "norm", "seed") | {"clip": not options.no_clip}


VERB = _NoiseCurve()
