"""`fastfreq top-patches`: the real images, and their patches, that raise units of a layer."""

from __future__ import annotations

import argparse
from typing import Any

from . import _arguments
from ._measure import Measure, Subject


class _TopPatches(Measure):
    kind = "top_patches"
    run_words = tuple(word for word in _arguments.RUN if word != "compile")

    def add(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--layer", required=True, metavar="NAME", help="needed: as in model.named_modules()")
        parser.add_argument(
            "--units", nargs="+", type=int, metavar="N", help="from 0, ascending; all of the layer if left out"
        )

    def arguments(self, options: argparse.Namespace, subject: Subject) -> dict[str, Any]:
        return _arguments.given(options, "layer", "units")

    def picture(self, options: argparse.Namespace, subject: Subject) -> dict[str, Any]:
        whole = options.shard is None or options.shard[1] == 1  # ids of a shard are not those of its images in a row
        return {"images": subject.data} if whole else {}


VERB = _TopPatches()
