"""`fastfreq filter-curve`: accuracy on filtered images."""

from __future__ import annotations

import argparse
from typing import Any

from . import _arguments
from ._band_words import BandVerb
from ._measure import Subject


class _FilterCurve(BandVerb):
    kind = "filter_curve"

    def add(self, parser: argparse.ArgumentParser) -> None:
        super().add(parser)
        parser.add_argument("--clip", action="store_true", help="clip filtered pixels to [0, 1]")
        parser.add_argument(
            "--normalise-contrast", action="store_true", help="give filtered images the originals' mean and contrast"
        )

    def arguments(self, options: argparse.Namespace, subject: Subject) -> dict[str, Any]:
        return _arguments.given(options, "bandwidths", "metrics", "clip", "normalise_contrast")


VERB = _FilterCurve()
