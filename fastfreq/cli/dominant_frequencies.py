"""`fastfreq dominant-frequencies`: those whose removal hurts each class most."""

from __future__ import annotations

import argparse
from typing import Any

from . import _arguments
from ._measure import Measure, Subject


class _DominantFrequencies(Measure):
    kind = "dominant_frequencies"

    def add(self, parser: argparse.ArgumentParser) -> None:
        _arguments.add_size(parser)
        parser.add_argument(
            "--patch",
            type=_arguments.positive,
            default=1,
            help="width of the square of frequencies removed; default: 1",
        )
        parser.add_argument("--share", type=float, default=0.05, help="of the cells that is outlined; default: 0.05")

    def check(self, options: argparse.Namespace) -> None:
        if not 0 < options.share <= 1:
            raise ValueError(f"expected --share above 0 and at most 1, got {options.share:g}")

    def arguments(self, options: argparse.Namespace, subject: Subject) -> dict[str, Any]:
        return _arguments.given(options, "size", "patch")

    def picture(self, options: argparse.Namespace, subject: Subject) -> dict[str, Any]:
        classes = None if subject.data is None else subject.data.classes
        return {"share": options.share, "names": None if classes is None else dict(enumerate(classes))}


VERB = _DominantFrequencies()
